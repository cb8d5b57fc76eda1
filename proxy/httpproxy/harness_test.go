package httpproxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"hash"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
	"github.com/isthmus-mesh/isthmus/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// slots is a RouteProvider for tests.
type slots struct {
	mu sync.Mutex
	m  map[string]*routes.Slot
}

func (s *slots) Route(name string) *routes.Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string]*routes.Slot{}
	}
	if s.m[name] == nil {
		s.m[name] = &routes.Slot{}
	}
	return s.m[name]
}

// hop is a proxy with one listener on loopback.
type hop struct {
	t       testing.TB
	set     *upstream.Set
	server  *Server
	reg     *prometheus.Registry
	handler *Handler
	addr    string
	drain   chan struct{}
	tel     *telemetry.Telemetry
	ln      net.Listener
	conns   sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// setup changes the pieces of a hop before it starts.
type setup struct {
	hcm      config.HCM
	clusters []*config.Cluster
	info     func(*downstream.Info)
	tls      func(offered []string) *tls.Config
	identity mtls.Identity
	self     telemetry.Party
	openLog  telemetry.OpenLog
}

func staticCluster(name string, proto config.HTTPProtocol, addrs ...string) *config.Cluster {
	la := &config.LoadAssignment{Name: name, Localities: []config.LocalityEndpoints{{}}}
	for _, a := range addrs {
		ap := netip.MustParseAddrPort(a)
		la.Localities[0].Endpoints = append(la.Localities[0].Endpoints, config.Endpoint{
			Addr: ap.Addr(), Port: ap.Port(), Weight: 1, Healthy: true,
			Workload: config.Workload{Name: "server-v1", Namespace: "bar", App: "server", Version: "v1", Cluster: "c2"},
		})
	}
	return &config.Cluster{
		Name: name, Type: config.ClusterStatic, ConnectTimeout: 2 * time.Second, Endpoints: la,
		HTTP:    config.HTTPOptions{Protocol: proto},
		Service: config.Service{Host: "server.bar.svc.cluster.local", Name: "server", Namespace: "bar"},
	}
}

func mustAddr(addr string) netip.AddrPort { return netip.MustParseAddrPort(addr) }

// toCluster is a route configuration that sends everything to one cluster.
func toCluster(name string) *config.RouteConfig {
	return &config.RouteConfig{Name: "test", VirtualHosts: []*config.VirtualHost{{
		Name: "all", Domains: []string{"*"},
		Routes: []*config.Route{{
			Name: "default", Match: config.RouteMatch{Prefix: "/"},
			Action: &config.RouteAction{Cluster: name},
		}},
	}}}
}

func startHop(t testing.TB, s setup) *hop {
	t.Helper()
	h := &hop{t: t, reg: prometheus.NewRegistry(), drain: make(chan struct{}), open: map[net.Conn]struct{}{}}
	h.set = upstream.NewSet(upstream.Options{Identity: s.identity})
	tel, err := telemetry.NewTelemetry(telemetry.Config{Registerer: h.reg, Self: s.self, OpenLog: s.openLog})
	if err != nil {
		t.Fatal(err)
	}
	h.tel = tel
	for _, c := range s.clusters {
		if err := h.set.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	h.server, err = New(Config{Clusters: h.set, Routes: &slots{}, Telemetry: tel, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if s.hcm.IdleTimeout == 0 {
		s.hcm.IdleTimeout = time.Hour
	}
	if h.handler, err = h.server.Handler(&s.hcm); err != nil {
		t.Fatal(err)
	}
	if h.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	h.addr = h.ln.Addr().String()
	h.conns.Add(1)
	go h.accept(s)
	t.Cleanup(h.close)
	return h
}

func (h *hop) accept(s setup) {
	defer h.conns.Done()
	for {
		conn, err := h.ln.Accept()
		if err != nil {
			return
		}
		h.conns.Add(1)
		go func() {
			defer h.conns.Done()
			h.mu.Lock()
			h.open[conn] = struct{}{}
			h.mu.Unlock()
			h.serve(conn, s)
			_ = conn.Close()
			h.mu.Lock()
			delete(h.open, conn)
			h.mu.Unlock()
		}()
	}
}

func (h *hop) serve(conn net.Conn, s setup) {
	info := &downstream.Info{
		Direction: config.DirectionOutbound, Start: time.Now(), Drain: h.drain,
		Local: conn.LocalAddr().(*net.TCPAddr).AddrPort(), Peer: conn.RemoteAddr().(*net.TCPAddr).AddrPort(),
	}
	if s.info != nil {
		s.info(info)
	}
	if s.tls != nil {
		wrapped, err := mtls.NewConn(conn.(*net.TCPConn))
		if err != nil {
			h.t.Error(err)
			return
		}
		c := tls.Server(wrapped, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return s.tls(hello.SupportedProtos), nil
		}})
		if c.Handshake() != nil {
			return
		}
		st := c.ConnectionState()
		info.TLS = &downstream.TLS{ALPN: st.NegotiatedProtocol, OwnURI: "spiffe://cluster.local/ns/bar/sa/server"}
		if len(st.PeerCertificates) > 0 {
			info.TLS.Peer = st.PeerCertificates[0]
			info.TLS.PeerURI = st.PeerCertificates[0].URIs[0].String()
		}
		conn = c
	}
	h.handler.ServeConn(conn, info)
}

func (h *hop) close() {
	_ = h.ln.Close()
	h.mu.Lock()
	for c := range h.open {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.conns.Wait()
	h.set.Close()
}

// backend starts an HTTP server (HTTP/1 and cleartext HTTP/2) for a handler.
func backend(t testing.TB, handler http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveBackend(t, ln, handler)
}

// serveBackend is backend on a listener.
func serveBackend(t testing.TB, ln net.Listener, handler http.Handler) string {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: handler, Protocols: p, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return ln.Addr().String()
}

// rawBackend calls serve for each connection of a TCP listener.
func rawBackend(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer stop()
				defer c.Close()
				serve(c)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		cancel()
		wg.Wait()
	})
	return ln.Addr().String()
}

// client returns an HTTP client that speaks one protocol and reaches addr whatever the URL says.
func client(t testing.TB, addr string, h2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	tr := &http.Transport{
		Protocols: p, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 60 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// noise is a reader of n reproducible bytes. They come from the assembler of the standard library: made one by one, they
// took most of the time of the tests that move them, with the race detector on.
type noise struct {
	left   int64
	source *rand.ChaCha8
	sum    hash.Hash
}

func newNoise(n int64) *noise {
	return &noise{left: n, source: rand.NewChaCha8([32]byte{}), sum: sha256.New()}
}

func (r *noise) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), r.left))
	_, _ = r.source.Read(p[:n]) // never fails
	r.left -= int64(n)
	r.sum.Write(p[:n])
	return n, nil
}

func (r *noise) digest() string { return string(r.sum.Sum(nil)) }

func digestOf(t testing.TB, r io.Reader) (string, int64) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		t.Errorf("read a body after %d bytes: %v", n, err)
	}
	return string(h.Sum(nil)), n
}

// eventually waits up to 20 s for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Errorf("waited 20 s in vain for %s", what)
}
