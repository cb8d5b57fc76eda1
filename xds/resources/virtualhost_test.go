package resources

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// hostsApart is the view of a sidecar of a namespace that takes virtual hosts as
// resources.
func (m *mesh) hostsApart(namespace string) serve.View {
	m.t.Helper()
	return m.view(takesHosts(node("sidecar", namespace, "p", nil)))
}

// told is what the proxies of a view are told of a port: the routes of each domain.
// Two virtual hosts with one domain are a failure.
func (m *mesh) told(v serve.View, port string) map[string]string {
	m.t.Helper()
	rc := &routev3.RouteConfiguration{}
	res := m.resources(v, xds.TypeRoute, port)[port]
	if res == nil {
		return nil
	}
	if err := res.Body.UnmarshalTo(rc); err != nil {
		m.t.Fatal(err)
	}

	hosts := rc.VirtualHosts
	for name, res := range m.resources(v, xds.TypeVirtualHost, port) {
		if rc.Vhds == nil {
			m.t.Errorf("%s comes apart, and the route configuration does not say so", name)
		}
		v := &routev3.VirtualHost{}
		if err := res.Body.UnmarshalTo(v); err != nil {
			m.t.Fatal(err)
		}
		if v.Name != name || xds.SubscribedAs(xds.TypeVirtualHost, name) != port {
			m.t.Errorf("resource %q holds %q", name, v.Name)
		}
		hosts = append(hosts, v)
	}

	out := map[string]string{}
	for _, v := range hosts {
		for _, d := range v.Domains {
			if _, dup := out[d]; dup {
				m.t.Errorf("port %s: %s is a domain of two virtual hosts", port, d)
			}
			for _, r := range v.Routes {
				out[d] += prototext.Format(r)
			}
		}
	}
	return out
}

// TestBothFormsSayTheSame: whatever changes, proxies that take virtual hosts apart are
// told what the others are, and both what a control plane tells that starts just now.
func TestBothFormsSayTheSame(t *testing.T) {
	compared := 0
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := newMesh(t)
		randomMesh(m, r)
		for step := range 8 {
			m.changeAtRandom(r, step)
			fresh, err := New(m.store, Config{Cluster: testCluster})
			if err != nil {
				t.Fatal(err)
			}
			anew := &mesh{t: t, store: m.store, source: fresh, ctx: m.ctx}
			for _, ns := range []string{"ns0", "ns1"} {
				for _, port := range []string{"80", "81", "82"} {
					whole := m.told(m.view(node("sidecar", ns, "p", nil)), port)
					compared += len(whole)
					for what, got := range map[string]map[string]string{
						"apart": m.told(m.hostsApart(ns), port), "apart, anew": anew.told(anew.hostsApart(ns), port),
						"whole, anew": anew.told(anew.view(node("sidecar", ns, "p", nil)), port),
					} {
						if !maps.Equal(got, whole) {
							t.Fatalf("seed %d, step %d, %s on port %s: %s\n%v\nwhole\n%v", seed, step, ns, port, what, got, whole)
						}
					}
				}
			}
		}
	}
	if compared < 1000 {
		t.Errorf("%d domains were compared: the test shows nothing", compared)
	}
}

// changeAtRandom writes an object of which routes are made: one whose names others
// claim, too, one that routes, or one that takes such a thing away.
func (m *mesh) changeAtRandom(r *rand.Rand, step int) {
	host := fmt.Sprintf("svc%d.ns%d.svc.cluster.local", r.IntN(8), r.IntN(3))
	claim := []string{"svc1.ns0", "svc2", "svc0.ns1.svc", host, "*.ns0", "10.96.0.1"}[r.IntN(6)]
	entry := &model.Service{
		Host: claim, Cluster: testCluster, Namespace: "ns0", Name: fmt.Sprint("entry", r.IntN(3)),
		Origin: model.FromServiceEntry, Resolution: model.ByDestination, Created: time.Unix(int64(step), 0),
		Ports: []model.Port{port("http", uint16(80+r.IntN(2)), model.HTTP, 80)},
	}
	rule := &model.VirtualService{
		Cluster: testCluster, Namespace: fmt.Sprint("ns", r.IntN(2)), Name: fmt.Sprint("v", r.IntN(3)), Hosts: []string{host, claim},
		HTTP: []model.HTTPRoute{{
			Matches: []model.HTTPMatch{{Port: portOrNone(r, 80)}},
			Direct:  &model.DirectResponse{Status: 200 + uint32(step)},
		}},
	}
	switch r.IntN(5) {
	case 0:
		m.remove(r)
	case 1, 2:
		insert(m, m.store.Services, entry)
	default:
		insert(m, m.store.Virtuals, rule)
	}
}

// portOrNone is the port, or none.
func portOrNone(r *rand.Rand, port uint16) uint16 { return port * uint16(r.IntN(2)) }

// remove takes a Service or a VirtualService away.
func (m *mesh) remove(r *rand.Rand) {
	txn := m.store.Write()
	defer txn.Commit()
	services := slices.Collect(firsts(m.store.Services.All(txn)))
	rules := slices.Collect(firsts(m.store.Virtuals.All(txn)))
	if len(rules) > 0 && r.IntN(2) == 0 {
		if _, _, err := m.store.Virtuals.Delete(txn, rules[r.IntN(len(rules))]); err != nil {
			m.t.Fatal(err)
		}
		return
	}
	if _, _, err := m.store.Services.Delete(txn, services[r.IntN(len(services))]); err != nil {
		m.t.Fatal(err)
	}
}

// TestOneVirtualHostIsBuilt: a change that concerns one host builds that host's
// resource and no other, and of the route configuration nothing.
func TestOneVirtualHostIsBuilt(t *testing.T) {
	m := newMesh(t)
	fill(m, 200, 1)
	view := m.hostsApart("ns0")
	before := maps.Clone(m.resources(view, xds.TypeVirtualHost, "80"))
	table := m.resources(view, xds.TypeRoute, "80")["80"]

	entry := func(name string) *model.Service {
		return &model.Service{
			Host: name, Cluster: testCluster, Namespace: "ns0", Name: "entry",
			Origin: model.FromServiceEntry, Resolution: model.ByDestination, External: true,
			Ports: []model.Port{port("http", 80, model.HTTP, 80)},
		}
	}
	rule := func(status uint32) *model.VirtualService {
		return &model.VirtualService{
			Cluster: testCluster, Namespace: "ns0", Name: "v", Hosts: []string{"svc-7.ns7.svc.cluster.local"},
			HTTP: []model.HTTPRoute{{Direct: &model.DirectResponse{Status: status, Body: make([]byte, 10_000)}}},
		}
	}
	for _, step := range []struct {
		what, host string
		change     func()
		built      uint64
	}{
		{"a VirtualService that comes", "80/svc-7.ns7.svc.cluster.local", func() { insert(m, m.store.Virtuals, rule(200)) }, 1},
		{"one that changes", "80/svc-7.ns7.svc.cluster.local", func() { insert(m, m.store.Virtuals, rule(201)) }, 1},
		{"a ServiceEntry that comes", "80/a.example", func() { insert(m, m.store.Services, entry("a.example")) }, 1},
		{"one that claims a name that is taken", "80/svc-3", func() { insert(m, m.store.Services, entry("svc-0")) }, 0},
		{"an endpoint", "", func() { m.endpoints(service("ns0", "svc-0", ""), "10.9.9.9") }, 0},
	} {
		built := m.source.Built()
		step.change()
		after := m.resources(view, xds.TypeVirtualHost, "80")
		if now := m.resources(view, xds.TypeRoute, "80")["80"]; now != table {
			t.Errorf("%s: the route configuration was built again", step.what)
		}
		if n := m.source.Built() - built; n != step.built {
			t.Errorf("%s: %d resources were built, want %d", step.what, n, step.built)
		}
		for name, res := range after {
			if same := before[name] == res; same != (name != step.host) {
				t.Errorf("%s: %s is as before: %v", step.what, name, same)
			}
		}
		before = maps.Clone(after)
	}
}

// TestVirtualHostsAreShared: what all namespaces are told alike is built once.
func TestVirtualHostsAreShared(t *testing.T) {
	m := newMesh(t)
	fill(m, 100, 1)
	a := m.resources(m.hostsApart("ns0"), xds.TypeVirtualHost, "80")
	built := m.source.Built()
	b := m.resources(m.hostsApart("ns1"), xds.TypeVirtualHost, "80")
	// The hosts of the two namespaces are known there by their short names, too.
	if n := m.source.Built() - built; n != 20 || len(a) != 100 || len(b) != 100 {
		t.Errorf("%d of %d were built for another namespace, want 20", n, len(b))
	}
	const name = "80/svc-0.ns0.svc.cluster.local"
	if a[name] == b[name] || !strings.Contains(string(a[name].Body.Value), "\x05svc-0") || strings.Contains(string(b[name].Body.Value), "\x05svc-0") {
		t.Error("the short name is not for its own namespace alone")
	}
}

// TestWhoGetsVirtualHosts: only who says that it takes them, on a delta stream, and no
// gateway. Everybody else has them in the route configuration, as a port that is looked
// into has its host.
func TestWhoGetsVirtualHosts(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	insert(m, m.store.Services, service("shop", "odd", "10.96.0.77", port("odd", 9100, model.Unknown, 9100)))
	for name, c := range map[string]struct {
		node  serve.Node
		apart bool
	}{
		"says so":            {takesHosts(node("sidecar", "shop", "p", nil)), true},
		"says nothing":       {node("sidecar", "shop", "p", nil), false},
		"state of the world": {takesHosts(node("sidecar", "shop", "p", nil)), false},
	} {
		t.Run(name, func(t *testing.T) {
			c.node.Delta = c.node.Delta && name != "state of the world"
			v := m.view(c.node)
			rc := &routev3.RouteConfiguration{}
			if err := m.resources(v, xds.TypeRoute, "80")["80"].Body.UnmarshalTo(rc); err != nil {
				t.Fatal(err)
			}
			hosts := m.resources(v, xds.TypeVirtualHost, "80")
			if apart := rc.Vhds != nil; apart != c.apart || apart != (len(hosts) > 0) || apart != (len(rc.VirtualHosts) == 1) {
				t.Errorf("%d virtual hosts in the route configuration, %d apart: %v", len(rc.VirtualHosts), len(hosts), rc.Vhds)
			}

			const single = "odd.shop.svc.cluster.local:9100"
			if err := m.resources(v, xds.TypeRoute, single)[single].Body.UnmarshalTo(rc); err != nil {
				t.Fatal(err)
			}
			if rc.Vhds != nil || len(rc.VirtualHosts) != 1 || len(m.resources(v, xds.TypeVirtualHost, single)) > 0 {
				t.Errorf("a port of one host: %v", rc)
			}
		})
	}
}
