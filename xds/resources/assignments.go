package resources

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// assignments is what a view last answered for a set of names of load
// assignments. Each of them is remembered like everything else (endpointsKey);
// what is kept beside is which of them an endpoint change can concern. With ten
// thousand names, a look into each answer at every change took six times as long
// as all of the change does now (18 ms and 3 ms on a busy machine; 64 µs and
// 109 µs with a thousand).
type assignments struct {
	names []string
	// ground, members and gateways are those that the answer stands on, and seen
	// is how far the hub's log of changed endpoints is worked in.
	ground   *ground
	members  *membership
	gateways *gateways
	routed   *destinationSet
	seen     uint64
	// byHost finds the names that a host's endpoints are in.
	byHost map[string][]string
	res    serve.Set
}

// maxAssignments bounds what a view keeps: streams of a view subscribe alike, but
// for those that are on their way from one set of names to another.
const maxAssignments = 4

// assignmentsFor finds the answer for a set of names, known by its memory: the
// server asks with the same slice each time.
func (v *view) assignmentsFor(names []string) *assignments {
	for _, a := range v.assignments {
		if len(a.names) == len(names) && (len(names) == 0 || &a.names[0] == &names[0]) {
			return a
		}
	}

	a := &assignments{names: names, byHost: make(map[string][]string, len(names))}
	for _, name := range names {
		if n, ok := parseEndpointsName(name); ok {
			a.byHost[n.host] = append(a.byHost[n.host], name)
		}
	}
	v.assignments = append(v.assignments, a)
	if len(v.assignments) > maxAssignments {
		v.assignments = v.assignments[1:]
	}
	return a
}

// endpoints answers for load assignments; for all of them when names is nil. log
// is the hub's log as it was when the channel of the type was taken.
func (v *view) endpoints(r *reader, names []string, log changeLog) serve.Set {
	find := func(name string) *serve.Resource { return v.assignment(r, name) }
	g, members, gateways := v.scope.ground.get(r), v.source.members.get(r), v.source.gateways.get(r)
	var routed *destinationSet
	if v.gateway != nil {
		routed = v.destinations.get(r)
	}
	switch {
	case names == nil && routed != nil:
		return serve.NewSet(pick(slices.Concat(v.gateway.endpointNames(r, v.scope), routed.endpointNames()), find))
	case names == nil:
		return serve.NewSet(pick(g.endpointNames(v.scope), find))
	}

	a := v.assignmentsFor(names)
	changed, known := log.since(a.seen)
	if a.ground != g || a.members != members || a.gateways != gateways || a.routed != routed || !known {
		a.res = serve.NewSet(pick(names, find))
	} else {
		a.update(changed, find)
	}
	a.ground, a.members, a.gateways, a.routed, a.seen = g, members, gateways, routed, log.last
	return a.res
}

// update works in that the endpoints of some hosts changed.
func (a *assignments) update(changed []string, find func(string) *serve.Resource) {
	others := map[string]*serve.Resource{}
	for _, h := range changed {
		for _, name := range a.byHost[h] {
			if res := find(name); res != a.res.Get(name) {
				others[name] = res
			}
		}
	}
	a.res = a.res.With(others)
}
