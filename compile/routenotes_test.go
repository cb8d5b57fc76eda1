package compile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

// delegating leaves a route to another object of the namespace.
func delegating(v *model.VirtualService, to string) *model.VirtualService {
	v.HTTP = []model.HTTPRoute{{Delegate: &model.Delegate{Namespace: v.Namespace, Name: to}}}
	return v
}

func TestRouteNotes(t *testing.T) {
	const web = "web.shop.svc.cluster.local"
	at := func(namespace, name string, age int, exportTo []string, hosts ...string) *model.VirtualService {
		return &model.VirtualService{
			Cluster: "c", Namespace: namespace, Name: name, Hosts: hosts, ExportTo: exportTo,
			Created: time.Date(2026, 1, 1, 0, 0, -age, 0, time.UTC),
		}
	}
	for name, c := range map[string]struct {
		all  []*model.VirtualService
		want string
	}{
		"alone": {
			all: []*model.VirtualService{at("shop", "a", 1, nil, web)},
		},
		"older": {
			all:  []*model.VirtualService{at("shop", "a", 1, nil, web), at("shop", "b", 2, nil, "x.example", web)},
			want: `shop/a: spec.hosts[0]: "web.shop.svc.cluster.local" is routed by VirtualService shop/b, which is older`,
		},
		"older, for others": {
			all: []*model.VirtualService{at("shop", "a", 1, []string{"shop"}, web), at("shop", "b", 2, []string{"client"}, web)},
		},
		"of another namespace": {
			all: []*model.VirtualService{at("client", "a", 1, nil, web), at("shop", "b", 2, nil, web)},
			want: `client/a: spec.hosts[0]: "web.shop.svc.cluster.local" is a service of namespace "shop": ` +
				`this routes the requests of clients in namespace "client" alone`,
		},
		"of another namespace, for itself": {
			all: []*model.VirtualService{at("client", "a", 1, []string{"client"}, web)},
		},
		"a delegate that there is not": {
			all:  []*model.VirtualService{delegating(at("shop", "a", 1, nil, web), "b")},
			want: "shop/a: spec.http[0].delegate: VirtualService shop/b does not exist; the route is left out",
		},
		"a delegate for others": {
			all:  []*model.VirtualService{delegating(at("shop", "a", 1, nil, web), "b"), at("shop", "b", 1, []string{"other"})},
			want: `shop/a: spec.http[0].delegate: VirtualService shop/b is not shown to namespace "shop" (exportTo)`,
		},
		"a delegate with hosts": {
			all:  []*model.VirtualService{delegating(at("shop", "a", 1, nil, web), "b"), at("shop", "b", 1, nil, "b.example")},
			want: "shop/a: spec.http[0].delegate: VirtualService shop/b has hosts or gateways of its own",
		},
		"a delegate": {
			all: []*model.VirtualService{delegating(at("shop", "a", 1, nil, web), "b"), at("shop", "b", 1, []string{"shop"})},
		},
		"a delegate of nobody": {
			all:  []*model.VirtualService{at("shop", "b", 1, nil)},
			want: "shop/b: spec.hosts: is empty, and no VirtualService delegates to this one",
		},
		"of the root namespace": {
			all: []*model.VirtualService{at("istio-system", "a", 1, nil, web, "*.cluster.local")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, v := range c.all {
				for _, note := range RouteNotes(c.all, "istio-system", "cluster.local", nil)[v.Key()] {
					got = append(got, v.Namespace+"/"+v.Name+": "+note)
				}
			}
			slices.Sort(got)
			if text := strings.Join(got, "\n"); (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
				t.Errorf("notes\n%s\nwant one with\n%s", text, c.want)
			}
		})
	}
}
