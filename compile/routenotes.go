package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// RouteNotes says of VirtualServices, all of a cluster, by their key, which of their
// hosts they do not route, or not for all to whom they are shown: an older one of
// their namespace has the host, or it is a service of another namespace, whose
// clients follow that or the root namespace's. It says which routes are left out that are
// left to delegates; exports is who sees objects that do not say so.
func RouteNotes(all []*model.VirtualService, root, clusterDomain string, exports model.Exports) map[string][]string {
	n := routeNoting{
		root: root, suffix: ".svc." + clusterDomain, owners: map[namespacedHost][]*model.VirtualService{}, out: map[string][]string{},
	}
	for _, v := range slices.SortedFunc(slices.Values(all), (*model.VirtualService).CompareAge) {
		if !v.For(model.MeshGateway) {
			continue // GatewayNotes
		}
		for i, host := range v.Hosts {
			n.host(v, i, host)
		}
	}
	n.delegates(all, exports)
	return n.out
}

// delegates notes what of delegates, and of who delegates to them, has no effect.
func (n *routeNoting) delegates(all []*model.VirtualService, exports model.Exports) {
	byKey := make(map[string]*model.VirtualService, len(all))
	for _, v := range all {
		byKey[v.Key()] = v
	}
	used := map[string]bool{}
	for _, v := range all {
		if !v.Delegates() {
			continue
		}
		find := func(namespace, name string) *model.VirtualService {
			key := (&model.VirtualService{Cluster: v.Cluster, Namespace: namespace, Name: name}).Key()
			used[key] = true
			return byKey[key]
		}
		for _, note := range v.DelegateNotes(find, exports) {
			n.add(v, note)
		}
	}

	for _, v := range all {
		if len(v.Hosts) == 0 && !used[v.Key()] {
			n.add(v, "spec.hosts: is empty, and no VirtualService delegates to this one, so that it routes nothing")
		}
	}
}

func (n *routeNoting) add(v *model.VirtualService, note string) {
	if list := n.out[v.Key()]; len(list) < maxNotes {
		n.out[v.Key()] = append(list, note)
	}
}

type namespacedHost struct{ namespace, host string }

// routeNoting is a run of RouteNotes.
type routeNoting struct {
	root, suffix string
	owners       map[namespacedHost][]*model.VirtualService // the oldest first
	out          map[string][]string
}

func (n *routeNoting) host(v *model.VirtualService, i int, host string) {
	at := namespacedHost{v.Namespace, host}
	for _, older := range n.owners[at] {
		if overlap(older.ExportTo, v.ExportTo) {
			n.addf(v, i, "%q is routed by VirtualService %s/%s, which is older; put the routes into one object", host, older.Namespace, older.Name)
			break
		}
	}
	n.owners[at] = append(n.owners[at], v)

	name, isService := strings.CutSuffix(host, n.suffix)
	_, namespace, _ := strings.Cut(name, ".")
	alone := slices.Equal(v.ExportTo, []string{v.Namespace})
	if isService && namespace != v.Namespace && v.Namespace != n.root && !alone && !strings.HasPrefix(host, "*") {
		n.addf(v, i, "%q is a service of namespace %q: this routes the requests of clients in namespace %q alone; for all, put it into %q or %q",
			host, namespace, v.Namespace, namespace, n.root)
	}
}

func (n *routeNoting) addf(v *model.VirtualService, i int, format string, args ...any) {
	n.add(v, fmt.Sprintf("spec.hosts[%d]: ", i)+fmt.Sprintf(format, args...))
}
