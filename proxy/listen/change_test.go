package listen

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// streams is an HTTP implementation whose connections echo for as long as they
// are let, and counts those that were asked to end.
type streams struct{ asked atomic.Int32 }

func (h *streams) Handler(*config.HCM) (HTTPHandler, error) { return h, nil }

func (h *streams) ServeConn(c net.Conn, info *downstream.Info) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-info.Drain:
			h.asked.Add(1)
		case <-done:
		}
	}()
	_, _ = io.Copy(c, c)
}

// The chains of a workload's port, as discovery builds them by mode.

func chainOf(name, version string, m config.ChainMatch, secure *config.DownstreamTLS, http bool) *config.FilterChain {
	c := &config.FilterChain{Name: name, Version: name + version, Match: m, HandshakeTimeout: 2 * time.Second}
	if secure != nil {
		c.TLS, c.Access = secure, "mutual "+secure.SANs[0].Match.Value
	}
	if http {
		c.HTTP = &config.HCM{}
	} else {
		c.TCP = &config.TCPProxy{Cluster: "echo", IdleTimeout: time.Hour}
	}
	return c
}

func strictPort(version string, secure *config.DownstreamTLS, http bool) []*config.FilterChain {
	return []*config.FilterChain{chainOf("mutual", version+" strict", config.ChainMatch{TransportProtocol: "tls"}, secure, http)}
}

func permissivePort(version string, secure *config.DownstreamTLS, http bool) []*config.FilterChain {
	return []*config.FilterChain{
		chainOf("mutual", version, config.ChainMatch{TransportProtocol: "tls", ApplicationProtocols: []string{"istio"}}, secure, http),
		chainOf("plaintext", version, config.ChainMatch{TransportProtocol: "raw_buffer"}, nil, http),
		chainOf("foreign", version, config.ChainMatch{TransportProtocol: "tls"}, nil, false),
	}
}

func disabledPort(version string, http bool) []*config.FilterChain {
	if !http {
		return []*config.FilterChain{chainOf("plaintext", version+" disabled", config.ChainMatch{}, nil, false)}
	}
	return []*config.FilterChain{
		chainOf("plaintext", version+" disabled", config.ChainMatch{TransportProtocol: "raw_buffer"}, nil, true),
		chainOf("foreign", version+" disabled", config.ChainMatch{TransportProtocol: "tls"}, nil, false),
	}
}

// server is a side with the streams above.
func newServer(t *testing.T, id *mtlstest.Identity) (*side, *streams) {
	s, h := newSide(t, id), &streams{}
	s.m.opt.HTTP = h
	s.static("echo", nil, serve(t, echo))
	s.static("nowhere", nil)
	return s, h
}

// call opens a stream and sees that it works.
func call(t *testing.T, addr netip.AddrPort, cert *tls.Certificate) net.Conn {
	t.Helper()
	var c net.Conn = dial(t, addr)
	if cert != nil {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert}, NextProtos: []string{"istio"}})
	}
	if !alive(c) {
		t.Fatal("no connection before the change")
	}
	return c
}

func alive(c net.Conn) bool {
	if _, err := io.WriteString(c, "x"); err != nil {
		return false
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err == nil
}

// TestChangesOfConfiguration goes through the kinds of change that an open
// stream can meet. One that would be let in by the new configuration lives on
// beyond the drain time, and HTTP connections are asked to end at their next
// good moment where something about their chain is new.
func TestChangesOfConfiguration(t *testing.T) {
	elsewhere := serverTLS()
	elsewhere.SANs[0].Match.Value = "spiffe://elsewhere/"
	version := func(l *config.Listener, v string) *config.Listener {
		l.Version = v
		return l
	}
	listenerOf := func(v string, chains []*config.FilterChain) *config.Listener {
		l := version(tcpListener("in", chains...), v)
		l.InspectTimeout = 5 * time.Second // a busy machine must not look like a silent client
		return l
	}
	type want struct{ mutual, plain bool } // whose stream lives on
	both, neither, mutualOnly := want{true, true}, want{}, want{mutual: true}
	for _, tt := range []struct {
		what   string
		next   func(http bool) []*config.FilterChain
		remove bool
		want   want
		asked  bool // HTTP is asked to end
	}{
		{
			what: "another port is added",
			next: func(http bool) []*config.FilterChain {
				other := chainOf("other", "1", config.ChainMatch{DestinationPort: 9}, nil, http)
				return append(permissivePort("1", serverTLS(), http), other)
			},
			want: both,
		},
		{
			what: "routes, timeouts, logs of the own chain",
			next: func(http bool) []*config.FilterChain { return permissivePort("2", serverTLS(), http) },
			want: both, asked: true,
		},
		{
			what: "permissive to strict",
			next: func(http bool) []*config.FilterChain { return strictPort("1", serverTLS(), http) },
			want: mutualOnly, asked: true,
		},
		{
			what: "permissive to disabled",
			next: func(http bool) []*config.FilterChain { return disabledPort("1", http) },
			want: both, asked: true,
		},
		{
			what: "HTTP to TCP, or TCP to HTTP",
			next: func(http bool) []*config.FilterChain { return permissivePort("other", serverTLS(), !http) },
			want: both, asked: true,
		},
		{
			what: "who may connect: another trust domain",
			next: func(http bool) []*config.FilterChain { return strictPort("1", elsewhere, http) },
			want: neither, asked: true,
		},
		{
			what: "the port is taken away",
			next: func(http bool) []*config.FilterChain {
				return []*config.FilterChain{chainOf("other", "1", config.ChainMatch{DestinationPort: 9}, nil, http)}
			},
			want: neither, asked: true,
		},
		{
			what:   "the listener is removed",
			remove: true,
			want:   neither, asked: true,
		},
	} {
		for _, http := range []bool{false, true} {
			t.Run(tt.what+map[bool]string{false: ", TCP", true: ", HTTP"}[http], func(t *testing.T) {
				ca := mtlstest.NewCA(t, "root")
				s, h := newServer(t, ca.Identity(serverID))
				addr := s.listen(listenerOf("1", permissivePort("1", serverTLS(), http)))
				mutual := call(t, addr, ca.Identity(clientID).Certificate())
				plain := call(t, addr, nil)

				if tt.remove {
					s.m.Update(nil, []string{"in"})
				} else if errs := s.m.Update([]*config.Listener{listenerOf("2", tt.next(http))}, nil); len(errs) > 0 {
					t.Fatal(errs)
				}
				if !alive(mutual) || !alive(plain) {
					t.Error("a stream was broken at once")
				}
				if http && tt.asked {
					eventually(t, "HTTP connections are asked to end", func() bool { return h.asked.Load() == 2 })
				}
				time.Sleep(300 * time.Millisecond) // three times the drain time
				if got := (want{alive(mutual), alive(plain)}); got != tt.want {
					t.Errorf("streams that live on: %+v, want %+v", got, tt.want)
				}
				if asked := h.asked.Load() > 0; http && asked != tt.asked {
					t.Errorf("HTTP was asked to end: %v, want %v", asked, tt.asked)
				}
			})
		}
	}
}

// TestStrictForAWhile: who would be let in again when the drain time is over
// stays, and a stream that outlived one change is judged again by the next.
func TestStrictForAWhile(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	s, _ := newServer(t, ca.Identity(serverID))
	put := func(v string, chains []*config.FilterChain) netip.AddrPort {
		l := tcpListener("in", chains...)
		l.Version, l.InspectTimeout = v, 5*time.Second
		return s.listen(l)
	}
	addr := put("1", permissivePort("1", serverTLS(), false))
	plain := call(t, addr, nil)
	put("2", strictPort("2", serverTLS(), false))
	put("3", permissivePort("3", serverTLS(), false))
	time.Sleep(300 * time.Millisecond)
	if !alive(plain) {
		t.Fatal("a stream was cut off by a policy that had been withdrawn")
	}
	put("4", strictPort("4", serverTLS(), false))
	eventually(t, "the stream ends", func() bool { return !alive(plain) })
}

// TestChangesOutbound: what an application has open outlives the loss of the
// listener where the destination stays allowed (its service was removed, a pod
// of a headless service is not ready), and ends where it does not.
func TestChangesOutbound(t *testing.T) {
	for _, tt := range []struct {
		what     string
		fallback string
		want     bool
	}{
		{"any destination is allowed", "echo", true},
		{"only known ones are", "nowhere", false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			s, _ := newServer(t, nil)
			dst := netip.MustParseAddrPort("10.0.0.1:5432")
			s.original.Store(&dst)
			main := tcpListener("virtualOutbound", chainOf("default", "1", config.ChainMatch{}, nil, false))
			main.Chains[0].TCP.Cluster = tt.fallback
			main.Direction, main.UseOriginalDst = config.DirectionOutbound, true
			own := tcpListener("10.0.0.1_5432", chainOf("own", "1", config.ChainMatch{}, nil, false))
			own.Direction, own.Bind, own.Address = config.DirectionOutbound, false, dst
			addr := s.listen(main, own)
			c := call(t, addr, nil)
			s.m.Update(nil, []string{"10.0.0.1_5432"})
			time.Sleep(300 * time.Millisecond)
			if got := alive(c); got != tt.want {
				t.Errorf("it lives on: %v, want %v", got, tt.want)
			}
		})
	}
}

// TestRootRemovedWhileOpen: peers that a root has let in go with it, also those
// with a connection open; another root, or a new certificate, disturbs nobody.
func TestRootRemovedWhileOpen(t *testing.T) {
	old, young := mtlstest.NewCA(t, "old"), mtlstest.NewCA(t, "young")
	two := old.Pool()
	two.AddCert(young.Cert)
	own := young.Issue(serverID, time.Now().Add(time.Hour))
	id := mtlstest.NewIdentity(own, two)
	s, h := newServer(t, id)
	addr := s.listen(tcpListener("in", strictPort("1", serverTLS(), true)...))

	// Its certificate expires while the connection is open.
	expires := time.Now().Add(4 * time.Second)
	expiring := young.Issue(clientID, expires)
	loyal, leaving := call(t, addr, expiring), call(t, addr, old.Identity(clientID).Certificate())
	time.Sleep(time.Until(expires) + 100*time.Millisecond)
	three := old.Pool()
	three.AddCert(young.Cert)
	three.AddCert(mtlstest.NewCA(t, "third").Cert)
	id.Set(own, three)
	s.m.RecheckPeers()
	time.Sleep(200 * time.Millisecond)
	if !alive(loyal) || !alive(leaving) || h.asked.Load() != 0 {
		t.Fatal("a root that was added broke a connection")
	}

	id.Set(own, young.Pool())
	s.m.RecheckPeers()
	eventually(t, "the connection of the removed root ends", func() bool { return !alive(leaving) })
	if !alive(loyal) {
		t.Error("the connection of the other root ended, too")
	}
	if got := h.asked.Load(); got == 0 {
		t.Error("nobody was asked to end at a good moment")
	}
	if fresh := call(t, addr, young.Identity(clientID).Certificate()); !alive(fresh) {
		t.Error("new connections are not served")
	}
}

// TestUpdateDuringChoice: a connection that was looked at while its chain was
// replaced gets the new one.
func TestUpdateDuringChoice(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	s, _ := newServer(t, ca.Identity(serverID))
	l := tcpListener("in", permissivePort("1", serverTLS(), true)...)
	l.InspectTimeout = 5 * time.Second
	addr := s.listen(l)
	c := dial(t, addr)
	time.Sleep(100 * time.Millisecond) // its first bytes are waited for
	next := tcpListener("in", strictPort("2", serverTLS(), true)...)
	next.Version = "2"
	s.listen(next)
	if alive(c) {
		t.Error("a plaintext connection was served by a policy that is not in force any more")
	}
}

// TestSilentClients: who says nothing where the first bytes are needed is not
// waited for without an end; the own application, which may open connections
// ahead, is.
func TestSilentClients(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	for _, tt := range []struct {
		what   string
		chains []*config.FilterChain
		wait   time.Duration // of the configuration; zero: without bound
		dir    config.Direction
		ends   bool
	}{
		{"strict, TCP", strictPort("1", serverTLS(), false), 0, config.DirectionInbound, true},
		{"strict, HTTP", strictPort("1", serverTLS(), true), 0, config.DirectionInbound, true},
		{
			what:   "strict, a bound of an hour",
			chains: strictPort("1", serverTLS(), false),
			wait:   time.Hour,
			dir:    config.DirectionInbound,
			ends:   true,
		},
		{
			what:   "permissive, HTTP",
			chains: permissivePort("1", serverTLS(), true),
			wait:   20 * time.Millisecond,
			dir:    config.DirectionInbound,
			ends:   true,
		},
		{"a gateway", strictPort("1", serverTLS(), false), 0, config.DirectionUnspecified, true},
		{
			what:   "permissive, TCP: the server may speak first",
			chains: permissivePort("1", serverTLS(), false),
			wait:   20 * time.Millisecond,
			dir:    config.DirectionInbound,
		},
		{"the own application", permissivePort("1", serverTLS(), true), 0, config.DirectionOutbound, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			s, _ := newServer(t, ca.Identity(serverID))
			s.m.opt.FirstBytes = 100 * time.Millisecond
			l := tcpListener("in", tt.chains...)
			l.InspectTimeout, l.Direction, l.ContinueOnTimeout = tt.wait, tt.dir, tt.wait > 0 && tt.wait < time.Hour
			c := dial(t, s.listen(l))
			patience := 500 * time.Millisecond
			if tt.ends {
				patience = 20 * time.Second
			}
			_ = c.SetReadDeadline(time.Now().Add(patience))
			_, err := c.Read(make([]byte, 1))
			var late net.Error
			if ends := err != nil && !(errors.As(err, &late) && late.Timeout()); ends != tt.ends {
				t.Errorf("the connection ends: %v (%v), want %v", ends, err, tt.ends)
			}
		})
	}
}

// TestHandshakeEnds: a client that stops in the middle of its TLS handshake is
// not held.
func TestHandshakeEnds(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	s, _ := newServer(t, ca.Identity(serverID))
	chains := strictPort("1", serverTLS(), false)
	// It counts from when the connection is taken: shorter, and a busy machine has not
	// even seen the hello by then.
	chains[0].HandshakeTimeout = time.Second
	c := dial(t, s.listen(tcpListener("in", chains...)))
	if _, err := c.Write(clientHello(t, &tls.Config{ServerName: "a", InsecureSkipVerify: true, NextProtos: []string{"istio"}})); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil {
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			t.Error("it is still open after 20 s")
		}
	}
	eventually(t, "it is counted", func() bool {
		return get(s.rec, func(r *record) bool { return len(r.failures) == 1 && r.failures[0] == "timeout" })
	})
}

// TestConnectionLimit: no more connections are held than there is room for, one
// socket leaves room for the others, and who is refused is told at once.
func TestConnectionLimit(t *testing.T) {
	s, _ := newServer(t, nil)
	s.m.opt.MaxConnections = 4
	one := s.listen(tcpListener("one", toCluster("echo")))
	two := s.listen(tcpListener("two", toCluster("echo")))
	refused := func(addr netip.AddrPort) bool {
		c, err := netDial(addr)
		if err != nil {
			return true // the reset was faster than the dial
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return !alive(c)
	}
	first := call(t, one, nil)
	call(t, one, nil)
	call(t, one, nil)
	if !refused(one) {
		t.Error("one socket takes more than three quarters")
	}
	call(t, two, nil)
	if !refused(two) {
		t.Error("more connections are taken than the limit says")
	}
	if got := get(s.rec, func(r *record) []string { return r.overLimit }); len(got) != 2 || got[0] != "one" || got[1] != "two" {
		t.Errorf("counted as refused: %v, want one of each listener", got)
	}
	first.Close()
	eventually(t, "room is given back", func() bool { return !refused(one) })
}

// TestGoneListenersAreForgotten: nothing is kept of a listener once its last
// connection has left.
func TestGoneListenersAreForgotten(t *testing.T) {
	s, _ := newServer(t, nil)
	addr := s.listen(tcpListener("l", toCluster("echo")))
	c := call(t, addr, nil)
	s.m.Update(nil, []string{"l"})
	c.Close()
	eventually(t, "its connections are forgotten", func() bool {
		s.m.Update(nil, nil)
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		return len(s.m.open) == 0
	})
}
