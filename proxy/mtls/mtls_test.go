package mtls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	clientID = "spiffe://cluster.local/ns/foo/sa/client"
	serverID = "spiffe://cluster.local/ns/bar/sa/server"
)

// pipe is two ends of a loopback TCP connection.
func pipe(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.DialTCP("tcp4", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*net.TCPConn{c, s} {
		_ = x.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { x.Close() })
	}
	return c, s
}

// peers are a client and a server context with their identities.
type peers struct {
	client, server *mtlstest.Identity
	clientTLS      *tls.Config
	serverTLS      *Server
}

func newPeers(t testing.TB, ca *mtlstest.CA) *peers {
	t.Helper()
	p := &peers{client: ca.Identity(clientID), server: ca.Identity(serverID)}
	roots := config.TrustRoots{Source: config.CertMesh}
	up := &config.UpstreamTLS{SNI: "x", ALPN: []string{"istio"}, Cert: config.CertMesh, Roots: roots}
	down := &config.DownstreamTLS{ALPN: []string{"h2", "http/1.1"}, Cert: config.CertMesh, Roots: roots, RequireClientCert: true}
	c, err := NewClient(up, p.client)
	if err != nil {
		t.Fatal(err)
	}
	p.clientTLS = c.Config(config.ProtocolTCP, "")
	if p.serverTLS, err = NewServer(down, p.server, nil); err != nil {
		t.Fatal(err)
	}
	return p
}

// shake makes one connection and exchanges a byte, so that a session ticket
// comes across; it returns the server's view.
func (p *peers) shake(t testing.TB) (tls.ConnectionState, error) {
	t.Helper()
	a, b := pipe(t)
	server := tls.Server(b, p.serverTLS.Config(p.clientTLS.NextProtos))
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("x"))
		if err != nil {
			b.Close()
		}
		done <- err
	}()
	client := tls.Client(a, p.clientTLS)
	_, err := io.ReadFull(client, make([]byte, 1))
	if err != nil {
		Forget(p.clientTLS)
		a.Close()
	}
	return server.ConnectionState(), errors.Join(err, <-done)
}

func TestResumption(t *testing.T) {
	ca, next := mtlstest.NewCA(t, "root"), mtlstest.NewCA(t, "next root")
	p := newPeers(t, ca)
	hour := time.Now().Add(time.Hour)
	steps := []struct {
		name    string
		before  func()
		resumed bool
		reason  Reason // why it has to fail; "" if it has not
	}{
		{"the first handshake", func() {}, false, ""},
		{"the second is resumed", func() {}, true, ""},
		{
			name:   "the client has a new certificate",
			before: func() { p.client.Set(ca.Issue(clientID, hour), p.client.Roots()) },
		},
		{"resumed again", func() {}, true, ""},
		{
			name:   "the server has a new bundle of the same root",
			before: func() { p.server.Set(p.server.Certificate(), ca.Pool()) },
		},
		{"resumed once more", func() {}, true, ""},
		{
			name:   "the server's bundle lost the root",
			before: func() { p.server.Set(p.server.Certificate(), next.Pool()) },
			reason: ReasonUnknownCA,
		},
		{"both have moved to the next root", func() {
			p.server.Set(next.Issue(serverID, hour), next.Pool())
			p.client.Set(next.Issue(clientID, hour), next.Pool())
		}, false, ""},
		{"resumed under the next root", func() {}, true, ""},
	}
	for _, s := range steps {
		s.before()
		state, err := p.shake(t)
		if s.reason != "" {
			if got := ReasonOf(err); got != s.reason {
				t.Fatalf("%s: %v (%s), want %s", s.name, err, got, s.reason)
			}
			continue
		}
		if err != nil || state.DidResume != s.resumed || PeerURI(&state) != clientID {
			t.Fatalf("%s: resumed %v, peer %q, %v", s.name, state.DidResume, PeerURI(&state), err)
		}
	}
}

// TestExpiryWhileRemembered: a certificate that was verified once is refused
// when it has expired since.
func TestExpiryWhileRemembered(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	leaf := ca.Issue(clientID, time.Now().Add(time.Minute)).Leaf
	v := newVerifier(config.TrustRoots{Source: config.CertMesh}, nil, 2, ca.Identity(serverID))
	now := time.Now()
	v.now = func() time.Time { return now }
	for range 2 {
		if err := v.chain(leaf, nil); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(2 * time.Minute)
	if err := v.chain(leaf, nil); ReasonOf(err) != ReasonExpired {
		t.Errorf("got %v", err)
	}
}

func TestNoIdentityYet(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	p := newPeers(t, ca)
	p.server.Set(nil, nil)
	if _, err := p.shake(t); ReasonOf(err) != ReasonNoIdentity {
		t.Errorf("got %v", err)
	}
}

func TestALPN(t *testing.T) {
	mesh := &config.UpstreamTLS{ALPN: []string{"istio-peer-exchange", "istio"}}
	other := &config.UpstreamTLS{ALPN: []string{"h2"}}
	for _, c := range []struct {
		ctx   *config.UpstreamTLS
		proto config.Protocol
		want  string
	}{
		{mesh, config.ProtocolTCP, "istio-peer-exchange"},
		{mesh, config.ProtocolHTTP1, "istio-http/1.1"},
		{mesh, config.ProtocolHTTP2, "istio-h2"},
		{other, config.ProtocolTCP, "h2"},
		{other, config.ProtocolHTTP1, "http/1.1"},
		{other, config.ProtocolHTTP2, "h2"},
	} {
		if got := ALPN(c.ctx, c.proto); got[0] != c.want {
			t.Errorf("%v over %v: got %v", c.proto, c.ctx.ALPN, got)
		}
	}
}

// TestForeignALPN: protocols that we have not are no reason to break off.
func TestForeignALPN(t *testing.T) {
	p := newPeers(t, mtlstest.NewCA(t, "root"))
	p.clientTLS.NextProtos = []string{"something-else"}
	if s, err := p.shake(t); err != nil || s.NegotiatedProtocol != "" {
		t.Errorf("got %q, %v", s.NegotiatedProtocol, err)
	}
	p.clientTLS.NextProtos = []string{"http/1.1"}
	if s, err := p.shake(t); err != nil || s.NegotiatedProtocol != "http/1.1" {
		t.Errorf("got %q, %v", s.NegotiatedProtocol, err)
	}
}

func TestMatchSANs(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	leaf := ca.Issue(clientID, time.Now().Add(time.Hour)).Leaf
	leaf.DNSNames = []string{"*.example.com", "plain.org"}
	exact := func(ty config.SANType, v string) config.SANMatch {
		return config.SANMatch{Type: ty, Match: config.StringMatch{Value: v}}
	}
	for _, c := range []struct {
		m    config.SANMatch
		want bool
	}{
		{exact(config.SANURI, clientID), true},
		{exact(config.SANURI, clientID+"x"), false},
		{exact(config.SANDNS, clientID), false},
		{exact(config.SANAny, clientID), true},
		{exact(config.SANDNS, "plain.org"), true},
		{exact(config.SANDNS, "a.example.com"), true},
		{exact(config.SANDNS, "a.b.example.com"), false},
		{exact(config.SANDNS, "example.com"), false},
		{exact(config.SANEmail, "plain.org"), false},
		{
			m:    config.SANMatch{Type: config.SANURI, Match: config.StringMatch{Kind: config.MatchPrefix, Value: "spiffe://cluster.local/ns/foo/"}},
			want: true,
		},
		{
			m: config.SANMatch{Type: config.SANURI, Match: config.StringMatch{Kind: config.MatchPrefix, Value: "spiffe://cluster.local/ns/bar/"}},
		},
	} {
		if got := matchSANs([]config.SANMatch{c.m}, leaf); got != c.want {
			t.Errorf("%+v: got %v", c.m, got)
		}
	}
}

// TestConnRecords: reads end with a record however the bytes come, and
// nothing is lost.
func TestConnRecords(t *testing.T) {
	var stream []byte
	for _, n := range []int{0, 1, 300, 16384, 5} {
		stream = append(stream, 23, 3, 3, byte(n>>8), byte(n))
		stream = append(stream, bytes.Repeat([]byte{byte(n)}, n)...)
	}
	for _, step := range []int{1, 3, 7, 1000, len(stream)} {
		a, b := pipe(t)
		c, err := NewConn(b)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for rest := stream; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				_, _ = a.Write(rest[:min(step, len(rest))])
			}
			_ = a.CloseWrite()
		}()
		var got []byte
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, stream) {
			t.Errorf("in steps of %d: %d of %d bytes came through intact", step, len(got), len(stream))
		}
		if c.in != nil {
			t.Errorf("in steps of %d: a buffer is kept", step)
		}
	}
}

// TestConnBoundary: a read never takes bytes of the next record.
func TestConnBoundary(t *testing.T) {
	a, b := pipe(t)
	c, err := NewConn(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte("\x17\x03\x03\x00\x02ab\x17\x03\x03\x00\x01c")); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	c.Instant()
	buf := make([]byte, 100)
	for _, want := range []int{7, 6} {
		if !c.Buffered() {
			t.Error("a whole record is not seen")
		}
		if n, err := c.Read(buf); n != want || err != nil {
			t.Errorf("read %d bytes, %v, want %d", n, err, want)
		}
	}
	if _, err := c.Read(buf); err != ErrWouldBlock || c.Buffered() {
		t.Errorf("nothing is left: %v", err)
	}
}

// TestConnCork: what is held back goes out in one piece, in order.
func TestConnCork(t *testing.T) {
	a, b := pipe(t)
	c, err := NewConn(a)
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	c.Cork()
	for i := range 9 {
		part := bytes.Repeat([]byte{byte(i)}, 16<<10)
		want = append(want, part...)
		if _, err := c.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Uncork(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the bytes differ, %v", err)
	}
	if c.out != nil {
		t.Error("a buffer is kept")
	}
}
