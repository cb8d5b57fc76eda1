package listen

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/access"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
	"github.com/isthmus-mesh/isthmus/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	clientID = "spiffe://cluster.local/ns/foo/sa/client"
	serverID = "spiffe://cluster.local/ns/bar/sa/server"
)

// record is a Telemetry that a test reads.
type record struct {
	mu        sync.Mutex
	opened    []string // peer principals of TCP connections
	closed    []outcome.Flag
	denied    []string // why
	failures  []string
	refused   int
	overLimit []string // listeners
	received  int64
	sent      int64
	active    int
}

type recorder struct{ r *record }

func (r recorder) Denied(details string) {
	r.r.mu.Lock()
	defer r.r.mu.Unlock()
	r.r.denied = append(r.r.denied, details)
}

func (r *record) TCPFor(
	cfg *config.TCPProxy,
) (func(*downstream.Info, *upstream.Endpoint) downstream.TCPRecorder, error) {
	if len(cfg.AccessLogs) > 0 {
		return nil, errors.New("no access logs here")
	}
	return func(info *downstream.Info, _ *upstream.Endpoint) downstream.TCPRecorder {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.opened = append(r.opened, info.PeerPrincipal())
		return recorder{r}
	}, nil
}

func (r *record) TCPAccess(string) access.Counts { return access.Counts{} }

func (r *record) HandshakeFailed(reason mtls.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, string(reason))
}

func (r *record) NoFilterChain(string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused++
}

func (r *record) OverLimit(listener string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.overLimit = append(r.overLimit, listener)
}

func (r *record) ConnOpen(config.Direction)  { r.add(1) }
func (r *record) ConnClose(config.Direction) { r.add(-1) }

func (r *record) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active += n
}

func (c recorder) Add(received, sent int64) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.received += received
	c.r.sent += sent
}

func (c recorder) Close(flag outcome.Flag) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.closed = append(c.r.closed, flag)
}

// get reads the record under its lock.
func get[T any](r *record, f func(*record) T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f(r)
}

// side is one proxy: clusters and listeners.
type side struct {
	t        testing.TB
	id       *mtlstest.Identity
	set      *upstream.Set
	m        *Manager
	rec      *record
	original atomic.Pointer[netip.AddrPort] // original destination, when set
}

func newSide(t testing.TB, id *mtlstest.Identity) *side {
	t.Helper()
	s := &side{t: t, id: id, rec: &record{}}
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.set = upstream.NewSet(upstream.Options{Identity: id, Logger: log})
	s.m = New(Options{
		Clusters: s.set, Identity: id, Telemetry: s.rec, Logger: log, DrainTime: 100 * time.Millisecond,
		OriginalDst: func(c *net.TCPConn) (netip.AddrPort, error) {
			if dst := s.original.Load(); dst != nil {
				return *dst, nil
			}
			return originalDst(c)
		},
	})
	t.Cleanup(func() {
		s.m.Close()
		s.set.Close()
	})
	return s
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// listen puts listeners in force and returns the address of the first.
func (s *side) listen(ls ...*config.Listener) netip.AddrPort {
	s.t.Helper()
	for _, err := range s.m.Update(ls, nil) {
		s.t.Fatal(err)
	}
	addr, _ := s.m.Addr(ls[0].Name)
	return addr
}

// static makes a cluster with fixed endpoints.
func (s *side) static(name string, tls *config.UpstreamTLS, addrs ...netip.AddrPort) {
	s.t.Helper()
	la := &config.LoadAssignment{Name: name, Localities: []config.LocalityEndpoints{{}}}
	for _, a := range addrs {
		la.Localities[0].Endpoints = append(la.Localities[0].Endpoints, config.Endpoint{Addr: a.Addr(), Port: a.Port(), Weight: 1, Healthy: true})
	}
	err := s.set.Apply(&config.Cluster{
		Name: name, Type: config.ClusterStatic, Endpoints: la, ConnectTimeout: 2 * time.Second,
		Transport: config.Transport{TLS: tls},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

// tcpListener makes a bound listener with these chains.
func tcpListener(name string, chains ...*config.FilterChain) *config.Listener {
	return &config.Listener{
		Name: name, Address: netip.AddrPortFrom(loopback, 0), Bind: true, Chains: chains,
		InspectTLS: true, InspectHTTP: true, InspectTimeout: 50 * time.Millisecond, ContinueOnTimeout: true,
	}
}

// toCluster makes a chain that forwards TCP.
func toCluster(cluster string) *config.FilterChain {
	return &config.FilterChain{
		Name: cluster, HandshakeTimeout: 2 * time.Second, Version: "chain " + cluster,
		TCP: &config.TCPProxy{Cluster: cluster, IdleTimeout: time.Hour},
	}
}

// serverTLS is a downstream context as sidecars have it.
func serverTLS() *config.DownstreamTLS {
	return &config.DownstreamTLS{
		ALPN: []string{"istio-peer-exchange", "h2", "http/1.1"}, Cert: config.CertMesh,
		Roots: config.TrustRoots{Source: config.CertMesh}, RequireClientCert: true,
		SANs: []config.SANMatch{{
			Type:  config.SANURI,
			Match: config.StringMatch{Kind: config.MatchPrefix, Value: "spiffe://cluster.local/"},
		}},
	}
}

// clientTLS is an upstream context as auto-mTLS has it.
func clientTLS(server string) *config.UpstreamTLS {
	return &config.UpstreamTLS{
		SNI: "outbound_.80_._.server", ALPN: []string{"istio-peer-exchange", "istio"}, Cert: config.CertMesh,
		Roots: config.TrustRoots{Source: config.CertMesh},
		SANs:  []config.SANMatch{{Type: config.SANURI, Match: config.StringMatch{Value: server}}},
	}
}

// serve runs handle for every connection to a loopback socket.
func serve(t testing.TB, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				handle(c)
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return addrPort(ln.Addr())
}

// echo sends back what comes, and ends when its peer ends.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

func dial(t testing.TB, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr.String(), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// ask sends a message, ends its side and returns all that comes back.
func ask(t testing.TB, addr netip.AddrPort, msg string) (string, error) {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, msg); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatal("never came true: " + what)
}

func unusedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return addrPort(ln.Addr())
}

// echoOf answers with a name and ends.
func echoOf(name string) func(*net.TCPConn) {
	return func(c *net.TCPConn) { _, _ = io.WriteString(c, name) }
}

func netDial(addr netip.AddrPort) (net.Conn, error) {
	return net.DialTimeout("tcp", addr.String(), time.Second)
}

func selfSigned(t testing.TB) *tls.Certificate {
	t.Helper()
	return mtlstest.NewCA(t, "backend").Issue("spiffe://cluster.local/ns/bar/sa/backend", time.Now().Add(time.Hour))
}

// serveTLS is an echo server behind TLS.
func serveTLS(t testing.TB, cert *tls.Certificate) netip.AddrPort {
	return serve(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}})
		_, _ = io.Copy(s, s)
	})
}
