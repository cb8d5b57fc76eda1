// Package conformance holds the control plane and the data plane to the one
// contract between them: whatever xds/resources emits, for whatever the model
// holds, is valid Envoy configuration, and the built-in proxy accepts it.
//
// It takes resources from their source, without the server around it (package
// discovery): what is drawn at random are rows, which need not come from objects.
package conformance

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/statedb"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/dns"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/nds"
	"github.com/isthmus-mesh/isthmus/xds/resources"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

const cluster = model.ClusterID("Kubernetes")

var decoders = map[string]func(*anypb.Any) error{
	xds.TypeCluster:  decode(config.DecodeCluster),
	xds.TypeEndpoint: decode(config.DecodeLoadAssignment),
	xds.TypeListener: decode(config.DecodeListener),
	xds.TypeRoute:    decode(config.DecodeRouteConfiguration),

	xds.TypeVirtualHost: decode(config.DecodeVirtualHost),
	xds.TypeSecret:      decode(config.DecodeSecret),
	xds.TypeNameTable: func(body *anypb.Any) error {
		table := &nds.NameTable{}
		if err := body.UnmarshalTo(table); err != nil {
			return err
		}
		_, err := dns.NewTable(table, dns.Home{Namespace: "ns0", Domain: "cluster.local", Search: "ns0.svc.cluster.local"})
		return err
	},
}

func decode[T any](f func(*anypb.Any) (T, error)) func(*anypb.Any) error {
	return func(body *anypb.Any) error { _, err := f(body); return err }
}

// TestProxyAcceptsWhatIsBuilt draws meshes at random, and asks for the
// resources of every proxy in them.
func TestProxyAcceptsWhatIsBuilt(t *testing.T) {
	total := map[string]int{}
	for seed := range uint64(150) {
		m := drawMesh(t, rand.New(rand.NewPCG(seed, 1)))
		src, err := resources.New(m.store, resources.Config{Cluster: cluster, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range m.nodes {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			view, _, err := src.View(ctx, node)
			cancel()
			if err != nil {
				t.Fatalf("seed %d, %s: %v", seed, node.ID, err)
			}
			for typeURL, accept := range decoders {
				all, _, err := view.Resources(typeURL, nil)
				if err != nil {
					t.Fatalf("seed %d, %s: %v", seed, node.ID, err)
				}
				for name, res := range all.All() {
					total[typeURL]++
					if err := valid(res.Body); err != nil {
						t.Errorf("seed %d, %s, %s: not valid: %v", seed, node.ID, name, err)
					}
					if err := accept(res.Body); err != nil {
						t.Errorf("seed %d, %s, %s: the proxy refuses it: %v", seed, node.ID, name, err)
					}
				}
			}
		}
	}
	for typeURL := range decoders {
		if total[typeURL] == 0 {
			t.Errorf("no %s was built: the test shows nothing of it", typeURL)
		}
	}
	t.Log(total)
}

// TestGivenAddresses: what a sidecar catches is what the mesh gives out. Package api
// knows nothing of package xds, and says so by itself.
func TestGivenAddresses(t *testing.T) {
	if api.AllocationRange() != xds.EntryRange() || xds.EntryRange().Overlaps(xds.ElsewhereRange()) {
		t.Errorf("ServiceEntries are given addresses of %s; sidecars catch %s, and %s for services of other clusters",
			api.AllocationRange(), xds.EntryRange(), xds.ElsewhereRange())
	}
}

// valid applies the constraints that the protos state of themselves.
func valid(body *anypb.Any) error {
	msg, err := body.UnmarshalNew()
	if err != nil {
		return err
	}
	if _, names := msg.(*nds.NameTable); names {
		return nil // Istio's message states none
	}
	if v, ok := msg.(interface {
		proto.Message
		ValidateAll() error
	}); ok {
		return v.ValidateAll()
	}
	return fmt.Errorf("%s cannot be validated", body.GetTypeUrl())
}

// mesh is a model and the proxies in it.
type mesh struct {
	store *model.Store
	nodes []serve.Node
	t     *testing.T
	r     *rand.Rand
	txn   model.WriteTxn
}

func drawMesh(t *testing.T, r *rand.Rand) *mesh {
	t.Helper()
	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{store: store, t: t, r: r, txn: store.Write()}
	insert(m, store.Clusters, &model.Cluster{ID: cluster, Network: "network1", Synced: true})
	all := model.DefaultMesh(cluster)
	drawMeshTraffic(r, all)
	insert(m, store.Meshes, all)
	for _, ns := range []string{"istio-system", "foo", "bar"} {
		insert(m, store.Namespaces, &model.Namespace{Cluster: cluster, Name: ns})
	}
	for i := range 1 + r.IntN(6) {
		m.drawPod(i)
	}
	for i := range 1 + r.IntN(8) {
		m.drawService(i)
	}
	m.drawPolicies()
	if r.IntN(2) == 0 {
		m.drawFarCluster()
	}
	m.txn.Commit()
	return m
}

func insert[R model.Row](m *mesh, table statedb.RWTable[R], row R) {
	if _, _, err := table.Insert(m.txn, row); err != nil {
		m.t.Fatalf("%s: %v", table.Name(), err)
	}
}

// pick is one of the choices.
func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

func (m *mesh) drawPod(i int) {
	ns, addr := pick(m.r, "foo", "bar"), fmt.Sprintf("10.1.0.%d", i+1)
	pod := &model.Workload{
		Cluster: cluster, Namespace: ns, Name: fmt.Sprintf("pod-%d", i), Addresses: []string{addr},
		Account: pick(m.r, "default", "reviews"), Labels: map[string]string{"app": pick(m.r, "a", "b")},
		Ports: map[string]uint16{"web": 8080}, Locality: model.MakeLocality(pick(m.r, "", "region-1"), "zone", ""),
		Network: "network1", TLS: m.r.IntN(3) > 0, Owner: "owner",
	}
	insert(m, m.store.Workloads, pod)
	// Of the two forms of routes, one is asked for after the other.
	n := node("sidecar", pod)
	if i%2 == 1 {
		n = takesHosts(n)
	}
	m.nodes = append(m.nodes, n)
	if i == 0 {
		gw := &model.Workload{
			Cluster: cluster, Namespace: "istio-system", Name: "gw", Addresses: []string{"10.1.1.1"},
			Account: "gw", Labels: map[string]string{"istio": "ingressgateway"}, Network: "network1", Router: true,
		}
		insert(m, m.store.Workloads, gw)
		m.nodes = append(m.nodes, node("router", gw))
	}
}

func node(kind string, pod *model.Workload) serve.Node {
	labels := map[string]any{}
	for k, v := range pod.Labels {
		labels[k] = v
	}
	meta, err := structpb.NewStruct(map[string]any{
		"CLUSTER_ID": string(pod.Cluster), "NETWORK": pod.Network, "NAMESPACE": pod.Namespace,
		"SERVICE_ACCOUNT": pod.Account, "NAME": pod.Name, "LABELS": labels,
	})
	if err != nil {
		panic(err)
	}
	id := xds.NodeID{Kind: kind, IP: netip.MustParseAddr(pod.Addresses[0]), Pod: pod.Name, Namespace: pod.Namespace, Domain: "cluster.local"}
	return serve.Node{
		ID: id, Core: &corev3.Node{Id: id.String(), Metadata: meta},
		Identity: identity.ID{TrustDomain: "cluster.local", Namespace: pod.Namespace, ServiceAccount: pod.Account},
	}
}

// takesHosts is the node of a proxy that takes virtual hosts as resources.
func takesHosts(n serve.Node) serve.Node {
	n.Delta, n.Core.ClientFeatures = true, []string{xds.FeatureVirtualHosts}
	return n
}

func (m *mesh) drawService(i int) {
	r := m.r
	ns, name := pick(r, "foo", "bar"), fmt.Sprintf("svc-%d", i)
	svc := &model.Service{
		Host: name + "." + ns + ".svc.cluster.local", Cluster: cluster, Namespace: ns, Name: name,
		Created:   time.Unix(int64(i), 0),
		Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(i + 1)}), 32)},
		Selector:  map[string]string{"app": pick(r, "a", "b")},
		NodeLocal: r.IntN(6) == 0, Distribution: model.Distribution(r.IntN(3)),
		ExportTo: pick(r, nil, []string{ns}),
	}
	for n := range 1 + r.IntN(3) {
		svc.Ports = append(svc.Ports, model.Port{
			Name: fmt.Sprint("p", n), Number: uint16(80 + n), Target: pick(r, uint16(8080+n), uint16(80+n)),
			Protocol: model.Protocol(r.IntN(int(lastProtocol(r)) + 1)),
		})
	}
	switch r.IntN(6) {
	case 2:
		svc.Alias, svc.External, svc.Selector, svc.Addresses = pick(r, "svc-0.foo.svc.cluster.local", "example.com"), true, nil, nil
		svc.Resolution = model.ByDNS
		svc.Resolved = []model.Endpoint{{Address: svc.Alias, Ports: map[string]uint16{"p0": 80}}}
	case 0:
		svc.Headless, svc.Resolution, svc.Addresses = true, model.ByDestination, nil
	case 1:
		m.serviceEntry(svc)
	}
	insert(m, m.store.Services, svc)
	if svc.Resolution != model.ByDNS {
		insert(m, m.store.Endpoints, m.drawEndpoints(svc))
	}
	insert(m, m.store.Traits, &model.Traits{
		Host: svc.Host, Cluster: cluster, Namespace: ns, Name: name,
		Accounts: pick(r, nil, []string{ns + "/default"}),
	})
}

// lastProtocol finds the highest protocol that has a name of its own.
func lastProtocol(*rand.Rand) model.Protocol {
	p := model.Unknown
	for next := p + 1; next.String() != model.Protocol(255).String(); next++ {
		p = next
	}
	return p
}

// serviceEntry turns the service into one that a ServiceEntry declares.
func (m *mesh) serviceEntry(svc *model.Service) {
	r := m.r
	svc.Origin, svc.Selector = model.FromKubernetes+1, nil
	svc.Host = pick(r, svc.Name+".bar.global", "*."+svc.Name+".example.com", svc.Name+".example.com")
	svc.External = r.IntN(2) == 0
	svc.Resolution = pick(r, model.ByEndpoints, model.ByDNS, model.ByDestination)
	if r.IntN(3) == 0 {
		svc.Addresses = nil
	} else if r.IntN(3) == 0 {
		svc.Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
	}
	if r.IntN(2) == 0 {
		svc.SubjectAltNames = []string{"spiffe://cluster.local/ns/bar/sa/x"}
	}
	if svc.Resolution == model.ByDNS {
		ports := map[string]uint16{"p0": 15443}
		svc.Resolved = []model.Endpoint{{Address: pick(r, "172.18.0.3", "gateway.example.com"), Ports: ports}}
		if r.IntN(2) == 0 {
			svc.Resolved = append(svc.Resolved,
				model.Endpoint{Address: "near.example.com", Ports: ports, Locality: "region-1/zone"},
				model.Endpoint{Address: "far.example.com", Ports: ports, Locality: "region-2/zone", Weight: 3})
		}
	}
}

func (m *mesh) drawEndpoints(svc *model.Service) *model.EndpointSet {
	set := &model.EndpointSet{Host: svc.Host, Cluster: cluster, Namespace: svc.Namespace, Name: svc.Name}
	ports := map[string]uint16{}
	for _, p := range svc.Ports {
		ports[p.Name] = p.Target
	}
	for i := range m.r.IntN(4) {
		set.Endpoints = append(set.Endpoints, model.Endpoint{
			Address: fmt.Sprintf("10.1.0.%d", i+1), Ports: ports, Network: "network1",
			Locality: model.MakeLocality(pick(m.r, "region-1", "region-2"), "zone", ""), TLS: m.r.IntN(2) == 0,
			Router: m.r.IntN(4) == 0, Capture: pick(m.r, nil, &model.Capture{Except: []uint16{8081}}),
			Account: svc.Namespace + "/default", Workload: "w;" + svc.Namespace + ";w;v1;Kubernetes",
			Labels: map[string]string{"version": pick(m.r, "v1", "v2")}, Weight: uint32(m.r.IntN(3)),
		})
	}
	return set
}

func drawLocalitySetting(r *rand.Rand) *model.LocalitySetting {
	return pick(r, nil,
		&model.LocalitySetting{Off: true},
		&model.LocalitySetting{Failover: map[string]string{"region-1": "region-2"}},
		&model.LocalitySetting{Distribute: []model.Distribute{{From: "region-1/*", To: []model.LocalityShare{
			{To: "region-1/zone", Percent: 70}, {To: "region-2", Percent: 30},
		}}}},
		&model.LocalitySetting{Priority: []model.PriorityLabel{{Key: "topology.istio.io/cluster"}, {Key: "version", Fixed: true, Value: "v1"}, {Key: "app"}}},
	)
}

func (m *mesh) drawPolicies() {
	r := m.r
	modes := []model.MTLSMode{model.MTLSUnset, model.MTLSDisable, model.MTLSPermissive, model.MTLSStrict}
	for i := range r.IntN(4) {
		insert(m, m.store.Peers, &model.PeerAuthentication{
			Cluster: cluster, Namespace: pick(r, "istio-system", "foo", "bar"), Name: fmt.Sprint("pa-", i), Created: time.Unix(int64(i), 0),
			Selector: pick(r, nil, map[string]string{"app": "a"}), Mode: pick(r, modes...),
			Ports: pick(r, nil, map[uint16]model.MTLSMode{8080: pick(r, modes...)}),
		})
	}
	for i := range r.IntN(4) {
		tls := pick(r, nil, &model.ClientTLS{Mode: model.ClientTLSDisable}, &model.ClientTLS{Mode: model.ClientTLSMutualMesh},
			&model.ClientTLS{Mode: model.ClientTLSMutualMesh, SNI: "sni.example.com", SubjectAltNames: []string{"spiffe://x/ns/y/sa/z"}},
			&model.ClientTLS{Mode: model.ClientTLSOwn, SkipVerify: r.IntN(2) == 0},
			&model.ClientTLS{Mode: model.ClientTLSOwn, SNI: "sni.example.com", Roots: "/etc/ca.pem"},
			&model.ClientTLS{Mode: model.ClientTLSOwn, SubjectAltNames: []string{"a.example", "10.0.0.1"}, Certificate: "/etc/tls.crt", KeyFile: "/etc/tls.key"})
		insert(m, m.store.Destinations, &model.DestinationRule{
			Cluster: cluster, Namespace: pick(r, "istio-system", "foo", "bar"), Name: fmt.Sprint("dr-", i), Created: time.Unix(int64(i), 0),
			Host:    pick(r, "*.global", "svc-0.foo.svc.cluster.local", "svc-1.bar.svc.cluster.local", "*.example.com"),
			Policy:  drawTraffic(r, tls),
			Subsets: pick(r, nil, []model.Subset{{Name: "v1", Labels: map[string]string{"version": "v1"}}}),
		})
	}
	if r.IntN(2) == 0 {
		insert(m, m.store.Gateways, &model.Gateway{
			Cluster: cluster, Namespace: "istio-system", Name: "gw", Selector: map[string]string{"istio": "ingressgateway"},
			Servers: []model.GatewayServer{{Port: 15443, Hosts: pick(r, []string{"*.global"}, []string{"*.global", "*.local"}, []string{"*"})},
				{Port: pick[uint16](r, 15012, 15443), Mode: model.PassTLS, Hosts: []string{"istiod.istio-system.svc.cluster.local"}},
				{Port: 80, Mode: model.ServeHTTP, Hosts: []string{"*"}, RedirectToHTTPS: r.IntN(3) == 0},
				{Port: pick[uint16](r, 443, 15443), Mode: model.ServeHTTPS, Name: "https", Hosts: pick(r, []string{"*"}, []string{"foo/a.example.com", "b.example.com"}),
					TLS: model.ServerTLS{Credential: "shop", Client: pick(r, model.ClientCertNone, model.ClientCertOptional, model.ClientCertRequired)}}},
		})
		insert(m, m.store.Credentials, shopCredential(m.t))
	}
}
