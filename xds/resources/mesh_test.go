package resources

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

func TestMain(m *testing.M) { leak.Main(m) }

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

func insert[R model.Row](m *mesh, t model.Table[R], rows ...R) {
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
		Accounts: []string{s.Namespace + "/" + s.Name}}
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
			traits.Members = append(traits.Members, set.Endpoints[len(set.Endpoints)-1])
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
		ID: xds.NodeID{Kind: kind, IP: netip.MustParseAddr("10.0.0.1"), Pod: name, Namespace: ns, Domain: "cluster.local"},
		Core: &corev3.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"CLUSTER_ID": structpb.NewStringValue(string(testCluster)),
			"LABELS":     structpb.NewStructValue(&structpb.Struct{Fields: fields}),
		}}},
	}
}

// takesHosts is the node of a proxy that takes virtual hosts as resources.
func takesHosts(n serve.Node) serve.Node {
	n.Delta, n.Core.ClientFeatures = true, []string{xds.FeatureVirtualHosts}
	return n
}

func (m *mesh) view(n serve.Node) serve.View {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, 20*time.Second)
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
	return res.Map()
}

var allTypes = xds.Types()

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
