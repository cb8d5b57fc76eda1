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
// clients follow that or the root namespace's.
func RouteNotes(all []*model.VirtualService, root, clusterDomain string) map[string][]string {
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
	return n.out
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
	if list := n.out[v.Key()]; len(list) < maxNotes {
		n.out[v.Key()] = append(list, fmt.Sprintf("spec.hosts[%d]: ", i)+fmt.Sprintf(format, args...))
	}
}
