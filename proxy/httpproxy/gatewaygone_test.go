package httpproxy

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// TestPlaceBehindGatewayIsGone has all endpoints behind the gateway of another network go away as pods do that are
// deleted: it takes connections, and waits for one to them itself. No request may fail, and none may wait for that as
// long as a handshake may take.
func TestPlaceBehindGatewayIsGone(t *testing.T) {
	t.Parallel()
	bothVersions(t, placeBehindGatewayIsGone)
}

func placeBehindGatewayIsGone(t *testing.T, h2 bool, proto config.HTTPProtocol) {
	const requests = 100
	// Long enough that nobody takes a machine that is slow for a wait for it.
	const connectTimeout = 10 * time.Second
	ca := mtlstest.NewCA(t, "root")
	cert := ca.Issue("spiffe://cluster.local/ns/bar/sa/server", time.Now().Add(time.Hour))
	var behind, far atomic.Int32
	gateway := passAll(t, tlsBackend(t, cert, &behind))
	near := config.LocalityEndpoints{Region: "near", Endpoints: []config.Endpoint{
		{Addr: mustAddr(gateway.addr).Addr(), Port: mustAddr(gateway.addr).Port(), Weight: 1, Healthy: true, Gateway: true},
	}}
	at := mustAddr(tlsBackend(t, cert, &far))
	next := config.LocalityEndpoints{Region: "far", Priority: 1, Endpoints: []config.Endpoint{
		{Addr: at.Addr(), Port: at.Port(), Weight: 1, Healthy: true},
	}}

	cluster := &config.Cluster{
		Name: "c", Type: config.ClusterEDS, EDSName: "c", ConnectTimeout: connectTimeout,
		HTTP: config.HTTPOptions{Protocol: proto},
		Transport: config.Transport{TLS: &config.UpstreamTLS{
			SNI: "x", Cert: config.CertMesh, Roots: config.TrustRoots{Source: config.CertMesh},
		}},
	}
	h := startHop(t, setup{
		hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster},
		identity: ca.Identity("spiffe://cluster.local/ns/foo/sa/client"),
	})
	h.set.ApplyEndpoints(&config.LoadAssignment{Name: "c", Localities: []config.LocalityEndpoints{near, next}})
	cl := client(t, h.addr, h2)
	for range 10 {
		if status := statusOfGet(t, cl); status != 200 {
			t.Fatalf("before: status %d", status)
		}
	}
	if far.Load() > 0 {
		t.Fatalf("before: %d requests went far", far.Load())
	}

	gateway.empty()
	// A POST on a connection whose end has not been noticed may have been acted on, and would fail.
	eventually(t, "the ends of the connections to be noticed", func() bool {
		return !slices.ContainsFunc(h.set.Get("c").Endpoints(), func(e *upstream.Endpoint) bool {
			return e.Addr() != at && h.server.pool(e).h2.ready() != nil
		})
	})
	var failed atomic.Int32
	var slowest atomic.Int64
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			began := time.Now()
			if !gets200(cl, i%5 == 0) {
				failed.Add(1)
			}
			took := int64(time.Since(began))
			for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); {
				old = slowest.Load()
			}
		})
		time.Sleep(5 * time.Millisecond)
	}
	wg.Wait()
	t.Logf("%d of %d requests failed, the slowest took %v", failed.Load(), requests, time.Duration(slowest.Load()))
	if failed.Load() > 0 || time.Duration(slowest.Load()) > connectTimeout/2 {
		t.Errorf("%d of %d requests failed, the slowest took %v: it waited for who is gone", failed.Load(), requests, time.Duration(slowest.Load()))
	}
	if far.Load() != requests {
		t.Errorf("%d requests were acted on %d times", requests, far.Load())
	}
}

// tlsBackend serves both versions of HTTP over TLS, and counts the requests.
func tlsBackend(t *testing.T, cert *tls.Certificate, asked *atomic.Int32) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS13},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(ln, "", "")
	}()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return ln.Addr().String()
}

// passing is a gateway that passes connections on.
type passing struct {
	addr string
	to   string
	wg   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	gone  bool       // those behind it are
	conns []net.Conn
}

// passAll starts a gateway that passes connections on to an address.
func passAll(t *testing.T, to string) *passing {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &passing{addr: ln.Addr().String(), to: to}
	t.Cleanup(func() { _ = ln.Close(); p.empty(); p.wg.Wait() })
	p.wg.Go(func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			p.pass(down)
		}
	})
	return p
}

// pass leads a connection on, or has it wait where nobody is left.
func (p *passing) pass(down net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, down)
	if p.gone {
		return
	}
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		_ = down.Close()
		return
	}
	p.conns = append(p.conns, up)
	for _, way := range [][2]net.Conn{{up, down}, {down, up}} {
		p.wg.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].Close()
		})
	}
}

// empty ends what is passed on, and has connections that come later wait; called again, those, too.
func (p *passing) empty() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
