package resources

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	// Messages that resources carry inside Any.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/nds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

var update = flag.Bool("update", false, "write the golden files anew")

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
		{sidecar, "cluster-http", xds.TypeCluster, "outbound|80||web.shop.svc.cluster.local"},
		{sidecar, "cluster-grpc", xds.TypeCluster, "outbound|7000||api.shop.svc.cluster.local"},
		{sidecar, "cluster-entry", xds.TypeCluster, "outbound|8000||httpbin.bar.global"},
		{sidecar, "cluster-headless", xds.TypeCluster, "outbound|7777||set.data.svc.cluster.local"},
		{sidecar, "cluster-inbound", xds.TypeCluster, "inbound|8080||"},
		{sidecar, "cluster-passthrough", xds.TypeCluster, "PassthroughCluster"},
		{sidecar, "endpoints", xds.TypeEndpoint, "outbound|80||web.shop.svc.cluster.local"},
		{sidecar, "endpoints-subset", xds.TypeEndpoint, "outbound|80|v2|web.shop.svc.cluster.local"},
		{sidecar, "listener-outbound", xds.TypeListener, "virtualOutbound"},
		{sidecar, "listener-inbound", xds.TypeListener, "virtualInbound"},
		{sidecar, "listener-http", xds.TypeListener, "0.0.0.0_80"},
		{sidecar, "listener-names", xds.TypeListener, "0.0.0.0_443"},
		{sidecar, "listener-sniff", xds.TypeListener, "10.96.0.11_9000"},
		{sidecar, "listener-tcp", xds.TypeListener, "10.96.0.12_5432"},
		{sidecar, "listener-headless", xds.TypeListener, "10.0.0.5_7777"},
		{sidecar, "names", xds.TypeNameTable, "names"},
		{sidecar, "routes", xds.TypeRoute, "80"},
		{sidecar, "routes-sniff", xds.TypeRoute, "api.shop.svc.cluster.local:9000"},
		{gateway, "gateway-listener", xds.TypeListener, "0.0.0.0_15443"},
		{gateway, "gateway-cluster", xds.TypeCluster, "outbound_.80_._.web.shop.global"},
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

func checkValid(t *testing.T, name string, r *serve.Resource) {
	t.Helper()
	msg, err := r.Body.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	v, ok := msg.(interface{ ValidateAll() error })
	if _, names := msg.(*nds.NameTable); names {
		return // Istio's message states no rules
	}
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
	clusters := m.resources(v, xds.TypeCluster)
	routes := m.resources(v, xds.TypeRoute)
	for _, typeURL := range []string{xds.TypeListener, xds.TypeRoute} {
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
		_, wake, err := v.Resources(xds.TypeEndpoint, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.endpoints(changed, "10.9.9."+fmt.Sprint(round))
		select {
		case <-wake:
		case <-time.After(20 * time.Second):
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
	deadline := time.Now().Add(20 * time.Second)
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
