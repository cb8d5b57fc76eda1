package resources

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// A made-up cluster id cost a catalog of the whole mesh, 4 MiB in a mesh of 2000
// services, which nothing ever dropped.
func TestUnknownClusterIsRefused(t *testing.T) {
	m := newMesh(t)
	n := node("sidecar", "shop", "web-1", nil)
	n.Core.Metadata.Fields["CLUSTER_ID"] = structpb.NewStringValue(strings.Repeat("made-up", 1000))
	_, _, err := m.source.View(t.Context(), n)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `its own is "c1"`) {
		t.Errorf("got %v, want a refusal that names the known cluster", err)
	}
	if len(err.Error()) > 1000 {
		t.Errorf("the refusal has %d bytes", len(err.Error()))
	}
	if len(m.source.hosts)+len(m.source.scopes)+len(m.source.places)+len(m.source.views) > 0 {
		t.Error("something is kept for it")
	}
}

// Nothing that was built for streams stays once they have ended.
func TestNothingIsKeptOfStreamsThatEnded(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	insert(m, m.store.Clusters, &model.Cluster{ID: "c2", Synced: true})
	const eds = "outbound|80||web.shop.svc.cluster.local"

	stay := m.view(node("sidecar", "shop", "web-1", nil))
	m.resources(stay, xds.TypeEndpoint, eds)
	for i := range 20 {
		n := node("sidecar", fmt.Sprint("made-up-", i), "x", nil)
		n.Core.Metadata.Fields["CLUSTER_ID"] = structpb.NewStringValue("c2")
		n.Core.Metadata.Fields["NETWORK"] = structpb.NewStringValue(fmt.Sprint("made-up-", i))
		v := m.view(n)
		m.resources(v, xds.TypeCluster)
		m.resources(v, xds.TypeEndpoint, eds)

		n = node("sidecar", "shop", "x", nil)
		n.Core.Metadata.Fields["NETWORK"] = structpb.NewStringValue(fmt.Sprint("made-up-", i))
		m.resources(m.view(n), xds.TypeEndpoint, eds)
	}

	kept := func() string {
		m.source.mu.Lock()
		defer m.source.mu.Unlock()
		places := 0
		for _, hosts := range m.source.hosts {
			places += len(hosts.value.byName["web.shop.svc.cluster.local"].endpoints)
		}
		return fmt.Sprintf("%d views, %d scopes, %d clusters, %d places, %d with endpoints, %d policies", len(m.source.views), len(m.source.scopes),
			len(m.source.hosts), len(m.source.places), places, len(m.source.policies))
	}
	// The policies are those of the namespaces shop and data, of the services.
	const want = "1 views, 1 scopes, 1 clusters, 1 places, 1 with endpoints, 2 policies"
	waitForgotten(t, kept, want)
	runtime.KeepAlive(stay)
}

// waitForgotten waits until what is kept is what it should be.
func waitForgotten(t *testing.T, kept func() string, want string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for kept() != want {
		if time.Now().After(deadline) {
			t.Fatalf("kept: %s; want %s", kept(), want)
		}
		runtime.GC() // a View is gone when it is collected
		time.Sleep(10 * time.Millisecond)
	}
}

// Each time that a stream was asked to look for its View anew, its context kept
// 374 bytes until it ended.
func TestRemapsLeaveNothing(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := node("sidecar", "shop", "web-1", map[string]string{"app": "web"})
	remap := func(times int) {
		for range times {
			_, changed, err := m.source.View(ctx, n)
			if err != nil {
				t.Fatal(err)
			}
			m.source.hub.mu.Lock()
			m.source.hub.fireAllLocked()
			m.source.hub.mu.Unlock()
			<-changed
		}
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		return int64(ms.HeapAlloc)
	}
	remap(100)
	before := heap()
	const times = 20_000
	remap(times)
	if each := (heap() - before) / times; each > 50 {
		t.Errorf("each of %d remaps leaves %d bytes", times, each)
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
			t.Fatalf("%d sets of waiters are left after the stream", left)
		}
		time.Sleep(time.Millisecond)
	}
}

// Each edit of a DestinationRule left behind what the one before it had come to,
// for every host that it covers.
func TestNothingIsKeptOfRulesThatWereEdited(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	const name = "outbound|80|v2|web.shop.svc.cluster.local"
	v := m.view(node("sidecar", "shop", "web-1", nil))
	kept := func() (clusters, endpoints int) {
		h := m.source.hosts[hostsOf{m.source, testCluster}].value.byName["web.shop.svc.cluster.local"]
		return len(h.clusters), len(h.endpoints)
	}
	show := func() {
		m.resources(v, xds.TypeCluster)
		if m.resources(v, xds.TypeEndpoint, name)[name] == nil {
			t.Fatal("the subset has no endpoints")
		}
	}
	show()
	clusters, endpoints := kept()

	for range 10 {
		insert(m, m.store.Destinations, &model.DestinationRule{
			Cluster: testCluster, Namespace: "shop", Name: "web", Host: "web.shop.svc.cluster.local",
			Subsets: []model.Subset{{Name: "v2", Labels: map[string]string{"version": "v2"}}},
		})
		show()
	}
	if c, e := kept(); c != clusters || e != endpoints {
		t.Errorf("%d clusters and %d load assignments are kept, before the edits %d and %d", c, e, clusters, endpoints)
	}
}

// The listener of each pod that a headless service ever had was kept, and so were
// the routes and listeners of ports that services had no longer.
func TestNothingIsKeptOfPodsAndPortsThatWent(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	v := m.view(node("sidecar", "shop", "web-1", nil)).(*view)
	kept := func() string {
		for _, typeURL := range allTypes {
			m.resources(v, typeURL)
		}
		h := v.scope.sights.value.byName["set.data.svc.cluster.local"]
		sc := v.scope
		return fmt.Sprintf("%d listeners of the host, %d routes, %d and %d shared ports, %d and %d shared addresses",
			len(h.listeners), len(sc.routes)+len(sc.routed), len(sc.anywhere), len(sc.wildcards), len(sc.claimants), len(sc.shared))
	}
	// shared gives two hosts one address and port, and a third an undeclared
	// port and one of HTTP.
	shared := func(number uint16) {
		for _, name := range []string{"a", "b"} {
			insert(m, m.store.Services, &model.Service{
				Host: name + ".example.com", Cluster: testCluster, Namespace: "shop", Name: name, Origin: model.FromServiceEntry,
				Addresses: []netip.Prefix{netip.MustParsePrefix("240.1.0.1/32")}, Ports: []model.Port{port("p", number, model.TLS, number)},
			})
		}
		insert(m, m.store.Services, service("shop", "odd", "10.96.0.77",
			port("odd", number+1, model.Unknown, number), port("http", number+2, model.HTTP, number)))
	}

	set := service("data", "set", "", port("tcp", 7777, model.TCP, 7777), port("http", 80, model.HTTP, 80))
	shared(1000)
	before := kept()
	for i := range 10 {
		m.endpoints(set, fmt.Sprintf("10.0.9.%d", i))
		shared(uint16(1010 + 10*i))
		if now := kept(); now != before {
			t.Fatalf("after %d changes: %s; before: %s", i+1, now, before)
		}
	}
}
