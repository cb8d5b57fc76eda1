package resources

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
)

// routed is the virtual hosts of a route configuration. It is immutable.
type routed struct {
	port uint16
	// single is a host that has the configuration for itself; else hosts share
	// the port and are told apart by name.
	single  bool
	clients *callers
	// all are in the order in which they take names: of two that claim a name, the
	// first has it. Kubernetes services come before others, and those before names
	// that are only routed.
	all []*virtualHost
	// hosts are those of them to which a name was left.
	hosts []*virtualHost
}

// routedOf asks for the virtual hosts of a route configuration; nil: there is none.
type routedOf struct {
	scope *scope
	name  string
}

// build keeps the virtual hosts that say the same as before.
func (q routedOf) build(r *reader, old *routed) *routed {
	sight, mesh := q.scope.sights.get(r), q.scope.source.mesh.get(r)
	list, port, single := sight.behind(q.name)
	if len(list) == 0 {
		return nil
	}

	clients := &callers{mesh, q.scope.key.namespace, port, q.scope.key.traits}
	if old == nil || *old.clients != *clients {
		// None of them says the same any more.
		old = &routed{clients: clients}
	}
	b := routedBuilder{
		now: &routed{port: port, single: single, clients: old.clients}, old: old,
		sight: sight, egress: q.scope.egress, rules: q.scope.source.virtuals.get(r),
		hashing: q.scope.source.hashing.get(r), same: true,
	}
	b.addHosts(list)
	if !single && port == beyondPort {
		b.addBeyond()
	}

	b.same = b.same && len(b.now.all) == len(old.all)
	if single {
		b.now.hosts = b.now.all
	} else {
		b.takeNames()
	}
	if len(old.all) > 0 && slices.Equal(b.now.all, old.all) {
		return old
	}
	return b.now
}

// routedBuilder makes a routed of the one before.
type routedBuilder struct {
	now, old *routed
	sight    *sight
	egress   *egress
	rules    *virtuals
	hashing  *rules // nil where no DestinationRule has a consistentHash
	// same tells that so far all claim the names that they did, in the same order.
	same bool
	// byName finds virtual hosts of before; it is nil while nobody is looked up.
	byName map[string]*virtualHost
}

// addHosts adds those that the mesh knows, Kubernetes services first.
func (b *routedBuilder) addHosts(list []*host) {
	c := b.now.clients
	b.now.all = make([]*virtualHost, 0, len(list))
	for _, origin := range []model.Origin{model.FromKubernetes, model.FromServiceEntry} {
		for _, h := range list {
			if h.port(c.port).svc.Origin != origin {
				continue
			}
			b.add(virtualHost{
				clients: c, name: h.name, host: h, aliases: b.sight.aliases[h.name],
				rule: b.rules.find(c.namespace, c.mesh.RootNamespace, h),
			})
		}
	}
}

// addBeyond adds the names that are routed though the mesh does not know them.
func (b *routedBuilder) addBeyond() {
	c := b.now.clients
	for _, name := range b.rules.beyond(c.namespace, c.mesh.RootNamespace, b.sight.byName) {
		if !b.egress.admits(name.rule.Namespace, name.name) {
			continue
		}
		// One that is about other ports or clients alone claims nothing.
		v := virtualHost{clients: c, name: name.name, rule: name.rule}
		if v.routeBuilder().any(name.rule) {
			b.add(v)
		}
	}
}

// add adds a virtual host: that of before, if it says the same. As a rule it stood at
// the same place.
func (b *routedBuilder) add(v virtualHost) {
	v.onlyPorts = b.sight.onlyPorts(v.rule)
	if b.hashing != nil {
		v.hashes = b.hashes(&v)
	}

	var was *virtualHost
	if i := len(b.now.all); i < len(b.old.all) && b.old.all[i].name == v.name {
		was = b.old.all[i]
	} else {
		b.same = false
		was = b.before(v.name)
	}
	if was != nil && was.alike(&v) {
		b.now.all = append(b.now.all, was)
		return
	}

	another := v // on the heap, unlike those that are as before
	if !b.now.single {
		another.claims = another.claim()
	}
	b.same = b.same && slices.Equal(was.claims, another.claims)
	b.now.all = append(b.now.all, &another)
}

// hashes are the consistentHashes of the clusters that a virtual host can lead to.
func (b *routedBuilder) hashes(v *virtualHost) map[string]*model.ConsistentHash {
	var out map[string]*model.ConsistentHash
	add := func(cluster string, h *host, subset string, port uint16) {
		hash := b.hashing.hashFor(v.clients.namespace, v.clients.mesh.RootNamespace, h, subset, port)
		if hash == nil {
			return
		}
		if out == nil {
			out = map[string]*model.ConsistentHash{}
		}
		out[cluster] = hash
	}

	// Where its VirtualService has no say, as on other ports, it leads to its host.
	add(clusterName(v.clients.port, "", v.name), v.host, "", v.clients.port)
	if v.rule == nil {
		return out
	}
	for i := range v.rule.HTTP {
		for j := range v.rule.HTTP[i].Destinations {
			d := &v.rule.HTTP[i].Destinations[j]
			add(v.clusterOf(d), b.sight.byName[d.Host], d.Subset, v.portOf(d))
		}
	}
	return out
}

func (b *routedBuilder) before(name string) *virtualHost {
	if b.byName == nil {
		b.byName = make(map[string]*virtualHost, len(b.old.all))
		for _, v := range b.old.all {
			b.byName[v.name] = v
		}
	}
	return b.byName[name]
}

// takeNames decides who has which name. While all claim the same as before, in the
// same order, all have what they had: so it is when only routes have changed.
func (b *routedBuilder) takeNames() {
	b.now.hosts = make([]*virtualHost, 0, len(b.now.all))
	var taken map[string]bool
	if !b.same {
		taken = make(map[string]bool, 4*len(b.now.all))
	}
	for i, v := range b.now.all {
		if b.same {
			v = v.with(b.old.all[i].domains)
		} else {
			v = v.with(v.free(taken))
		}
		b.now.all[i] = v
		if len(v.domains) > 0 {
			b.now.hosts = append(b.now.hosts, v)
		}
	}
}

// free are the names that it claims first; they are taken then.
func (v *virtualHost) free(taken map[string]bool) []string {
	var left []string
	for i, name := range v.claims {
		switch {
		case taken[name]:
			if left == nil {
				left = append(make([]string, 0, len(v.claims)), v.claims[:i]...)
			}
		case left != nil:
			left = append(left, name)
		}
		taken[name] = true
	}
	if left == nil {
		// Few lose a name: the others share their list.
		return v.claims
	}
	return left
}

// onlyPorts are the ports of the rule's destinations that have one alone.
func (s *sight) onlyPorts(rule *model.VirtualService) map[string]uint16 {
	if rule == nil {
		return nil
	}
	var out map[string]uint16
	for i := range rule.HTTP {
		for d := range rule.HTTP[i].AllDestinations() {
			if h := s.byName[d.Host]; h != nil && len(h.ports) == 1 {
				if out == nil {
					out = map[string]uint16{}
				}
				out[d.Host] = h.ports[0].Number
			}
		}
	}
	return out
}
