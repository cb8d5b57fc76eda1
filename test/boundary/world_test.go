// Package boundary holds the two sides together to what a mesh promises at its
// edges: real resources of xds/resources in real proxies on loopback, strangers and
// members in front of them. Each test was a way in, or a way to do harm, once.
//
// Two things stand in for what a pod has: a relay for the packet rules that
// lead a pod's traffic to its sidecar, and loopback addresses for those of
// pods.
package boundary

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/proxy"
	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
	"github.com/isthmus-mesh/isthmus/xds/resources"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	cluster = model.ClusterID("c1")
	// patience bounds every wait for an answer.
	patience = 5 * time.Second
	// gatewayPort is the one that the resources name; the listener is put on
	// a free port, so that tests can run beside each other.
	gatewayPort = 15443
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority issues certificates under a root of its own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "root"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{cert, key}
}

// issue makes a certificate for a SPIFFE id.
func (a *authority) issue(t *testing.T, spiffe string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	id, err := url.Parse(spiffe)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		URIs:         []*url.URL{id},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// identity is a workload's identity that never changes.
type identity struct {
	cert  *tls.Certificate
	roots *x509.CertPool
}

func (i *identity) Certificate() *tls.Certificate { return i.cert }
func (i *identity) Roots() *x509.CertPool         { return i.roots }
func (i *identity) Changed() <-chan struct{}      { return nil }

func (a *authority) identity(t *testing.T, spiffe string) *identity {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &identity{a.issue(t, spiffe), roots}
}

// world is a gateway, and behind it an application, which speaks TLS itself,
// with its sidecar.
type world struct {
	t      *testing.T
	ctx    context.Context
	store  *model.Store
	source *resources.Source
	root   *authority
	other  *authority

	app         *application
	gateway     *proxy.Proxy
	gatewayAddr string
	gatewayNode serve.Node
	sidecar     *proxy.Proxy
	sidecarAddr string
	sidecarNode serve.Node
}

// vault is the application's host as another cluster names it.
const vault = "outbound_.8200_._.vault.prod.global"

// newWorld starts it. router tells whether discovery knows that the gateway's
// pod is a gateway.
func newWorld(t *testing.T, router bool) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	w := &world{
		t:           t,
		ctx:         ctx,
		root:        newAuthority(t),
		other:       newAuthority(t),
		gatewayAddr: freeAddress(t),
		sidecarAddr: freeAddress(t),
		gatewayNode: node("router", "istio-system", "gw-1", map[string]string{"istio": "ingressgateway"}),
		sidecarNode: node("sidecar", "prod", "vault-1", map[string]string{"app": "vault"}),
	}
	w.app = newApplication(t, w.other.issue(t, "spiffe://elsewhere/ns/none/sa/vault"))
	w.relay(&running)
	var err error
	w.store, err = model.NewStore()
	must(t, err)
	w.describe(router)
	w.source, err = resources.New(w.store, resources.Config{Cluster: cluster})
	must(t, err)
	running.Go(func() { w.source.Run(ctx) })

	w.sidecar, err = proxy.New(proxy.Config{
		Identity:    w.root.identity(t, "spiffe://cluster.local/ns/prod/sa/vault"),
		Registerer:  prometheus.NewRegistry(),
		DrainTime:   time.Millisecond,
		OriginalDst: func(*net.TCPConn) (netip.AddrPort, error) { return w.app.addr, nil },
	})
	must(t, err)
	w.gateway, err = proxy.New(proxy.Config{
		Identity:   w.root.identity(t, "spiffe://cluster.local/ns/istio-system/sa/gw"),
		Registerer: prometheus.NewRegistry(),
		DrainTime:  time.Millisecond,
	})
	must(t, err)
	running.Go(func() { _ = w.sidecar.Run(ctx) })
	running.Go(func() { _ = w.gateway.Run(ctx) })
	w.update()
	return w
}

// describe fills the model: what an installation of the multicluster gateways
// has, and the application. No PeerAuthentication: PERMISSIVE.
func (w *world) describe(router bool) {
	_, gatewayReal := split(w.t, w.gatewayAddr)
	app := w.app.addr.Port()
	svc := &model.Service{
		Host:      "vault.prod.svc.cluster.local",
		Cluster:   cluster,
		Namespace: "prod",
		Name:      "vault",
		Selector:  map[string]string{"app": "vault"},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.96.0.20/32")},
		Ports:     []model.Port{{Name: "https", Number: 8200, Protocol: model.TLS, Target: app}},
	}
	gw := &model.Service{
		Host:      "istio-ingressgateway.istio-system.svc.cluster.local",
		Cluster:   cluster,
		Namespace: "istio-system",
		Name:      "istio-ingressgateway",
		Selector:  map[string]string{"istio": "ingressgateway"},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.96.0.30/32")},
		Ports:     []model.Port{{Name: "tls", Number: gatewayPort, Protocol: model.TLS, Target: gatewayPort}},
	}
	insert(w, w.store.Clusters, &model.Cluster{ID: cluster, Synced: true})
	insert(w, w.store.Services, svc, gw)
	insert(w, w.store.Endpoints,
		&model.EndpointSet{Host: svc.Host, Cluster: cluster, Namespace: "prod", Name: "vault", Endpoints: []model.Endpoint{
			{Address: podAddress, Ports: map[string]uint16{"https": app}, TLS: true, Account: "prod/vault"},
		}},
		&model.EndpointSet{Host: gw.Host, Cluster: cluster, Namespace: "istio-system", Name: "istio-ingressgateway", Endpoints: []model.Endpoint{
			{Address: "127.0.0.1", Ports: map[string]uint16{"tls": gatewayReal}, TLS: true, Account: "istio-system/gw", Router: router},
		}})
	insert(w, w.store.Workloads, &model.Workload{
		Cluster: cluster, Namespace: "prod", Name: "vault-1", Account: "vault",
		Labels: map[string]string{"app": "vault"}, Addresses: []string{podAddress}, TLS: true,
	})
	insert(w, w.store.Gateways, &model.Gateway{
		Cluster: cluster, Namespace: "istio-system", Name: "istio-multicluster-ingressgateway",
		Selector: map[string]string{"istio": "ingressgateway"},
		Servers: []model.GatewayServer{
			{Port: gatewayPort, Hosts: []string{"*.global"}},
			{Port: gatewayPort, Mode: model.PassTLS, Hosts: []string{"istiod.istio-system.svc.cluster.local"}},
		},
	})
}

func insert[R model.Row](w *world, table model.Table[R], rows ...R) {
	w.t.Helper()
	txn := w.store.Write()
	defer txn.Commit()
	for _, r := range rows {
		_, _, err := table.Insert(txn, r)
		must(w.t, err)
	}
}

func node(kind, namespace, name string, labels map[string]string) serve.Node {
	fields := map[string]*structpb.Value{}
	for k, v := range labels {
		fields[k] = structpb.NewStringValue(v)
	}
	return serve.Node{
		ID: xds.NodeID{Kind: kind, IP: netip.MustParseAddr("127.0.0.1"), Pod: name, Namespace: namespace, Domain: "cluster.local"},
		Core: &corev3.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"CLUSTER_ID": structpb.NewStringValue(string(cluster)),
			"LABELS":     structpb.NewStructValue(&structpb.Struct{Fields: fields}),
		}}},
	}
}

// set gives the application's namespace a PeerAuthentication, and both proxies
// what follows from it.
func (w *world) set(mode model.MTLSMode) {
	w.t.Helper()
	_, remapped, err := w.source.View(w.ctx, w.sidecarNode)
	must(w.t, err)
	insert(w, w.store.Peers, &model.PeerAuthentication{Cluster: cluster, Namespace: "prod", Name: "default", Mode: mode})
	select {
	case <-remapped:
	case <-time.After(patience):
		w.t.Fatal("nobody is told that the sidecar's resources have changed")
	}
	w.update()
}

// update hands both proxies what is built for them now.
func (w *world) update() {
	w.t.Helper()
	w.apply(w.gateway, w.gatewayNode, w.gatewayAddr, func(string) bool { return true })
	w.apply(w.sidecar, w.sidecarNode, w.sidecarAddr, func(name string) bool { return name == "virtualInbound" })
}

// apply gives a proxy what is built for a node, except for the listeners that
// are not wanted. The listener is put on addr.
func (w *world) apply(p *proxy.Proxy, n serve.Node, addr string, wanted func(listener string) bool) {
	w.t.Helper()
	view, _, err := w.source.View(w.ctx, n)
	must(w.t, err)
	for _, typeURL := range []string{xds.TypeCluster, xds.TypeEndpoint, xds.TypeListener} {
		var names []string
		if typeURL == xds.TypeEndpoint {
			names = p.Wanted(typeURL)
		}
		all, _, err := view.Resources(typeURL, names)
		must(w.t, err)
		var add []fetch.Resource
		for _, r := range all.All() {
			body := r.Body
			if typeURL == xds.TypeCluster && strings.HasPrefix(r.Name, "passthrough|") {
				body = w.led(body)
			}
			if typeURL == xds.TypeListener {
				if !wanted(r.Name) {
					continue
				}
				body = w.moved(body, addr)
			}
			add = append(add, fetch.Resource{Name: r.Name, Version: r.Version, Body: body})
		}
		must(w.t, p.Apply(typeURL, add, nil))
	}
}

// led is the cluster of a named Service, with the application's address in the
// place of the Service's name, which no DNS here knows.
func (w *world) led(body *anypb.Any) *anypb.Any {
	w.t.Helper()
	c := &clusterv3.Cluster{}
	must(w.t, body.UnmarshalTo(c))
	socket := c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress()
	socket.Address = w.app.addr.Addr().String()
	socket.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(w.app.addr.Port())}
	out, err := anypb.New(c)
	must(w.t, err)
	return out
}

// moved is a listener on another address.
func (w *world) moved(body *anypb.Any, addr string) *anypb.Any {
	w.t.Helper()
	l := &listenerv3.Listener{}
	must(w.t, body.UnmarshalTo(l))
	host, port := split(w.t, addr)
	socket := l.GetAddress().GetSocketAddress()
	socket.Address = host
	socket.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(port)}
	out, err := anypb.New(l)
	must(w.t, err)
	return out
}

func split(t *testing.T, addr string) (string, uint16) {
	t.Helper()
	parsed, err := netip.ParseAddrPort(addr)
	must(t, err)
	return parsed.Addr().String(), parsed.Port()
}

// freeAddress is one that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

const (
	appAddress = "127.0.0.3"
	podAddress = "127.0.0.2"
	answer     = "the application answers"
)

// application speaks TLS and counts who gets to it.
type application struct {
	addr    netip.AddrPort
	reached atomic.Int64 // connections, whatever came of them
}

func newApplication(t *testing.T, cert *tls.Certificate) *application {
	t.Helper()
	l, err := net.Listen("tcp", appAddress+":0")
	must(t, err)
	a := &application{addr: netip.MustParseAddrPort(l.Addr().String())}
	accept(t, l, func(c net.Conn) {
		a.reached.Add(1)
		secure := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}})
		if _, err := bufio.NewReader(secure).ReadString('\n'); err == nil {
			_, _ = fmt.Fprintln(secure, answer)
		}
	})
	return a
}

// relay stands in for the packet rules: what goes to the pod comes to the
// sidecar.
func (w *world) relay(running *sync.WaitGroup) {
	w.t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", podAddress, w.app.addr.Port()))
	must(w.t, err)
	accept(w.t, l, func(c net.Conn) {
		up, err := net.Dial("tcp", w.sidecarAddr)
		if err != nil {
			return
		}
		running.Go(func() {
			_, _ = io.Copy(up, c)
			_ = up.(*net.TCPConn).CloseWrite()
		})
		_, _ = io.Copy(c, up)
		_ = up.Close()
	})
}

// accept serves connections, each bounded in time, until the test ends.
func accept(t *testing.T, l net.Listener, serve func(net.Conn)) {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(2 * patience))
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
}
