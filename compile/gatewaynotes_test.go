package compile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

func TestGatewayNotes(t *testing.T) {
	born := func(age int) time.Time { return time.Date(2026, 1, 1, 0, 0, -age, 0, time.UTC) }
	gateway := func(namespace string, age int, mode model.ServerMode, hosts ...string) *model.Gateway {
		return &model.Gateway{
			Cluster: "c", Namespace: namespace, Name: "front", Created: born(age), Selector: map[string]string{"istio": "ingressgateway"},
			Servers: []model.GatewayServer{{Port: 80, Mode: mode, Hosts: hosts}},
		}
	}
	routes := func(namespace string, gateways []string, hosts ...string) *model.VirtualService {
		return &model.VirtualService{Cluster: "c", Namespace: namespace, Name: "v", Gateways: gateways, Hosts: hosts, HTTP: []model.HTTPRoute{{}}}
	}
	connections := func(tls, tcp bool, only ...string) *model.VirtualService {
		v := routes("shop", []string{"shop/front", model.MeshGateway}, "a.example")
		v.HTTP = nil
		list := []model.ConnectionRoute{{Matches: []model.ConnectionMatch{{Gateways: only}}}}
		if tls {
			v.TLS = list
		}
		if tcp {
			v.TCP = list
		}
		return v
	}
	for name, c := range map[string]struct {
		routes   []*model.VirtualService
		gateways []*model.Gateway
		want     string
	}{
		"sidecars": {
			routes: []*model.VirtualService{routes("shop", nil, "web"), routes("shop", []string{model.MeshGateway}, "web")},
		},
		"in force": {
			routes:   []*model.VirtualService{routes("shop", []string{"shop/front", model.MeshGateway}, "a.example")},
			gateways: []*model.Gateway{gateway("shop", 1, model.ServeHTTP, "shop/*.example")},
		},
		"no such Gateway": {
			routes: []*model.VirtualService{routes("shop", []string{"shop/front"}, "a.example")},
			want:   "shop/v: spec.gateways[0]: there is no Gateway shop/front",
		},
		"other hosts": {
			routes:   []*model.VirtualService{routes("shop", []string{"shop/front"}, "a.example")},
			gateways: []*model.Gateway{gateway("shop", 1, model.ServeHTTP, "b.example")},
			want:     `shop/v: spec.gateways[0]: Gateway shop/front has none of spec.hosts (a.example) among those that it opens to namespace "shop"`,
		},
		"for another namespace": {
			routes:   []*model.VirtualService{routes("shop", []string{"shop/front"}, "a.example")},
			gateways: []*model.Gateway{gateway("shop", 1, model.ServeHTTP, "other/a.example")},
			want:     `shop/v: spec.gateways[0]: Gateway shop/front has none of spec.hosts`,
		},
		"passes through": {
			routes:   []*model.VirtualService{routes("shop", []string{"shop/front"}, "a.example")},
			gateways: []*model.Gateway{gateway("shop", 1, model.PassMesh, "*")},
			want:     "shop/v: spec.gateways[0]: Gateway shop/front has no server for HTTP",
		},
		"tls, passed on": {
			routes:   []*model.VirtualService{connections(true, false)},
			gateways: []*model.Gateway{gateway("shop", 1, model.PassTLS, "*")},
		},
		"tls, for HTTP alone": {
			routes:   []*model.VirtualService{connections(true, false)},
			gateways: []*model.Gateway{gateway("shop", 1, model.ServeHTTP, "*")},
			want:     "shop/v: spec.gateways[0]: Gateway shop/front has no server for spec.tls: give one port.protocol TLS",
		},
		"tcp, passed on": {
			routes:   []*model.VirtualService{connections(false, true)},
			gateways: []*model.Gateway{gateway("shop", 1, model.PassTLS, "*")},
			want:     "shop/v: spec.gateways[0]: Gateway shop/front has no server for spec.tcp: give one port.protocol TCP",
		},
		"tcp": {
			routes:   []*model.VirtualService{connections(false, true, "shop/front")},
			gateways: []*model.Gateway{gateway("shop", 1, model.ServeTCP, "*")},
		},
		"tcp of sidecars alone": {
			routes:   []*model.VirtualService{connections(false, true, model.MeshGateway)},
			gateways: []*model.Gateway{gateway("shop", 1, model.ServeHTTP, "*")},
		},
		"an older one of another namespace": {
			routes:   []*model.VirtualService{routes("tenant", []string{"tenant/front"}, "a.example"), routes("shop", []string{"shop/front"}, "a.example")},
			gateways: []*model.Gateway{gateway("tenant", 1, model.ServeHTTP, "a.example"), gateway("shop", 2, model.ServeHTTP, "*")},
			want:     `tenant/v: spec.gateways[0]: "a.example" on port 80 is served by Gateway shop/front, which is older`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			notes := GatewayNotes(c.routes, c.gateways)
			for _, v := range c.routes {
				for _, note := range notes[v.Key()] {
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
