package resources

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// virtuals finds the VirtualService of a host: for sidecars, but for byAge.
type virtuals struct {
	exact    map[string]map[string][]*model.VirtualService // namespace, host; the oldest first
	wildcard map[string][]wildcardRoutes                   // namespace; longest suffix first
	// byAge are all of them, the oldest first; those that delegate have the routes of
	// their delegates.
	byAge []*model.VirtualService
	// merged are those that delegate, by their rows.
	merged map[*model.VirtualService]*delegatingRule
	// selecting are those of them that ask for labels of clients.
	selecting []*model.VirtualService
	// exports is who sees those that do not say so.
	exports model.Exports
}

// wildcardRoutes is a wildcard host of a VirtualService.
type wildcardRoutes struct {
	host string
	rule *model.VirtualService
}

// delegatingRule is a VirtualService that delegates, with the routes of its delegates. It stays
// the same row while it and they are the same: others compare it.
type delegatingRule struct {
	delegates []*model.VirtualService
	rule      *model.VirtualService
}

// virtualsOf asks for all VirtualServices.
type virtualsOf struct{ source *Source }

// build reads them. Of several of a namespace that name a host, the oldest that the
// client sees has it (in Istio, too, they are merged for gateways alone).
func (q virtualsOf) build(rd *reader, old *virtuals) *virtuals {
	all := slices.Collect(readAll(rd, &q.source.store.Virtuals))
	slices.SortFunc(all, (*model.VirtualService).CompareAge)
	exports := q.source.mesh.get(rd).RouteExports
	merged := mergeDelegates(all, exports, old)

	v := &virtuals{
		exact:    map[string]map[string][]*model.VirtualService{},
		wildcard: map[string][]wildcardRoutes{},
		byAge:    all,
		merged:   merged,
		exports:  exports,
	}
	for _, rule := range all {
		if askedOf(rule) != "" {
			v.selecting = append(v.selecting, rule)
		}
		if !rule.For(model.MeshGateway) {
			continue
		}
		for _, host := range rule.Hosts {
			v.add(host, rule)
		}
	}
	for _, list := range v.wildcard {
		slices.SortStableFunc(list, func(a, b wildcardRoutes) int { return cmp.Compare(len(b.host), len(a.host)) })
	}
	return v
}

// mergeDelegates puts those that delegate, with the routes of their delegates, in the
// places of their rows in all. What was merged before and is still the same stays.
func mergeDelegates(all []*model.VirtualService, exports model.Exports, old *virtuals) map[*model.VirtualService]*delegatingRule {
	var out map[*model.VirtualService]*delegatingRule
	var byKey map[string]*model.VirtualService
	for i, root := range all {
		if !root.Delegates() {
			continue
		}
		if out == nil {
			// None that delegates has been replaced yet.
			out = map[*model.VirtualService]*delegatingRule{}
			byKey = make(map[string]*model.VirtualService, len(all))
			for _, rule := range all {
				byKey[rule.Key()] = rule
			}
		}

		delegates := root.DelegatesOf(func(namespace, name string) *model.VirtualService {
			return byKey[(&model.VirtualService{Cluster: root.Cluster, Namespace: namespace, Name: name}).Key()]
		}, exports)
		var m *delegatingRule
		if old != nil {
			m = old.merged[root]
		}
		if m == nil || !slices.Equal(m.delegates, delegates) {
			m = &delegatingRule{delegates: delegates}
			m.rule, _ = root.WithDelegates(delegates) // why not of all: compile.RouteNotes
		}
		out[root], all[i] = m, m.rule
	}
	return out
}

func (v *virtuals) add(host string, rule *model.VirtualService) {
	if strings.HasPrefix(host, "*") {
		v.wildcard[rule.Namespace] = append(v.wildcard[rule.Namespace], wildcardRoutes{host, rule})
		return
	}
	ns := v.exact[rule.Namespace]
	if ns == nil {
		ns = map[string][]*model.VirtualService{}
		v.exact[rule.Namespace] = ns
	}
	ns[host] = append(ns[host], rule)
}

// find returns the VirtualService that routes the requests of clients of a
// namespace to the host: one of their own namespace, else of the service's, else of
// the root namespace, as with DestinationRules; nil when there is none. Nobody else
// has a say: to route a request is to read it.
func (v *virtuals) find(client, root string, h *host) *model.VirtualService {
	for _, ns := range [...]string{client, ruleNamespace(h), root} {
		for _, rule := range v.exact[ns][h.name] {
			if rule.VisibleIn(client, v.exports) {
				return rule
			}
		}
		for _, w := range v.wildcard[ns] {
			if matchHost(w.host, h.name) && w.rule.VisibleIn(client, v.exports) {
				return w.rule
			}
		}
	}
	return nil
}

// routedName is a host of a VirtualService that is none of the mesh.
type routedName struct {
	name string
	rule *model.VirtualService
}

// beyond lists the hosts that clients of a namespace have routed though they are
// none that they see, those of their own namespace first; known are those that are.
func (v *virtuals) beyond(client, root string, known map[string]*host) []routedName {
	var out []routedName
	taken := map[string]bool{}
	add := func(name string, rule *model.VirtualService) {
		if known[name] == nil && !taken[name] && rule.VisibleIn(client, v.exports) {
			taken[name] = true
			out = append(out, routedName{name, rule})
		}
	}

	for _, ns := range [...]string{client, root} {
		for _, name := range slices.Sorted(maps.Keys(v.exact[ns])) {
			for _, rule := range v.exact[ns][name] {
				add(name, rule)
			}
		}
		for _, w := range v.wildcard[ns] {
			add(w.host, w.rule)
		}
	}
	return out
}
