package build

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	// Messages that resources carry inside Any.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testCluster = model.ClusterID("c1")

// mesh is a Store with a running Source.
type mesh struct {
	t      testing.TB
	store  *model.Store
	source *Source
	ctx    context.Context
}

func newMesh(t testing.TB) *mesh {
	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	source, err := New(store, Config{Cluster: testCluster})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := source.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	m := &mesh{t: t, store: store, source: source, ctx: ctx}
	insert(m, store.Clusters, &model.Cluster{ID: testCluster, Synced: true})
	return m
}

func insert[R interface{ Key() string }](m *mesh, t model.Table[R], rows ...R) {
	txn := m.store.Write()
	defer txn.Commit()
	for _, r := range rows {
		if _, _, err := t.Insert(txn, r); err != nil {
			m.t.Fatal(err)
		}
	}
}

// service makes a Kubernetes service with one address.
func service(ns, name, vip string, ports ...model.Port) *model.Service {
	s := &model.Service{
		Host: name + "." + ns + ".svc.cluster.local", Cluster: testCluster, Namespace: ns, Name: name,
		Selector: map[string]string{"app": name}, Ports: ports,
	}
	if vip == "" {
		s.Headless, s.Resolution = true, model.ByDestination
	} else {
		s.Addresses = []netip.Prefix{netip.MustParsePrefix(vip + "/32")}
	}
	return s
}

func port(name string, number uint16, p model.Protocol, target uint16) model.Port {
	return model.Port{Name: name, Number: number, Protocol: p, Target: target}
}

// endpoints gives a service endpoints with sidecars.
func (m *mesh) endpoints(s *model.Service, addresses ...string) {
	set := &model.EndpointSet{Host: s.Host, Cluster: s.Cluster, Namespace: s.Namespace, Name: s.Name}
	traits := &model.Traits{Host: s.Host, Cluster: s.Cluster, Namespace: s.Namespace, Name: s.Name,
		AllTLS: true, Accounts: []string{s.Namespace + "/" + s.Name}}
	ports := map[string]uint16{}
	for _, p := range s.Ports {
		ports[p.Name] = p.Target
	}
	for _, a := range addresses {
		set.Endpoints = append(set.Endpoints, model.Endpoint{
			Address: a, Ports: ports, TLS: true, Account: s.Namespace + "/" + s.Name,
			Labels:   map[string]string{"app": s.Name, "version": "v" + a[len(a)-1:]},
			Workload: s.Name + ";" + s.Namespace + ";" + s.Name + ";latest;c1",
		})
		if s.Headless {
			traits.Addresses = append(traits.Addresses, a)
		}
	}
	insert(m, m.store.Endpoints, set)
	// Like package kube, do not replace a row by its like.
	if old, _, ok := m.store.Traits.Get(m.store.Read(), m.store.Traits.ByKey(traits.Key())); !ok || !reflect.DeepEqual(old, traits) {
		insert(m, m.store.Traits, traits)
	}
}

func node(kind, ns, name string, labels map[string]string) serve.Node {
	fields := map[string]*structpb.Value{}
	for k, v := range labels {
		fields[k] = structpb.NewStringValue(v)
	}
	return serve.Node{
		ID: kind + "~10.0.0.1~" + name + "." + ns + "~" + ns + ".svc.cluster.local",
		Core: &corev3.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"CLUSTER_ID": structpb.NewStringValue(string(testCluster)),
			"LABELS":     structpb.NewStructValue(&structpb.Struct{Fields: fields}),
		}}},
	}
}

func (m *mesh) view(n serve.Node) serve.View {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, 5*time.Second)
	defer cancel()
	v, _, err := m.source.View(ctx, n)
	if err != nil {
		m.t.Fatal(err)
	}
	return v
}

func (m *mesh) resources(v serve.View, typeURL string, names ...string) map[string]*serve.Resource {
	m.t.Helper()
	res, _, err := v.Resources(typeURL, names)
	if err != nil {
		m.t.Fatal(err)
	}
	return res
}

var allTypes = []string{serve.TypeCluster, serve.TypeEndpoint, serve.TypeListener, serve.TypeRoute}

// bookinfo is a small mesh with one of everything.
func bookinfo(m *mesh) {
	web := service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080))
	api := service("shop", "api", "10.96.0.11", port("grpc", 7000, model.GRPC, 7000), port("admin", 9000, model.Unknown, 9000))
	db := service("data", "db", "10.96.0.12", port("tcp-db", 5432, model.TCP, 5432))
	set := service("data", "set", "", port("tcp", 7777, model.TCP, 7777), port("http", 80, model.HTTP, 80))
	entry := &model.Service{
		Host: "httpbin.bar.global", Cluster: testCluster, Namespace: "shop", Name: "httpbin-bar",
		Origin: model.FromServiceEntry, Resolution: model.ByDNS,
		Addresses: []netip.Prefix{netip.MustParsePrefix("240.0.0.2/32")},
		Ports:     []model.Port{port("http1", 8000, model.HTTP, 8000)},
		Resolved:  []model.Endpoint{{Address: "172.18.0.9", Ports: map[string]uint16{"http1": 15443}}},
	}
	secure := &model.Service{
		Host: "*.example.com", Cluster: testCluster, Namespace: "shop", Name: "example",
		Origin: model.FromServiceEntry, Resolution: model.ByDestination, External: true,
		Ports: []model.Port{port("tls", 443, model.TLS, 443)},
	}
	insert(m, m.store.Services, web, api, db, set, entry, secure)
	m.endpoints(web, "10.0.0.1", "10.0.0.2")
	m.endpoints(api, "10.0.0.3")
	m.endpoints(db, "10.0.0.4")
	m.endpoints(set, "10.0.0.5")
	insert(m, m.store.Destinations, &model.DestinationRule{
		Cluster: testCluster, Namespace: "istio-system", Name: "multi", Host: "*.global",
		Policy: model.TrafficPolicy{TLS: &model.ClientTLS{Mode: model.ClientTLSMutualMesh}},
	}, &model.DestinationRule{
		Cluster: testCluster, Namespace: "shop", Name: "web", Host: web.Host,
		Policy:  model.TrafficPolicy{LoadBalancing: model.LBRoundRobin},
		Subsets: []model.Subset{{Name: "v2", Labels: map[string]string{"version": "v2"}}},
	})
	insert(m, m.store.Gateways, &model.Gateway{
		Cluster: testCluster, Namespace: "istio-system", Name: "multi", Selector: map[string]string{"istio": "ingressgateway"},
		Servers: []model.GatewayServer{{Port: 15443, Hosts: []string{"*.global"}}},
	})
}

// TestGolden holds each kind of resource to its form.
func TestGolden(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	sidecar := m.view(node("sidecar", "shop", "web-1", map[string]string{"app": "web"}))
	gateway := m.view(node("router", "istio-system", "gw-1", map[string]string{"istio": "ingressgateway"}))
	for _, c := range []struct {
		view          serve.View
		file, typeURL string
		name          string
	}{
		{sidecar, "cluster-http", serve.TypeCluster, "outbound|80||web.shop.svc.cluster.local"},
		{sidecar, "cluster-grpc", serve.TypeCluster, "outbound|7000||api.shop.svc.cluster.local"},
		{sidecar, "cluster-entry", serve.TypeCluster, "outbound|8000||httpbin.bar.global"},
		{sidecar, "cluster-headless", serve.TypeCluster, "outbound|7777||set.data.svc.cluster.local"},
		{sidecar, "cluster-inbound", serve.TypeCluster, "inbound|8080||"},
		{sidecar, "cluster-passthrough", serve.TypeCluster, "PassthroughCluster"},
		{sidecar, "endpoints", serve.TypeEndpoint, "outbound|80||web.shop.svc.cluster.local"},
		{sidecar, "endpoints-subset", serve.TypeEndpoint, "outbound|80|v2|web.shop.svc.cluster.local"},
		{sidecar, "listener-outbound", serve.TypeListener, "virtualOutbound"},
		{sidecar, "listener-inbound", serve.TypeListener, "virtualInbound"},
		{sidecar, "listener-http", serve.TypeListener, "0.0.0.0_80"},
		{sidecar, "listener-names", serve.TypeListener, "0.0.0.0_443"},
		{sidecar, "listener-sniff", serve.TypeListener, "10.96.0.11_9000"},
		{sidecar, "listener-tcp", serve.TypeListener, "10.96.0.12_5432"},
		{sidecar, "listener-headless", serve.TypeListener, "10.0.0.5_7777"},
		{sidecar, "routes", serve.TypeRoute, "80"},
		{sidecar, "routes-sniff", serve.TypeRoute, "api.shop.svc.cluster.local:9000"},
		{gateway, "gateway-listener", serve.TypeListener, "0.0.0.0_15443"},
		{gateway, "gateway-cluster", serve.TypeCluster, "outbound_.80_._.web.shop.global"},
	} {
		t.Run(c.file, func(t *testing.T) {
			res := m.resources(c.view, c.typeURL, c.name)[c.name]
			if res == nil {
				t.Fatalf("no %s", c.name)
			}
			golden(t, c.file, res)
		})
	}
}

// golden compares a resource, as indented JSON, with its file.
func golden(t *testing.T, name string, res *serve.Resource) {
	t.Helper()
	msg, err := res.Body.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := protojson.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	// protojson varies its spaces on purpose.
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs from %s (write it anew with -update):\n%s", res.Name, file, got)
	}
}

// TestEveryResourceIsValid builds meshes at random: all that comes out holds to
// the rules that the protos declare, names no cluster or route that does not
// exist, and is the same when built anew.
func TestEveryResourceIsValid(t *testing.T) {
	for seed := range uint64(30) {
		m, other := newMesh(t), newMesh(t)
		randomMesh(m, rand.New(rand.NewPCG(seed, 1)))
		randomMesh(other, rand.New(rand.NewPCG(seed, 1)))
		for _, n := range []serve.Node{
			node("sidecar", "ns0", "p", map[string]string{"app": "svc0", "v": "1"}),
			node("sidecar", "ns1", "p", map[string]string{"app": "svc1"}),
			node("router", "istio-system", "g", map[string]string{"istio": "ingressgateway"}),
		} {
			v, again := m.view(n), other.view(n)
			for _, typeURL := range allTypes {
				res := m.resources(v, typeURL)
				twin := other.resources(again, typeURL)
				if len(res) != len(twin) {
					t.Errorf("seed %d: %d and %d resources of %s", seed, len(res), len(twin), typeURL)
				}
				for name, r := range res {
					checkValid(t, name, r)
					if o := twin[name]; o == nil || o.Version != r.Version {
						t.Errorf("seed %d: %s is not the same when built anew", seed, name)
					}
				}
			}
			checkReferences(t, m, v)
		}
	}
}

func m2(m *mesh, v serve.View, typeURL string) map[string]*serve.Resource {
	return m.resources(v, typeURL)
}

func checkValid(t *testing.T, name string, r *serve.Resource) {
	t.Helper()
	msg, err := r.Body.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	v, ok := msg.(interface{ ValidateAll() error })
	if !ok {
		t.Fatalf("%T cannot validate", msg)
	}
	if err := v.ValidateAll(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// checkReferences finds every cluster that listeners and routes name.
func checkReferences(t *testing.T, m *mesh, v serve.View) {
	t.Helper()
	clusters := m.resources(v, serve.TypeCluster)
	routes := m.resources(v, serve.TypeRoute)
	for _, typeURL := range []string{serve.TypeListener, serve.TypeRoute} {
		for name, r := range m.resources(v, typeURL) {
			msg, err := r.Body.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			raw, err := protojson.Marshal(msg)
			if err != nil {
				t.Fatal(err)
			}
			var tree any
			if err := json.Unmarshal(raw, &tree); err != nil {
				t.Fatal(err)
			}
			walk(tree, func(key, value string) {
				if key == "cluster" && clusters[value] == nil {
					t.Errorf("%s names cluster %s, which does not exist", name, value)
				}
				if key == "routeConfigName" && routes[value] == nil {
					t.Errorf("%s names route configuration %s, which does not exist", name, value)
				}
			})
		}
	}
}

func walk(v any, leaf func(key, value string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if s, ok := e.(string); ok {
				leaf(k, s)
			}
			walk(e, leaf)
		}
	case []any:
		for _, e := range v {
			walk(e, leaf)
		}
	}
}

func randomMesh(m *mesh, r *rand.Rand) {
	protocols := []model.Protocol{model.Unknown, model.TCP, model.HTTP, model.HTTP2, model.GRPC, model.GRPCWeb, model.TLS}
	ns := func() string { return fmt.Sprintf("ns%d", r.IntN(3)) }
	for i := range 2 + r.IntN(8) {
		vip := ""
		if r.IntN(4) > 0 {
			vip = fmt.Sprintf("10.96.0.%d", 1+i)
		}
		s := service(ns(), fmt.Sprintf("svc%d", i), vip)
		for j := range 1 + r.IntN(3) {
			s.Ports = append(s.Ports, port(fmt.Sprint("p", j), uint16(80+r.IntN(2)+2*j), protocols[r.IntN(len(protocols))], uint16(8080+j)))
		}
		if r.IntN(3) == 0 {
			s.ExportTo = []string{ns()}
		}
		insert(m, m.store.Services, s)
		var addrs []string
		for e := range r.IntN(4) {
			addrs = append(addrs, fmt.Sprintf("10.0.%d.%d", i, e))
		}
		m.endpoints(s, addrs...)
	}
	for i := range r.IntN(6) {
		s := &model.Service{
			Host: fmt.Sprintf("h%d.example.com", i/2), Cluster: testCluster, Namespace: ns(), Name: fmt.Sprint("se", i),
			Origin: model.FromServiceEntry, Resolution: model.Resolution(r.IntN(3)), External: r.IntN(2) == 0,
			Created: time.Unix(int64(r.IntN(3)), 0),
			Ports:   []model.Port{port("p", uint16(80+r.IntN(3)), protocols[r.IntN(len(protocols))], 80)},
		}
		switch r.IntN(4) {
		case 0:
			s.Addresses = []netip.Prefix{netip.MustParsePrefix("240.0.0.1/32"), netip.MustParsePrefix("172.16.0.0/16")}
		case 1:
			s.Allocated = netip.MustParseAddr(fmt.Sprintf("240.240.0.%d", i+1))
		case 2:
			s.Host = "*" + s.Host[2:]
		}
		if s.Resolution == model.ByDNS {
			s.Resolved = []model.Endpoint{{Address: "x.example.org", Ports: map[string]uint16{"p": 443}}}
		}
		insert(m, m.store.Services, s)
	}
	insert(m, m.store.Destinations, &model.DestinationRule{
		Cluster: testCluster, Namespace: ns(), Name: "any", Host: "*.com",
		Policy: model.TrafficPolicy{TLS: &model.ClientTLS{Mode: model.ClientTLSMode(r.IntN(3))}},
	}, &model.DestinationRule{
		Cluster: testCluster, Namespace: "istio-system", Name: "svc0", Host: "*.cluster.local",
		Subsets: []model.Subset{{Name: "v1", Labels: map[string]string{"version": "v1"}}},
	})
	insert(m, m.store.Peers, &model.PeerAuthentication{
		Cluster: testCluster, Namespace: "istio-system", Name: "default", Mode: model.MTLSMode(r.IntN(4)),
	}, &model.PeerAuthentication{
		Cluster: testCluster, Namespace: "ns0", Name: "w", Mode: model.MTLSMode(r.IntN(4)), Selector: map[string]string{"v": "1"},
		Ports: map[uint16]model.MTLSMode{8080: model.MTLSMode(r.IntN(4)), 9999: model.MTLSStrict},
	})
	insert(m, m.store.Gateways, &model.Gateway{
		Cluster: testCluster, Namespace: "istio-system", Name: "g", Selector: map[string]string{"istio": "ingressgateway"},
		Servers: []model.GatewayServer{{Port: 15443, Hosts: []string{"*.global", "*.local"}}, {Port: 443, Hosts: []string{"*"}}},
	})
}

// TestEndpointChangeRebuildsOne is the bar: one endpoint of a thousand services
// changes, and one resource per View is built.
func TestEndpointChangeRebuildsOne(t *testing.T) {
	m := newMesh(t)
	services := fill(m, 1000, 10)
	v := m.view(node("sidecar", "ns0", "p", nil))
	before := map[string]map[string]*serve.Resource{}
	for _, typeURL := range allTypes {
		before[typeURL] = m.resources(v, typeURL)
	}
	for round := range 20 {
		built := m.source.Built()
		changed := services[round*37]
		_, wake, err := v.Resources(serve.TypeEndpoint, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.endpoints(changed, "10.9.9."+fmt.Sprint(round))
		select {
		case <-wake:
		case <-time.After(5 * time.Second):
			t.Fatal("nobody was told")
		}
		differ := 0
		for _, typeURL := range allTypes {
			after := m.resources(v, typeURL)
			for name, r := range after {
				if before[typeURL][name] != r {
					differ++
				}
			}
			before[typeURL] = after
		}
		if n := m.source.Built() - built; n != 1 || differ != 1 {
			t.Fatalf("%d resources were built and %d differ, want 1", n, differ)
		}
	}
}

// fill makes s services with e endpoints each, in ten namespaces.
func fill(m *mesh, s, e int) []*model.Service {
	services := make([]*model.Service, s)
	for i := range services {
		services[i] = service(fmt.Sprintf("ns%d", i%10), fmt.Sprintf("svc-%d", i), fmt.Sprintf("10.%d.%d.1", 100+i/250, i%250),
			port("http", 80, model.HTTP, 8080))
		addrs := make([]string, e)
		for j := range addrs {
			addrs[j] = fmt.Sprintf("10.%d.%d.%d", i/250, i%250, j)
		}
		m.endpoints(services[i], addrs...)
	}
	insert(m, m.store.Services, services...)
	return services
}

// TestViewsAreShared: proxies that are alike have one View, and only they.
func TestViewsAreShared(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	web := map[string]string{"app": "web"}
	a, b := m.view(node("sidecar", "shop", "web-1", web)), m.view(node("sidecar", "shop", "web-2", web))
	if a != b {
		t.Error("two pods of one Deployment have two Views")
	}
	for what, n := range map[string]serve.Node{
		"another Deployment": node("sidecar", "shop", "api-1", map[string]string{"app": "api"}),
		"another namespace":  node("sidecar", "data", "web-1", web),
		"a gateway":          node("router", "shop", "web-1", web),
	} {
		if m.view(n) == a {
			t.Errorf("%s shares the View", what)
		}
	}
}

// TestViewChanges: a stream is told when its View is another one, and only then.
func TestViewChanges(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	n := node("sidecar", "shop", "web-1", map[string]string{"app": "web"})
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	settle := func() (serve.View, <-chan struct{}) {
		for {
			v, changed, err := m.source.View(ctx, n)
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-changed: // of changes made before
			case <-time.After(50 * time.Millisecond):
				return v, changed
			}
		}
	}
	told := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		case <-time.After(100 * time.Millisecond):
			return false
		}
	}
	v, changed := settle()
	m.endpoints(service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080)), "10.0.0.77")
	insert(m, m.store.Services, service("data", "new", "10.96.0.99", port("http", 80, model.HTTP, 8080)))
	if told(changed) {
		t.Error("told of changes elsewhere")
	}
	insert(m, m.store.Peers, &model.PeerAuthentication{
		Cluster: testCluster, Namespace: "shop", Name: "default", Mode: model.MTLSStrict,
	})
	if !told(changed) {
		t.Fatal("not told of a policy")
	}
	strict, changed := settle()
	if strict.Key() == v.Key() {
		t.Error("a policy did not change the View")
	}
	insert(m, m.store.Workloads, &model.Workload{Cluster: testCluster, Namespace: "shop", Name: "web-1", Labels: map[string]string{"app": "api"}})
	if !told(changed) {
		t.Fatal("not told of the pod's labels")
	}
	if relabelled, _ := settle(); relabelled.Key() == strict.Key() {
		t.Error("the pod's labels did not change the View")
	}
	cancel()
	deadline := time.Now().Add(5 * time.Second)
	for {
		m.source.hub.mu.Lock()
		left := len(m.source.hub.pods) + len(m.source.hub.namespaces)
		m.source.hub.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d watches are left of a stream that ended", left)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestGatewayShowsNothingUnguarded: through a passthrough gateway, only
// endpoints that ask for a certificate can be reached.
func TestGatewayShowsNothingUnguarded(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	open := service("shop", "open", "10.96.0.50", port("https", 443, model.TLS, 6443))
	insert(m, m.store.Services, open)
	set := &model.EndpointSet{Host: open.Host, Cluster: testCluster, Namespace: "shop", Name: "open", Endpoints: []model.Endpoint{
		{Address: "10.0.0.8", Ports: map[string]uint16{"https": 6443}},
		{Address: "10.0.0.9", Ports: map[string]uint16{"https": 6443}, TLS: true},
	}}
	insert(m, m.store.Endpoints, set)
	name := "outbound|443||" + open.Host
	for n, want := range map[string]int{"router": 1, "sidecar": 2} {
		v := m.view(node(n, "istio-system", "gw-1", map[string]string{"istio": "ingressgateway"}))
		msg, err := m.resources(v, serve.TypeEndpoint, name)[name].Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, l := range msg.(*endpointv3.ClusterLoadAssignment).Endpoints {
			got += len(l.LbEndpoints)
		}
		if got != want {
			t.Errorf("a %s sees %d endpoints, want %d", n, got, want)
		}
	}
}

func TestParseNode(t *testing.T) {
	for id, want := range map[string]string{
		"sidecar~1.2.3.4~a.b":               "want KIND",
		"sidecar~1.2.3.4~ab~x":              "not NAME.NAMESPACE",
		"ztunnel~1.2.3.4~a.b~x":             "neither sidecar nor router",
		"sidecar~1.2.3.4~.b~x":              "not NAME.NAMESPACE",
		"sidecar~1.2.3.4~a.b~b.svc.cluster": "CLUSTER_ID",
	} {
		if _, err := parseNode(serve.Node{ID: id}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", id, err, want)
		}
	}
}

func TestDeclaredProtocolWins(t *testing.T) {
	w := &model.Workload{Namespace: "ns", Labels: map[string]string{"app": "a"}}
	undeclared := service("ns", "a", "10.0.0.1", port("x", 1, model.Unknown, 9000))
	declared := service("ns", "b", "10.0.0.2", port("tcp", 2, model.TCP, 9000))
	declared.Selector = undeclared.Selector
	in := newInbound(w, []*model.Service{undeclared, declared}, newPeerPolicy(w, "istio-system", nil))
	if len(in.ports) != 1 || in.ports[0].protocol != model.TCP || len(in.ports[0].services) != 2 {
		t.Errorf("ports: %+v", in.ports)
	}
}

func TestPeerPolicy(t *testing.T) {
	at := func(ns, name string, age int64, mode model.MTLSMode, selector map[string]string, ports map[uint16]model.MTLSMode) *model.PeerAuthentication {
		return &model.PeerAuthentication{Cluster: testCluster, Namespace: ns, Name: name, Created: time.Unix(age, 0), Mode: mode, Selector: selector, Ports: ports}
	}
	app := map[string]string{"app": "a"}
	w := &model.Workload{Namespace: "ns", Labels: app}
	for name, c := range map[string]struct {
		policies []*model.PeerAuthentication
		any, p80 model.MTLSMode
	}{
		"nothing":                 {nil, model.MTLSPermissive, model.MTLSPermissive},
		"mesh":                    {[]*model.PeerAuthentication{at("root", "m", 1, model.MTLSStrict, nil, nil)}, model.MTLSStrict, model.MTLSStrict},
		"namespace over mesh":     {[]*model.PeerAuthentication{at("root", "m", 1, model.MTLSStrict, nil, nil), at("ns", "n", 2, model.MTLSDisable, nil, nil)}, model.MTLSDisable, model.MTLSDisable},
		"unset namespace":         {[]*model.PeerAuthentication{at("root", "m", 1, model.MTLSStrict, nil, nil), at("ns", "n", 2, model.MTLSUnset, nil, nil)}, model.MTLSStrict, model.MTLSStrict},
		"workload over namespace": {[]*model.PeerAuthentication{at("ns", "n", 1, model.MTLSStrict, nil, nil), at("ns", "w", 2, model.MTLSPermissive, app, nil)}, model.MTLSPermissive, model.MTLSPermissive},
		"port over workload":      {[]*model.PeerAuthentication{at("ns", "w", 2, model.MTLSStrict, app, map[uint16]model.MTLSMode{80: model.MTLSDisable})}, model.MTLSStrict, model.MTLSDisable},
		"oldest counts":           {[]*model.PeerAuthentication{at("ns", "b", 2, model.MTLSDisable, app, nil), at("ns", "a", 1, model.MTLSStrict, app, nil)}, model.MTLSStrict, model.MTLSStrict},
		"other workload":          {[]*model.PeerAuthentication{at("ns", "w", 2, model.MTLSStrict, map[string]string{"app": "b"}, nil)}, model.MTLSPermissive, model.MTLSPermissive},
		"selector in root":        {[]*model.PeerAuthentication{at("root", "w", 2, model.MTLSStrict, app, nil)}, model.MTLSPermissive, model.MTLSPermissive},
		"other namespace":         {[]*model.PeerAuthentication{at("else", "w", 2, model.MTLSStrict, nil, nil)}, model.MTLSPermissive, model.MTLSPermissive},
	} {
		p := newPeerPolicy(w, "root", c.policies)
		if p.mode(0) != c.any || p.mode(80) != c.p80 {
			t.Errorf("%s: any port %d, port 80 %d, want %d, %d", name, p.mode(0), p.mode(80), c.any, c.p80)
		}
	}
}

func TestRules(t *testing.T) {
	m := newMesh(t)
	web := service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080))
	insert(m, m.store.Services, web)
	rule := func(ns, name, host string, export ...string) *model.DestinationRule {
		return &model.DestinationRule{Cluster: testCluster, Namespace: ns, Name: name, Host: host, ExportTo: export}
	}
	insert(m, m.store.Destinations, rule("client", "own", "*.cluster.local"), rule("shop", "theirs", web.Host),
		rule("shop", "hidden", "*.shop.svc.cluster.local", "shop"), rule("istio-system", "root", "*.local"))
	h := newHost(web.Host, testCluster, []*model.Service{web})
	r := newRules(m.store, m.store.Read())
	for client, want := range map[string]string{"client": "own", "shop": "theirs", "other": "theirs"} {
		if got := r.find(client, "istio-system", h); got == nil || got.Name != want {
			t.Errorf("clients of %s have %+v, want %s", client, got, want)
		}
	}
	for pattern, want := range map[string]bool{"*.b": true, "*": true, "a.b": true, "*.a.b": false, "b": false, "*a.b": false} {
		if matchHost(pattern, "a.b") != want {
			t.Errorf("matchHost(%q, a.b) is not %t", pattern, want)
		}
	}
}

func FuzzParseNode(f *testing.F) {
	f.Add("sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local", "c1")
	f.Add("router~~.~", "")
	f.Fuzz(func(t *testing.T, id, cluster string) {
		n := serve.Node{ID: id, Core: &corev3.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"CLUSTER_ID": structpb.NewStringValue(cluster), "LABELS": structpb.NewStringValue("x"), "NETWORK": nil,
		}}}}
		if p, err := parseNode(n); err == nil && (p.name == "" || p.namespace == "" || p.cluster == "") {
			t.Fatalf("accepted %q as %+v", id, p)
		}
	})
}

func FuzzParseClusterName(f *testing.F) {
	f.Add("outbound|80|v1|a.b")
	f.Add("outbound|99999||")
	f.Fuzz(func(t *testing.T, name string) {
		port, subset, host, ok := parseClusterName(name)
		if back := clusterName(port, subset, host); ok && len(back) > len(name) {
			t.Fatalf("%q came back as %q", name, back)
		}
	})
}

func BenchmarkEndpointChange(b *testing.B) {
	for _, s := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint("S=", s), func(b *testing.B) {
			m := newMesh(b)
			services := fill(m, s, 10)
			v := m.view(node("sidecar", "ns0", "p", nil))
			names := []string{}
			for name := range m.resources(v, serve.TypeEndpoint) {
				names = append(names, name)
			}
			for _, typeURL := range allTypes {
				m.resources(v, typeURL)
			}
			built := m.source.Built()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				_, wake, err := v.Resources(serve.TypeEndpoint, names)
				if err != nil {
					b.Fatal(err)
				}
				m.endpoints(services[i%s], "10.9.9.9", fmt.Sprintf("10.8.%d.%d", i/250%250, i%250))
				<-wake
				m.resources(v, serve.TypeEndpoint, names...)
			}
			b.ReportMetric(float64(m.source.Built()-built)/float64(b.N), "built/op")
		})
	}
}

func BenchmarkFirstView(b *testing.B) {
	for range b.N {
		b.StopTimer()
		m := newMesh(b)
		fill(m, 1000, 10)
		b.StartTimer()
		v := m.view(node("sidecar", "ns0", "p", nil))
		for _, typeURL := range allTypes {
			m.resources(v, typeURL)
		}
	}
}
