package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// GatewayNotes says of VirtualServices, all of a cluster, by their key, what they ask of
// Gateways without effect: a Gateway that there is not, or that opens none of their hosts
// to them, and hosts that an older Gateway of another namespace has.
func GatewayNotes(all []*model.VirtualService, gateways []*model.Gateway) map[string][]string {
	n := gatewayNoting{owners: map[servedAt]*model.Gateway{}, out: map[string][]string{}}
	byName := map[string]*model.Gateway{}
	for _, g := range slices.SortedFunc(slices.Values(gateways), (*model.Gateway).CompareAge) {
		byName[g.QualifiedName()] = g
		for _, v := range all {
			if v.For(g.QualifiedName()) {
				n.bind(v, g)
			}
		}
	}

	for _, v := range all {
		for i, name := range v.Gateways {
			if name != model.MeshGateway && byName[name] == nil {
				n.addf(v, i, "there is no Gateway %s; create it, or correct the name", name)
			}
		}
	}
	return n.out
}

// servedAt is a host on a port of the gateways that a selector selects.
type servedAt struct {
	selector, host string
	port           uint16
}

// gatewayNoting is a run of GatewayNotes.
type gatewayNoting struct {
	owners map[servedAt]*model.Gateway // the oldest
	out    map[string][]string
}

// bind notes what a Gateway leaves out of a VirtualService that names it.
func (n *gatewayNoting) bind(v *model.VirtualService, g *model.Gateway) {
	i := slices.Index(v.Gateways, g.QualifiedName())
	opened := false
	lacks := kindsFor(v, g.QualifiedName())
	for j := range g.Servers {
		s := &g.Servers[j]
		if !slices.ContainsFunc(kindsFor(v, g.QualifiedName()), func(k routeKind) bool { return k.servedBy(s.Mode) }) {
			continue
		}
		lacks = slices.DeleteFunc(lacks, func(k routeKind) bool { return k.servedBy(s.Mode) })
		for _, host := range s.CommonHosts(v) {
			opened = true
			at := servedAt{labelsText(g.Selector), host, s.Port}
			if n.owners[at] == nil {
				n.owners[at] = g
			}
			if owner := n.owners[at]; owner.Namespace != g.Namespace {
				n.addf(v, i, "%q on port %d is served by Gateway %s, which is older and of another namespace", host, s.Port, owner.QualifiedName())
			}
		}
	}

	for _, k := range lacks {
		n.addf(v, i, "Gateway %s has no server for %s", g.QualifiedName(), k.server)
	}
	if !opened && len(lacks) < len(kindsFor(v, g.QualifiedName())) {
		n.addf(v, i, "Gateway %s has none of spec.hosts (%s) among those that it opens to namespace %q", g.QualifiedName(), strings.Join(v.Hosts, ", "), v.Namespace)
	}
}

// routeKind is a kind of routes, with the servers that take them.
type routeKind struct {
	server   string // as people say it
	servedBy func(model.ServerMode) bool
}

// kindsFor are the kinds of a VirtualService's routes of which some are for a Gateway.
func kindsFor(v *model.VirtualService, gateway string) []routeKind {
	var out []routeKind
	for i := range v.HTTP {
		r := &v.HTTP[i]
		if len(r.Matches) == 0 || slices.ContainsFunc(r.Matches, func(m model.HTTPMatch) bool { return isFor(m.Gateways, gateway) }) {
			out = append(out, routeKind{"HTTP", model.ServerMode.RoutesRequests})
			break
		}
	}
	if anyFor(v.TLS, gateway) {
		out = append(out, routeKind{"spec.tls: give one port.protocol TLS with tls.mode PASSTHROUGH", func(m model.ServerMode) bool { return m == model.PassTLS }})
	}
	if anyFor(v.TCP, gateway) {
		out = append(out, routeKind{"spec.tcp: give one port.protocol TCP, or TLS with a tls.mode that ends it", func(m model.ServerMode) bool { return m == model.ServeTCP || m == model.ServeTLS }})
	}
	return out
}

func anyFor(routes []model.ConnectionRoute, gateway string) bool {
	return slices.ContainsFunc(routes, func(r model.ConnectionRoute) bool {
		return len(r.Matches) == 0 || slices.ContainsFunc(r.Matches, func(m model.ConnectionMatch) bool { return isFor(m.Gateways, gateway) })
	})
}

// isFor tells whether a condition is about what comes to a gateway.
func isFor(gateways []string, gateway string) bool {
	return len(gateways) == 0 || slices.Contains(gateways, gateway)
}

// labelsText is a selector as a key.
func labelsText(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}

func (n *gatewayNoting) addf(v *model.VirtualService, i int, format string, args ...any) {
	if list := n.out[v.Key()]; len(list) < maxNotes {
		n.out[v.Key()] = append(list, fmt.Sprintf("spec.gateways[%d]: ", i)+fmt.Sprintf(format, args...))
	}
}
