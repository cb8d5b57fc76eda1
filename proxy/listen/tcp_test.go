package listen

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/test/hole"
)

// twoSidecars sets up client sidecar → mTLS → server sidecar → backend and
// returns the address that the client's application would use.
func twoSidecars(t testing.TB, backend netip.AddrPort) (in netip.AddrPort, client, server *side) {
	t.Helper()
	ca := mtlstest.NewCA(t, "root")
	client, server = newSide(t, ca.Identity(clientID)), newSide(t, ca.Identity(serverID))
	server.static("inbound", nil, backend)
	secure := toCluster("inbound")
	secure.TLS = serverTLS()
	secure.Match = config.ChainMatch{TransportProtocol: "tls", ApplicationProtocols: []string{"istio", "istio-peer-exchange"}}
	at := server.listen(tcpListener("in", secure))
	client.static("outbound", clientTLS(serverID), at)
	return client.listen(tcpListener("out", toCluster("outbound"))), client, server
}

func TestTCPPlain(t *testing.T) {
	s := newSide(t, nil)
	s.static("echo", nil, serve(t, echo))
	got, err := ask(t, s.listen(tcpListener("l", toCluster("echo"))), "hello")
	if err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	eventually(t, "the connection is recorded", func() bool {
		return get(s.rec, func(r *record) bool {
			return len(r.closed) == 1 && r.closed[0] == outcome.None && r.received == 5 && r.sent == 5 && r.active == 0
		})
	})
}

func TestTCPThroughMTLS(t *testing.T) {
	in, _, server := twoSidecars(t, serve(t, echo))
	for range 3 { // the later ones resume a session
		if got, err := ask(t, in, "hello"); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if who := get(server.rec, func(r *record) string { return r.opened[0] }); who != clientID {
		t.Errorf("the server saw %q, want %q", who, clientID)
	}
}

// TestTCPBulk moves enough for splice and for full records, both ways at once.
func TestTCPBulk(t *testing.T) {
	const size = 24 << 20
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	plain := newSide(t, nil)
	plain.static("echo", nil, serve(t, echo))
	secure, _, _ := twoSidecars(t, serve(t, echo))
	for name, addr := range map[string]netip.AddrPort{
		"plain": plain.listen(tcpListener("l", toCluster("echo"))), "mtls": secure,
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			go func() {
				_, _ = c.Write(data)
				_ = c.CloseWrite()
			}()
			h := sha256.New()
			n, err := io.Copy(h, c)
			if err != nil || n != size || !bytes.Equal(h.Sum(nil), sum(data)) {
				t.Fatalf("%d of %d bytes came back intact %v, %v", n, size, bytes.Equal(h.Sum(nil), sum(data)), err)
			}
		})
	}
}

func sum(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

// TestTCPHalfClose: the server answers only after the client ended its side,
// and the client after the server ended its.
func TestTCPHalfClose(t *testing.T) {
	in, _, _ := twoSidecars(t, serve(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		time.Sleep(20 * time.Millisecond)
		_, _ = c.Write(bytes.ToUpper(all))
	}))
	if got, err := ask(t, in, "after the end"); err != nil || got != "AFTER THE END" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// TestTCPServerFirst: nothing comes from the client, so inspection has to
// give up; through mTLS nothing has to.
func TestTCPServerFirst(t *testing.T) {
	greet := func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 ready\r\n") }
	plain := newSide(t, nil)
	plain.static("smtp", nil, serve(t, greet))
	web := toCluster("none")
	web.Match.ApplicationProtocols = []string{"http/1.1", "h2c"}
	l := tcpListener("l", web)
	l.Default = toCluster("smtp")
	secure, _, _ := twoSidecars(t, serve(t, greet))
	for name, addr := range map[string]netip.AddrPort{"plain": plain.listen(l), "mtls": secure} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			if got, err := io.ReadAll(c); err != nil || string(got) != "220 ready\r\n" {
				t.Fatalf("got %q, %v", got, err)
			}
		})
	}
}

func TestTCPReset(t *testing.T) {
	s := newSide(t, nil)
	s.static("rude", nil, serve(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	}))
	c := dial(t, s.listen(tcpListener("l", toCluster("rude"))))
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a reset upstream showed as %v", err)
	}
	eventually(t, "UC is recorded", func() bool {
		return get(s.rec, func(r *record) bool { return len(r.closed) == 1 && r.closed[0] == outcome.UpstreamTerminated })
	})
}

func TestTCPIdleTimeout(t *testing.T) {
	s := newSide(t, nil)
	s.static("echo", nil, serve(t, echo))
	ch := toCluster("echo")
	ch.TCP.IdleTimeout = 2 * time.Second
	c := dial(t, s.listen(tcpListener("l", ch)))
	for range 4 {
		time.Sleep(600 * time.Millisecond) // more than the limit in sum, and far below it each
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal("closed while busy: ", err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal("closed while busy: ", err)
		}
	}
	start := time.Now()
	_, err := c.Read(make([]byte, 1))
	if took := time.Since(start); err == nil || took > 20*time.Second {
		t.Fatalf("idle connection: %v after %v", err, took)
	}
}

// TestTCPMaxAge: that a connection was too old is told as such.
func TestTCPMaxAge(t *testing.T) {
	s := newSide(t, nil)
	s.static("echo", nil, serve(t, echo))
	ch := toCluster("echo")
	ch.TCP.MaxAge = 100 * time.Millisecond
	c := dial(t, s.listen(tcpListener("l", ch)))
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the end is none: %v", err)
	}
	eventually(t, "DT is recorded", func() bool {
		return get(s.rec, func(r *record) bool { return len(r.closed) == 1 && r.closed[0] == outcome.DurationTimeout })
	})
}

func TestTCPRetriesAnotherEndpoint(t *testing.T) {
	s := newSide(t, nil)
	dead, alive := unusedPort(t), serve(t, echo)
	s.static("c", nil, dead, alive)
	addr := s.listen(tcpListener("l", toCluster("c")))
	for i := range 10 {
		if got, err := ask(t, addr, "x"); err != nil || got != "x" {
			t.Fatalf("connection %d: got %q, %v", i, got, err)
		}
	}
}

func TestTCPNowhereToGo(t *testing.T) {
	s := newSide(t, nil)
	s.static("empty", nil)
	s.static("dead", nil, unusedPort(t))
	for cluster, flag := range map[string]outcome.Flag{
		"empty": outcome.NoHealthyUpstream, "dead": outcome.UpstreamFailure, "missing": outcome.NoCluster,
	} {
		l := tcpListener(cluster, toCluster(cluster))
		if got, err := ask(t, s.listen(l), "x"); got != "" {
			t.Errorf("%s: got %q, %v", cluster, got, err)
		}
		eventually(t, cluster+" records "+flag.String(), func() bool {
			return get(s.rec, func(r *record) bool { return len(r.closed) > 0 && r.closed[len(r.closed)-1] == flag })
		})
	}
}

// TestMTLSRefused: peers that must not get through, and the reason counted.
func TestMTLSRefused(t *testing.T) {
	ca, other := mtlstest.NewCA(t, "root"), mtlstest.NewCA(t, "other root")
	server := newSide(t, ca.Identity(serverID))
	server.static("inbound", nil, serve(t, echo))
	secure := toCluster("inbound")
	secure.TLS = serverTLS()
	at := server.listen(tcpListener("in", secure))
	hour := time.Now().Add(time.Hour)
	cases := map[string]struct {
		id     *mtlstest.Identity
		expect string // server identity that the client asks for
		reason string // counted at the server
	}{
		"other root": {
			id:     mtlstest.NewIdentity(other.Issue(clientID, hour), ca.Pool()),
			expect: serverID,
			reason: "unknown_ca",
		},
		"expired": {
			id:     mtlstest.NewIdentity(ca.Issue(clientID, time.Now().Add(-time.Minute)), ca.Pool()),
			expect: serverID,
			reason: "expired",
		},
		"foreign domain": {ca.Identity("spiffe://elsewhere/ns/foo/sa/client"), serverID, "san_mismatch"},
		"wrong server":   {ca.Identity(clientID), "spiffe://cluster.local/ns/bar/sa/another", "remote_alert"},
		"distrusted": {
			id:     mtlstest.NewIdentity(ca.Issue(clientID, hour), other.Pool()),
			expect: serverID,
			reason: "remote_alert",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := get(server.rec, func(r *record) int { return len(r.failures) })
			client := newSide(t, c.id)
			client.static("outbound", clientTLS(c.expect), at)
			got, err := ask(t, client.listen(tcpListener("out", toCluster("outbound"))), "secret")
			if got != "" {
				t.Fatalf("got through: %q, %v", got, err)
			}
			eventually(t, c.reason+" is counted", func() bool {
				return get(server.rec, func(r *record) bool {
					return len(r.failures) > before && r.failures[len(r.failures)-1] == c.reason
				})
			})
		})
	}
	if n := get(server.rec, func(r *record) int { return len(r.opened) }); n != 0 {
		t.Errorf("%d connections were forwarded", n)
	}
}

func TestMTLSNoCertificate(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	server := newSide(t, ca.Identity(serverID))
	secure := toCluster("inbound")
	secure.TLS = serverTLS()
	at := server.listen(tcpListener("in", secure))
	c := tls.Client(dial(t, at), &tls.Config{InsecureSkipVerify: true})
	defer c.Close()
	_ = c.Handshake()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a caller without certificate got through")
	}
	eventually(t, "it is counted", func() bool {
		return get(server.rec, func(r *record) bool { return len(r.failures) == 1 && r.failures[0] == "no_certificate" })
	})
	if got, _ := ask(t, at, "plain text where TLS is due"); strings.Contains(got, "plain") {
		t.Error("plaintext got through")
	}
}

// TestRootRemoved: a session made under a root must not be resumed once the
// root is gone.
func TestRootRemoved(t *testing.T) {
	in, client, server := twoSidecars(t, serve(t, echo))
	if got, err := ask(t, in, "x"); err != nil || got != "x" {
		t.Fatalf("got %q, %v", got, err)
	}
	next := mtlstest.NewCA(t, "next root")
	server.id.Set(server.id.Certificate(), next.Pool())
	if got, _ := ask(t, in, "x"); got != "" {
		t.Fatal("the server trusts a removed root")
	}
	eventually(t, "unknown_ca is counted", func() bool {
		return get(server.rec, func(r *record) bool { return len(r.failures) > 0 && r.failures[0] == "unknown_ca" })
	})
	hour := time.Now().Add(time.Hour)
	server.id.Set(next.Issue(serverID, hour), next.Pool())
	client.id.Set(next.Issue(clientID, hour), next.Pool())
	if got, err := ask(t, in, "x"); err != nil || got != "x" {
		t.Fatalf("after rotation: got %q, %v", got, err)
	}
}

// TestTCPStalledReader: a client that has ended its side and reads no more does
// not hold the connection for ever; the idle timeout ends it.
func TestTCPStalledReader(t *testing.T) {
	s := newSide(t, nil)
	s.static("flood", nil, serve(t, func(c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, c)
		block := make([]byte, 1<<20)
		for {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}))
	chain := toCluster("flood")
	chain.TCP.IdleTimeout = 200 * time.Millisecond
	c := dial(t, s.listen(tcpListener("l", chain)))
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection ends", func() bool {
		return get(s.rec, func(r *record) bool { return len(r.closed) == 1 && r.sent > 0 })
	})
}

// TestServerFirstWithoutWait: where the chain cannot depend on what the client
// says, its silence delays nothing: not on a port without mutual TLS, nor at an
// address of its own beside web traffic on the same port.
func TestServerFirstWithoutWait(t *testing.T) {
	s := newSide(t, nil)
	s.static("smtp", nil, serve(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 ready\r\n") }))
	web := toCluster("web")
	web.Match.ApplicationProtocols = []string{"http/1.1", "h2c"}
	own := toCluster("smtp")
	own.Match.PrefixRanges = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for what, chains := range map[string][]*config.FilterChain{
		"nothing is asked":      {toCluster("smtp")},
		"the address is enough": {web, own},
	} {
		l := tcpListener(what, chains...)
		l.InspectTimeout, l.ContinueOnTimeout = 0, false // without a bound, as for HTTP
		c := dial(t, s.listen(l))
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if got, err := io.ReadAll(c); err != nil || string(got) != "220 ready\r\n" {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
}

// TestTCPOvertakes: a connection does not wait for endpoints that answer nothing while another one takes it.
func TestTCPOvertakes(t *testing.T) {
	s := newSide(t, nil)
	var gone []netip.AddrPort
	for range 2 {
		addr, _ := hole.Listen(t)
		gone = append(gone, addr)
	}
	const connectTimeout = 20 * time.Second
	la := &config.LoadAssignment{Name: "c"}
	for i, addrs := range [][]netip.AddrPort{gone, {serve(t, echo)}} {
		loc := config.LocalityEndpoints{Priority: uint32(i)}
		for _, a := range addrs {
			loc.Endpoints = append(loc.Endpoints, config.Endpoint{Addr: a.Addr(), Port: a.Port(), Weight: 1, Healthy: true})
		}
		la.Localities = append(la.Localities, loc)
	}
	if err := s.set.Apply(&config.Cluster{Name: "c", Type: config.ClusterStatic, Endpoints: la, ConnectTimeout: connectTimeout}); err != nil {
		t.Fatal(err)
	}

	in := s.listen(tcpListener("l", toCluster("c")))
	began := time.Now()
	for range 3 {
		if got, err := ask(t, in, "hello"); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if took := time.Since(began); took > connectTimeout/2 {
		t.Errorf("three connections took %v", took)
	}
	eventually(t, "all connections are over", func() bool {
		return get(s.rec, func(r *record) bool { return len(r.closed) == 3 && r.active == 0 })
	})
}
