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
	opened, serves := false, false
	for j := range g.Servers {
		s := &g.Servers[j]
		if !s.Mode.RoutesRequests() {
			continue
		}
		serves = true
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

	switch {
	case !serves:
		n.addf(v, i, "Gateway %s has no server for HTTP", g.QualifiedName())
	case !opened:
		n.addf(v, i, "Gateway %s has none of spec.hosts (%s) among those that it opens to namespace %q", g.QualifiedName(), strings.Join(v.Hosts, ", "), v.Namespace)
	}
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
