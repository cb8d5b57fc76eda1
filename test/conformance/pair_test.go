package conformance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/proxy"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
	"github.com/isthmus-mesh/isthmus/xds/resources"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// Addresses on loopback in the place of pods and applications. Nothing is
// redirected here: the server's sidecar listens at the pod's address itself, and
// is told that connections wanted to go to the application's.
const (
	podAddress = "127.0.0.2"
	appAddress = "127.0.0.3"
	webVIP     = "10.96.0.10"
)

// pair is a client's and a server's sidecar, configured by what xds/resources makes
// of one mesh, with a service web of one pod between them.
type pair struct {
	t              *testing.T
	store          *model.Store
	source         *resources.Source
	port           uint16 // of the application, and of the pod
	ca             *mtlstest.CA
	client, server *sidecar
}

type sidecar struct {
	*proxy.Proxy
	node serve.Node
	// hosts are the virtual hosts that it was given last.
	hosts serve.Set
	// destination is where the connections to come want to go.
	destination atomic.Pointer[netip.AddrPort]
}

func newPair(t *testing.T) *pair {
	t.Helper()
	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	source, err := resources.New(store, resources.Config{Cluster: cluster})
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, store: store, source: source, port: application(t)}
	run(t, source.Run)
	put(p, store.Clusters, &model.Cluster{ID: cluster, Synced: true})
	p.ca = mtlstest.NewCA(t, "root")
	pod := &model.Workload{Cluster: cluster, Namespace: "shop", Name: "web-1", Account: "web", Labels: map[string]string{"app": "web"}, Addresses: []string{podAddress}, TLS: true}
	caller := &model.Workload{Cluster: cluster, Namespace: "client", Name: "c-1", Account: "caller", Addresses: []string{"127.0.0.1"}, TLS: true}
	put(p, store.Workloads, pod, caller)
	put(p, store.Services, &model.Service{
		Host: "web.shop.svc.cluster.local", Cluster: cluster, Namespace: "shop", Name: "web", Selector: pod.Labels,
		Addresses: []netip.Prefix{netip.MustParsePrefix(webVIP + "/32")},
		Ports:     []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, Target: p.port}},
	})
	p.endpoint(&model.Endpoint{})
	p.server = p.start(node("sidecar", pod), p.ca.Identity("spiffe://cluster.local/ns/shop/sa/web"))
	p.client = p.start(takesHosts(node("sidecar", caller)), p.ca.Identity("spiffe://cluster.local/ns/client/sa/caller"))
	p.server.wants(appAddress, p.port)
	p.configure()
	return p
}

// endpoint sets the one endpoint of web; like gives what is special about it.
func (p *pair) endpoint(like *model.Endpoint) {
	e := *like
	e.Address, e.TLS, e.Account, e.Labels = podAddress, true, "shop/web", map[string]string{"app": "web"}
	e.Ports = map[string]uint16{"http": p.port}
	put(p, p.store.Endpoints, &model.EndpointSet{Host: "web.shop.svc.cluster.local", Cluster: cluster, Namespace: "shop", Name: "web", Endpoints: []model.Endpoint{e}})
}

func put[R model.Row](p *pair, table model.Table[R], rows ...R) {
	p.t.Helper()
	txn := p.store.Write()
	defer txn.Commit()
	for _, r := range rows {
		if _, _, err := table.Insert(txn, r); err != nil {
			p.t.Fatal(err)
		}
	}
}

// run runs a part until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// application answers every request with its Host, what is said of the caller, its
// path and its field x-version, at a port that is free at the pod's address too.
func application(t *testing.T) uint16 {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", appAddress+":0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		free, err := net.Listen("tcp", fmt.Sprintf("%s:%d", podAddress, port))
		if err != nil {
			l.Close()
			continue
		}
		free.Close()
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s\n%s\n%s\n%s\n", r.Host, r.Header.Get("X-Forwarded-Client-Cert"), r.RequestURI, r.Header.Get("X-Version"))
		}), ReadHeaderTimeout: 10 * time.Second}
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(true)
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { s.Close() })
		return uint16(port)
	}
	t.Fatal("no port is free at both addresses")
	return 0
}

func (p *pair) start(n serve.Node, id *mtlstest.Identity) *sidecar {
	p.t.Helper()
	s := &sidecar{node: n}
	var err error
	s.Proxy, err = proxy.New(proxy.Config{
		Identity: id, Registerer: prometheus.NewRegistry(), DrainTime: 100 * time.Millisecond,
		OriginalDst: func(*net.TCPConn) (netip.AddrPort, error) { return *s.destination.Load(), nil },
	})
	if err != nil {
		p.t.Fatal(err)
	}
	run(p.t, s.Run)
	return s
}

func (s *sidecar) wants(address string, port uint16) {
	a := netip.AddrPortFrom(netip.MustParseAddr(address), port)
	s.destination.Store(&a)
}

// configure brings both sidecars up to date, the server first, as if nothing
// stood between a change and its arrival.
func (p *pair) configure() {
	p.t.Helper()
	p.apply(p.server, "virtualInbound", podAddress, p.port)
	p.apply(p.client, "virtualOutbound", "127.0.0.1", 0)
}

// apply gives a sidecar its resources. Of the two listeners that have a socket it
// gets one, at an address of the test's own.
func (p *pair) apply(s *sidecar, socket, address string, port uint16) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	view, _, err := p.source.View(ctx, s.node)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, typeURL := range []string{xds.TypeCluster, xds.TypeEndpoint, xds.TypeListener, xds.TypeRoute, xds.TypeVirtualHost, xds.TypeSecret} {
		res, _, err := view.Resources(typeURL, s.Wanted(typeURL))
		if err != nil {
			p.t.Fatal(err)
		}
		var add []fetch.Resource
		for name, r := range res.All() {
			body := r.Body
			if typeURL == xds.TypeListener {
				if body = at(p.t, body, socket, address, port); body == nil {
					continue
				}
			}
			add = append(add, fetch.Resource{Name: name, Version: r.Version, Body: body})
		}
		if err := s.Apply(typeURL, add, s.gone(typeURL, res)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// gone lists the virtual hosts that the sidecar had at the last time and has not now.
// Of the other types, what is left out is of no consequence here.
func (s *sidecar) gone(typeURL string, now serve.Set) []string {
	switch typeURL {
	case xds.TypeSecret:
		return slices.DeleteFunc(s.Wanted(typeURL), func(name string) bool { return now.Get(name) != nil })
	case xds.TypeVirtualHost:
	default:
		return nil
	}
	var out []string
	for name := range s.hosts.All() {
		if now.Get(name) == nil {
			out = append(out, name)
		}
	}
	s.hosts = now
	return out
}

// at moves the listener of the name to an address. It is nil for another one that
// has a socket.
func at(t *testing.T, body *anypb.Any, name, address string, port uint16) *anypb.Any {
	t.Helper()
	l := &listenerv3.Listener{}
	if err := body.UnmarshalTo(l); err != nil {
		t.Fatal(err)
	}
	if l.BindToPort != nil && !l.BindToPort.Value {
		return body
	}
	if l.Name != name {
		return nil
	}
	l.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
	out, err := anypb.New(l)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// get sends a request from the client to an address, and returns the Host that
// the application saw and the caller as the server's sidecar proved it.
func (p *pair) get(address string, port uint16, host string) (gotHost, caller string) {
	p.t.Helper()
	status, _, body := p.ask(address, port, "GET / HTTP/1.1\r\nHost: "+host+"\r\n")
	if status != http.StatusOK {
		p.t.Fatalf("status %d, body %q", status, body)
	}
	lines := strings.Split(body, "\n")
	return lines[0], lines[1]
}

// ask sends a request from the client to an address.
func (p *pair) ask(address string, port uint16, head string) (status int, header http.Header, body string) {
	p.t.Helper()
	p.client.wants(address, port)
	addr, ok := p.client.Addr("virtualOutbound")
	if !ok {
		p.t.Fatal("the client has no listener")
	}
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "%sConnection: close\r\n\r\n", head)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("status %d, body %q, error %v", resp.StatusCode, all, err)
	}
	return resp.StatusCode, resp.Header, string(all)
}

// isCaller tells whether the client was proved to be who it is.
func isCaller(xfcc string) bool {
	return strings.Contains(xfcc, "URI=spiffe://cluster.local/ns/client/sa/caller")
}

// TestClientFollowsServer: whatever a PeerAuthentication makes of the server,
// its clients in the mesh are answered.
func TestClientFollowsServer(t *testing.T) {
	p := newPair(t)
	web := map[string]string{"app": "web"}
	for _, tt := range []struct {
		name   string
		policy *model.PeerAuthentication
		mutual bool
	}{
		{
			name:   "permissive",
			policy: &model.PeerAuthentication{Mode: model.MTLSPermissive},
			mutual: true,
		},
		{
			name:   "strict",
			policy: &model.PeerAuthentication{Mode: model.MTLSStrict},
			mutual: true,
		},
		{
			name:   "off for the port",
			policy: &model.PeerAuthentication{Selector: web, Mode: model.MTLSStrict, Ports: map[uint16]model.MTLSMode{p.port: model.MTLSDisable}},
		},
		{
			name:   "off for the workload",
			policy: &model.PeerAuthentication{Selector: web, Mode: model.MTLSDisable},
		},
		{
			name:   "strict again",
			policy: &model.PeerAuthentication{Mode: model.MTLSStrict},
			mutual: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.policy.Cluster, tt.policy.Namespace, tt.policy.Name = cluster, "shop", "p"
			put(p, p.store.Peers, tt.policy)
			p.configure()
			for range 3 {
				if _, caller := p.get(webVIP, 80, "web.shop"); isCaller(caller) != tt.mutual {
					t.Errorf("the caller is %q; mutual TLS is to be %t", caller, tt.mutual)
				}
			}
		})
	}
}

// TestPortOutsideOfTheProxy: what the pod keeps out of its proxy is spoken to as
// the application speaks.
func TestPortOutsideOfTheProxy(t *testing.T) {
	p := newPair(t)
	direct := p.port
	// The application itself answers at the pod's address: the sidecar is
	// moved away.
	p.endpoint(&model.Endpoint{Capture: &model.Capture{Except: []uint16{direct}}})
	p.apply(p.server, "virtualInbound", podAddress, 0)
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", podAddress, direct))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.Host) }), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	p.apply(p.client, "virtualOutbound", "127.0.0.1", 0)
	if host, _ := p.get(webVIP, 80, "web.shop"); host != "web.shop" {
		t.Errorf("the application saw the Host %q", host)
	}
}

// TestUnknownHostReachesTheService: an ingress controller in the mesh connects to
// a Service with the Host of its own client: the Service is reached, in mutual
// TLS, and sees that Host.
func TestUnknownHostReachesTheService(t *testing.T) {
	p := newPair(t)
	put(p, p.store.Peers, &model.PeerAuthentication{Cluster: cluster, Namespace: "shop", Name: "p", Mode: model.MTLSStrict})
	p.configure()
	for _, sent := range []string{"shop.example.com", "shop.example.com:8443", "web.shop.svc.cluster.local"} {
		host, caller := p.get(webVIP, 80, sent)
		if host != sent || !isCaller(caller) {
			t.Errorf("Host %s: the application saw %q of the caller %q", sent, host, caller)
		}
	}
}
