package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// timedMesh is a mesh in the time of a bubble of synctest, which both its clock and the
// knocker go by.
func timedMesh(t *testing.T, cfg *config.Cluster, ls ...config.LocalityEndpoints) *mesh {
	t.Helper()
	began := time.Now()
	m := newMesh(t, cfg)
	m.set.clock = func() int64 { return int64(time.Hour + time.Since(began)) }
	m.set.ApplyEndpoints(eds("e", ls...))
	return m
}

// sleep lets time pass, and what is to happen in it.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestKnocksGetRare: an address that stays dead is knocked at every two seconds in the
// end. The report of each knock that failed was taken for a new doubt, and began the
// pauses anew: it was knocked at 4 to 8 times a second by every proxy.
func TestKnocksGetRare(t *testing.T) {
	gateway := at(1)
	gateway.Gateway = true
	for name, dead := range map[string]config.Endpoint{"pod": at(1), "gateway": gateway} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := timedMesh(t, &config.Cluster{}, locality(0, dead), locality(1, at(2)))
				m.dead.Store(true)
				e := m.endpoint(1)
				e.Report(outcomeConnectError)
				sleep(10 * time.Second)
				if !e.Ejected() {
					t.Fatal("it is not ejected")
				}

				before := m.knocks.Load()
				e.Report(outcomeConnectError) // of a request that had no choice
				sleep(time.Minute)
				if n := m.knocks.Load() - before; n < 30 || n > 60 {
					t.Errorf("a dead address was knocked at %d times in a minute", n)
				}

				m.dead.Store(false)
				sleep(lastKnock)
				if e.Ejected() {
					t.Error("it takes connections again, and is left out")
				}
			})
		})
	}
}

// TestNewDoubtIsKnockedAtSoon: an endpoint that fails anew is knocked at at once,
// however rarely its address was knocked at before.
func TestNewDoubtIsKnockedAtSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gateway := at(1)
		gateway.Gateway = true
		m := timedMesh(t, &config.Cluster{}, locality(0, gateway), locality(1, at(2)))
		e := m.endpoint(1)
		sleep(time.Minute)
		for range 2 {
			e.Report(OutcomeLost)
			sleep(firstKnock)
			if e.health.trial.Load() == whoKnocks {
				t.Fatal("it could be reached, and nobody has looked")
			}
			e.Report(OutcomeOK)
			sleep(time.Minute)
		}
	})
}

// TestHandshakeIsKnockedFor: an endpoint that takes connections, and with which no TLS
// connection comes about, is left out until one does, and no longer; no request has to
// find that out. It was tried every few seconds by a request, and more and more rarely:
// after three minutes, it was left out for 20 s more.
func TestHandshakeIsKnockedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := timedMesh(t, &config.Cluster{}, locality(0, at(1)), locality(1, at(2)))
		e := m.endpoint(1)
		var wrong atomic.Bool
		wrong.Store(true)
		shake := func(ctx context.Context, e *Endpoint, proto config.Protocol) error {
			if !wrong.Load() {
				e.reached()
				return nil
			}
			e.oweHandshake(ctx, proto)
			return e.failed(ctx, PhaseTLS, errors.New("the certificate is of another root"))
		}
		m.set.knocker.greet = func(ctx context.Context, e *Endpoint, proto config.Protocol) error {
			if proto != config.ProtocolHTTP2 {
				t.Errorf("the handshake is made for %v", proto)
			}
			return shake(ctx, e, proto)
		}

		_ = shake(t.Context(), e, config.ProtocolHTTP2)
		for range 180 {
			sleep(time.Second)
			if got := picks(t, m.Cluster, 20); got[1] > 0 {
				t.Fatalf("%d of 20 requests go to who makes no TLS connection", got[1])
			}
		}
		if !e.Ejected() {
			t.Fatal("it is not ejected")
		}

		wrong.Store(false)
		sleep(lastKnock)
		if got := picks(t, m.Cluster, 100); got[1] != 1 {
			t.Errorf("%d requests are on trial, want 1", got[1])
		}
	})
}

// TestPauseThatHolds: knocks end neither the time of an endpoint that failed after they
// had found it well, nor a time that was chosen, nor that of one that answered badly.
func TestPauseThatHolds(t *testing.T) {
	chosen := config.OutlierDetection{Consecutive5xx: 3, MaxPercent: 100, BaseEjection: 30 * time.Second}
	for _, c := range []struct {
		name    string
		outlier *config.OutlierDetection
		fail    func(e *Endpoint)
		out     time.Duration // at least so long
	}{
		{
			name: "knocks were wrong, twice",
			fail: func(e *Endpoint) {
				report(e, outcomeConnectError, 3)
				sleep(firstKnock) // it is let in
				report(e, outcomeConnectError, 1)
				sleep(2*time.Second + lastKnock) // and again
				report(e, outcomeConnectError, 1)
			},
			out: 3 * time.Second,
		},
		{name: "chosen", outlier: &chosen, fail: func(e *Endpoint) { report(e, outcomeConnectError, 3) }, out: 30 * time.Second},
		{name: "answers", fail: func(e *Endpoint) { report(e, OutcomeGatewayError, 5) }, out: 15 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := timedMesh(t, &config.Cluster{Outlier: c.outlier}, locality(0, at(1)), locality(1, at(2)))
				e := m.endpoint(1)
				c.fail(e)
				sleep(c.out - time.Millisecond)
				if !e.Ejected() {
					t.Fatal("it is back before its time")
				}
				sleep(time.Millisecond + lastKnock)
				if e.Ejected() {
					t.Error("its time is over, and it is left out")
				}
			})
		})
	}
}

// TestKnockMakesHandshakes: the same over real sockets, with a server that gets a
// certificate that is right.
func TestKnockMakesHandshakes(t *testing.T) {
	const server = "spiffe://cluster.local/ns/bar/sa/server"
	ours := mtlstest.NewCA(t, "ours")
	right := ours.Issue(server, time.Now().Add(time.Hour))
	wrong := mtlstest.NewCA(t, "other").Issue(server, time.Now().Add(time.Hour))

	var cert atomic.Pointer[tls.Certificate]
	cert.Store(wrong)
	addr := handshaker(t, &cert)
	set := newTestSet(t, Options{Identity: ours.Identity("spiffe://cluster.local/ns/foo/sa/client")})
	c := apply(t, set, &config.Cluster{
		Name: "c", Type: config.ClusterEDS, EDSName: "c",
		Transport: config.Transport{TLS: &config.UpstreamTLS{
			SNI: "x", Cert: config.CertMesh, Roots: config.TrustRoots{Source: config.CertMesh},
		}},
	})
	set.ApplyEndpoints(eds("c", locality(0, config.Endpoint{
		Addr: addr.AddrPort().Addr(), Port: addr.AddrPort().Port(), Weight: 1, Healthy: true,
	}), locality(1, at(2))))

	e, err := c.Pick(Hint{})
	if err != nil {
		t.Fatal(err)
	}
	var unknown x509.UnknownAuthorityError
	if _, _, err := e.Dial(context.Background(), config.ProtocolTCP); !errors.As(err, &unknown) {
		t.Fatalf("got %v, want that its root is unknown", err)
	}
	await(t, "knocks by handshake eject it", e.Ejected)
	cert.Store(right)
	await(t, "it is let in", isBack(e))
	if _, owes := e.owesHandshake(); owes {
		t.Error("it was let in without a handshake")
	}
}

// handshaker answers handshakes with the certificate of the moment.
func handshaker(t *testing.T, cert *atomic.Pointer[tls.Certificate]) *net.TCPAddr {
	t.Helper()
	ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.Load(), nil },
		MinVersion:     tls.VersionTLS13,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	return ln.Addr().(*net.TCPAddr)
}
