package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds/nds"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// open makes a server. A port that is free over UDP may be taken over TCP.
func open(t testing.TB, c Config) *Server {
	t.Helper()
	c.Listen = []netip.AddrPort{loopback}
	for try := 0; ; try++ {
		s, err := New(c)
		if err == nil {
			return s
		}
		if !errors.Is(err, syscall.EADDRINUSE) || try == 20 {
			t.Fatal(err)
		}
	}
}

// serve runs a server until the test ends.
func serve(t testing.TB, c Config) *Server {
	t.Helper()
	s := open(t, c)
	run(t, s)
	return s
}

// run serves until the test ends.
func run(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// bothSockets opens a port that is free over UDP and over TCP.
func bothSockets(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for try := 0; ; try++ {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		streams, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, streams
		}
		packets.Close()
		if !errors.Is(err, syscall.EADDRINUSE) || try == 20 {
			t.Fatal(err)
		}
	}
}

// resolver is a real name server that answers with handle.
func resolver(t testing.TB, handle miekg.HandlerFunc) netip.AddrPort {
	t.Helper()
	packets, streams := bothSockets(t)
	for _, s := range []*miekg.Server{{PacketConn: packets, Handler: handle}, {Listener: streams, Handler: handle}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-ended
		})
	}
	return netip.MustParseAddrPort(packets.LocalAddr().String())
}

// says answers every question with one record.
func says(record string) miekg.HandlerFunc {
	return func(w miekg.ResponseWriter, r *miekg.Msg) {
		m := new(miekg.Msg).SetReply(r)
		rr, err := miekg.NewRR(r.Question[0].Name + " 60 IN " + record)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
		_ = w.WriteMsg(m)
	}
}

// fails answers every question with an error.
func fails(code int) miekg.HandlerFunc {
	return func(w miekg.ResponseWriter, r *miekg.Msg) { _ = w.WriteMsg(new(miekg.Msg).SetRcode(r, code)) }
}

// silent never answers.
func silent(miekg.ResponseWriter, *miekg.Msg) {}

// lookup asks the server as a client would, and writes what it said.
func lookup(t testing.TB, s *Server, network, name string, qtype uint16, edit ...func(*miekg.Msg)) string {
	t.Helper()
	m := new(miekg.Msg).SetQuestion(name, qtype)
	for _, e := range edit {
		e(m)
	}
	c := miekg.Client{Net: network, Timeout: 20 * time.Second}
	r, _, err := c.Exchange(m, s.Addr().String())
	if err != nil {
		return err.Error()
	}
	out := miekg.RcodeToString[r.Rcode]
	if r.Truncated {
		out += " truncated"
	}
	for _, rr := range r.Answer {
		out += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return out
}

func TestServer(t *testing.T) {
	defer leak.None(t, goleak.IgnoreCurrent())
	t.Run("serving", func(t *testing.T) {
		s := serve(t, Config{Resolvers: []netip.AddrPort{resolver(t, says("A 192.0.2.1"))}})
		for _, network := range []string{"udp", "tcp"} {
			check := func(name string, qtype uint16, want string) {
				t.Helper()
				if got := lookup(t, s, network, name, qtype); got != want {
					t.Errorf("%s over %s: %q, want %q", name, network, got, want)
				}
			}
			s.table.Store(nil)
			check("web.foo.svc.cluster.local.", miekg.TypeA, "NOERROR 192.0.2.1") // before the first table

			s.SetTable(newTable(t, map[string]*nds.NameTable_NameInfo{"web.foo.svc.cluster.local": kubernetes("10.0.0.1")}))
			check("web.foo.svc.cluster.local.", miekg.TypeA, "NOERROR 10.0.0.1")
			check("web.foo.svc.cluster.local.", miekg.TypeAAAA, "NOERROR")
			check("example.com.", miekg.TypeA, "NOERROR 192.0.2.1")
			check("example.com.", miekg.TypeIXFR, "REFUSED")
		}
		if got := lookup(t, s, "tcp", "example.com.", miekg.TypeAXFR); got != "REFUSED" {
			t.Errorf("a transfer: %s", got)
		}
	})
}

// TestForwardedUntouched: the resolver sees the client's bytes but for the id, and the
// client the resolver's.
func TestForwardedUntouched(t *testing.T) {
	up, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	s := serve(t, Config{Resolvers: []netip.AddrPort{netip.MustParseAddrPort(up.LocalAddr().String())}})
	conn, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))

	sent := ask(t, "eXaMpLe.CoM.", dnsmessage.TypeA, withEDNS(1400, true))
	if _, err := conn.Write(sent); err != nil {
		t.Fatal(err)
	}
	seen := make([]byte, 2000)
	n, from, err := up.ReadFrom(seen)
	if err != nil {
		t.Fatal(err)
	}
	seen = seen[:n]
	if string(seen[2:]) != string(sent[2:]) {
		t.Errorf("the resolver got\n%x, the client sent\n%x", seen, sent)
	}

	// Forged answers, and answers to others, are passed over.
	forge := func(edit func(b []byte)) {
		b := append([]byte(nil), seen...)
		b[2] |= 0x80
		edit(b)
		if _, err := up.WriteTo(b, from); err != nil {
			t.Fatal(err)
		}
	}
	forge(func(b []byte) { b[0] ^= 1 })                      // another id
	forge(func(b []byte) { b[13] = 'f' })                    // another question
	forge(func(b []byte) { b[2] &^= 0x80 })                  // no answer
	forge(func(b []byte) { b[5] = 0 })                       // success, to no question
	forge(func(b []byte) { b[len(b)-1], b[13] = 0x55, 'E' }) // the answer, spelled differently

	got := make([]byte, 2000)
	if n, err = conn.Read(got); err != nil {
		t.Fatal(err)
	}
	want := append([]byte(nil), sent...)
	want[2] |= 0x80
	want[len(want)-1], want[13] = 0x55, 'E'
	if string(got[:n]) != string(want) {
		t.Errorf("the client got\n%x, want\n%x", got[:n], want)
	}
}

// TestResolversInTurn: which of two resolvers a client hears, and whether the second is
// asked at once or after the stagger.
func TestResolversInTurn(t *testing.T) {
	closed := func(t *testing.T) netip.AddrPort {
		l, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return netip.MustParseAddrPort(l.LocalAddr().String())
	}
	// A stagger of never shows that nothing had to wait for it: the client would
	// give up before.
	const never, short = time.Hour, 50 * time.Millisecond
	slow := func(w miekg.ResponseWriter, r *miekg.Msg) {
		time.Sleep(4 * short)
		says("A 192.0.2.9")(w, r)
	}
	for _, tt := range []struct {
		name          string
		first, second miekg.HandlerFunc // nil: nothing listens
		want          string
		stagger       time.Duration
	}{
		{
			name:    "the first answers",
			first:   says("A 192.0.2.1"),
			second:  says("A 192.0.2.2"),
			want:    "NOERROR 192.0.2.1",
			stagger: never,
		},
		{
			name:    "the first is not there",
			second:  says("A 192.0.2.2"),
			want:    "NOERROR 192.0.2.2",
			stagger: never,
		},
		{
			name:    "the first says nothing",
			first:   silent,
			second:  says("A 192.0.2.2"),
			want:    "NOERROR 192.0.2.2",
			stagger: short,
		},
		{
			name:    "the first cannot",
			first:   fails(miekg.RcodeServerFailure),
			second:  says("A 192.0.2.2"),
			want:    "NOERROR 192.0.2.2",
			stagger: never,
		},
		{
			name:    "there is no such name",
			first:   fails(miekg.RcodeNameError),
			second:  says("A 192.0.2.2"),
			want:    "NXDOMAIN",
			stagger: never,
		},
		{
			name:    "neither will",
			first:   fails(miekg.RcodeRefused),
			second:  nil,
			want:    "REFUSED",
			stagger: never,
		},
		{
			name:    "the first is slow, the second is not there",
			first:   slow,
			want:    "NOERROR 192.0.2.9",
			stagger: short,
		},
		{
			name:    "nobody is there",
			want:    "SERVFAIL",
			stagger: never,
		},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(tt.name+"/"+network, func(t *testing.T) {
				t.Parallel()
				var servers []netip.AddrPort
				for _, h := range []miekg.HandlerFunc{tt.first, tt.second} {
					if h == nil {
						servers = append(servers, closed(t))
						continue
					}
					servers = append(servers, resolver(t, h))
				}
				s := open(t, Config{Resolvers: servers})
				s.resolvers.stagger = tt.stagger
				run(t, s)
				if got := lookup(t, s, network, "example.com.", miekg.TypeA); got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}
			})
		}
	}
}

// TestSlowResolverHoldsNobodyUp: queries that wait for a resolver hold up neither the
// table's nor each other, on one TCP connection either, and there is a bound.
func TestSlowResolverHoldsNobodyUp(t *testing.T) {
	// The resolver is asked, and says nothing until the test has seen enough.
	enough := make(chan struct{})
	up := resolver(t, func(w miekg.ResponseWriter, r *miekg.Msg) {
		<-enough
		says("A 192.0.2.1")(w, r)
	})
	t.Cleanup(func() { close(enough) })

	s := open(t, Config{Resolvers: []netip.AddrPort{up}})
	s.resolvers.patience = time.Minute // none of them may end before the test has
	run(t, s)
	s.SetTable(newTable(t, map[string]*nds.NameTable_NameInfo{"web.foo.svc.cluster.local": kubernetes("10.0.0.1")}))

	// Over TCP, where the kernel loses none of them.
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range maxForwards {
		m := new(miekg.Msg).SetQuestion(fmt.Sprintf("n%d.example.com.", i), miekg.TypeA)
		if err := (&miekg.Conn{Conn: conn}).WriteMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	for start := time.Now(); len(s.forwards) < maxForwards; time.Sleep(time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%d queries wait for the resolver, want %d", len(s.forwards), maxForwards)
		}
	}

	for _, network := range []string{"udp", "tcp"} {
		if got := lookup(t, s, network, "web.foo.svc.cluster.local.", miekg.TypeA); got != "NOERROR 10.0.0.1" {
			t.Errorf("%s: %s", network, got)
		}
		if got := lookup(t, s, network, "example.com.", miekg.TypeA); got != "SERVFAIL" {
			t.Errorf("beyond the bound, %s: %s", network, got)
		}
	}
	if n := len(s.forwards); n != maxForwards {
		t.Errorf("%d queries still wait for the resolver, want %d", n, maxForwards)
	}
}

// TestStream: queries on one connection are answered as their answers are found.
func TestStream(t *testing.T) {
	s := serve(t, Config{Resolvers: []netip.AddrPort{resolver(t, func(w miekg.ResponseWriter, r *miekg.Msg) {
		time.Sleep(300 * time.Millisecond)
		says("A 192.0.2.1")(w, r)
	})}})
	s.SetTable(newTable(t, map[string]*nds.NameTable_NameInfo{"web.foo.svc.cluster.local": kubernetes("10.0.0.1")}))
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	c := &miekg.Conn{Conn: conn}
	for _, name := range []string{"example.com.", "web.", "web."} {
		if err := c.WriteMsg(new(miekg.Msg).SetQuestion(name, miekg.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	// The client has said all: what it waits for still comes.
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"web.", "web.", "example.com."} {
		m, err := c.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if m.Question[0].Name != want || len(m.Answer) != 1 {
			t.Errorf("%v, want the answer to %s", m, want)
		}
	}
	if m, err := c.ReadMsg(); err == nil {
		t.Errorf("after the last answer there came %v", m)
	}
}

// TestComplaintsAreBounded: a resolver that is gone is counted for each query, and told
// of once in a while.
func TestComplaintsAreBounded(t *testing.T) {
	var lines lockedBuffer
	s := open(t, Config{Logger: slog.New(slog.NewTextHandler(&lines, nil))}) // no resolver at all
	run(t, s)
	for i := range 20 {
		if got := lookup(t, s, "udp", fmt.Sprintf("n%d.example.com.", i), miekg.TypeA); got != "SERVFAIL" {
			t.Fatal(got)
		}
	}
	if log := lines.String(); strings.Count(log, "no resolver answers") != 1 || !strings.Contains(log, "name=n0.example.com") {
		t.Errorf("the log has\n%s", log)
	}
	var counted dto.Metric
	if err := s.metrics.failures.WithLabelValues("resolver").Write(&counted); err != nil {
		t.Fatal(err)
	}
	if n := counted.GetCounter().GetValue(); n != 20 {
		t.Errorf("%v failures are counted", n)
	}
}

// lockedBuffer is a buffer for a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestTooLongForTheClient: a resolver that sends more than the client takes.
func TestTooLongForTheClient(t *testing.T) {
	s := serve(t, Config{Resolvers: []netip.AddrPort{resolver(t, func(w miekg.ResponseWriter, r *miekg.Msg) {
		m := new(miekg.Msg).SetReply(r)
		for i := range 100 {
			rr, err := miekg.NewRR(fmt.Sprintf("%s 60 IN A 192.0.2.%d", r.Question[0].Name, i))
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})}})
	if got := lookup(t, s, "udp", "example.com.", miekg.TypeA); got != "NOERROR truncated" {
		t.Errorf("over UDP: %s", got)
	}
	if got := lookup(t, s, "tcp", "example.com.", miekg.TypeA); strings.Count(got, "192.0.2.") != 100 {
		t.Errorf("over TCP: %s", got)
	}
	large := func(m *miekg.Msg) { m.SetEdns0(8000, false) }
	if got := lookup(t, s, "udp", "example.com.", miekg.TypeA, large); strings.Count(got, "192.0.2.") != 100 {
		t.Errorf("with EDNS: %s", got)
	}
}

// TestEndsAtOnce: what is under way holds the end up by nothing.
func TestEndsAtOnce(t *testing.T) {
	s := open(t, Config{Resolvers: []netip.AddrPort{resolver(t, silent)}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for _, network := range []string{"udp", "tcp"} {
		conn, err := net.Dial(network, s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := (&miekg.Conn{Conn: conn}).WriteMsg(new(miekg.Msg).SetQuestion("example.com.", miekg.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	for start := time.Now(); len(s.forwards) < 2 && time.Since(start) < 20*time.Second; {
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Second):
		t.Error("the server does not end")
	}
}
