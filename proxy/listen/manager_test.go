package listen

import (
	"crypto/tls"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestOriginalDst: dispatch by original destination: exact address, then any
// address with the port, then the listener that accepted; never to a listener
// of the other direction.
func TestOriginalDst(t *testing.T) {
	s := newSide(t, nil)
	answer := func(name string) {
		s.static(name, nil, serve(t, echoOf(name)))
	}
	for _, n := range []string{"exact", "port", "passthrough", "wrong direction"} {
		answer(n)
	}
	unbound := func(name, addr string, dir config.Direction) *config.Listener {
		l := tcpListener(name, toCluster(name))
		l.Bind, l.Direction, l.Address = false, dir, netip.MustParseAddrPort(addr)
		return l
	}
	main := tcpListener("virtualOutbound")
	main.UseOriginalDst, main.Direction, main.Default = true, config.DirectionOutbound, toCluster("passthrough")
	addr := s.listen(main, unbound("exact", "10.0.0.1:80", config.DirectionOutbound),
		unbound("port", "0.0.0.0:80", config.DirectionOutbound),
		unbound("wrong direction", "10.0.0.9:90", config.DirectionInbound))
	for dst, want := range map[string]string{
		"10.0.0.1:80": "exact", "10.0.0.2:80": "port", "10.0.0.2:81": "passthrough", "10.0.0.9:90": "passthrough",
	} {
		to := netip.MustParseAddrPort(dst)
		s.original.Store(&to)
		if got, err := ask(t, addr, ""); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", dst, got, err, want)
		}
	}
	s.original.Store(nil) // asked for by its own port: it would come back for ever
	if got, _ := ask(t, addr, ""); got != "" {
		t.Errorf("the proxy's own port was forwarded to %q", got)
	}
}

// TestSNIPassthrough: the cluster is named by SNI, TLS goes through untouched,
// and nothing but names of the chain gets anywhere.
func TestSNIPassthrough(t *testing.T) {
	backendCA := newSide(t, nil)
	cert := selfSigned(t)
	backend := serveTLS(t, cert)
	const name = "outbound_.8000_._.httpbin.bar.global"
	s := backendCA
	s.static(name, nil, backend)
	s.static("outbound_.8000_._.secret.elsewhere", nil, backend)
	gw := toCluster("BlackHoleCluster")
	gw.TCP.SNICluster = true
	gw.Match.ServerNames = []string{"*.global"}
	addr := s.listen(tcpListener("gw", gw))
	try := func(sni string) error {
		c := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true, ServerName: sni})
		if _, err := io.WriteString(c, "x"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := try(name); err != nil {
		t.Error(err)
	}
	for _, sni := range []string{"", "outbound_.8000_._.secret.elsewhere", "unknown.global"} {
		if err := try(sni); err == nil {
			t.Errorf("SNI %q got through", sni)
		}
	}
	if got, _ := ask(t, addr, "plain text"); got != "" {
		t.Errorf("plaintext got %q", got)
	}
}

// TestUpdateKeepsConnections: connections live through updates of other
// chains; those of a chain that is gone end after the drain time.
func TestUpdateKeepsConnections(t *testing.T) {
	s := newSide(t, nil)
	s.static("echo", nil, serve(t, echo))
	chainOf := func(version string, port uint16) *config.FilterChain {
		c := toCluster("echo")
		c.Version, c.Access, c.Match.DestinationPort = version, version, port
		return c
	}
	l := tcpListener("l", chainOf("a", 0), chainOf("b", 1))
	l.Version = "1"
	addr := s.listen(l)
	c := dial(t, addr)
	alive := func() bool {
		if _, err := io.WriteString(c, "x"); err != nil {
			return false
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err == nil
	}
	if !alive() {
		t.Fatal("no connection")
	}
	two := tcpListener("l", chainOf("a", 0), chainOf("c", 1))
	two.Version = "2"
	if s.listen(two) != addr {
		t.Error("the socket was opened anew")
	}
	same := chainOf("a2", 0) // content changed, not who may connect
	same.Access = "a"
	three := tcpListener("l", same)
	three.Version = "3"
	s.listen(three)
	time.Sleep(200 * time.Millisecond)
	if !alive() {
		t.Fatal("a stream was broken by an update that lets its peer in as before")
	}
	four := tcpListener("l", chainOf("d", 1)) // nobody is let in by this way any more
	four.Version = "4"
	s.listen(four)
	if !alive() {
		t.Fatal("a stream was broken at once")
	}
	eventually(t, "the stream of a chain that is gone ends", func() bool { return !alive() })
	five := tcpListener("l", chainOf("e", 0))
	five.Version = "5"
	s.listen(five)
	if got, err := ask(t, addr, "x"); err != nil || got != "x" {
		t.Errorf("new connections: got %q, %v", got, err)
	}
}

func TestRemoveListener(t *testing.T) {
	s := newSide(t, nil)
	s.static("echo", nil, serve(t, echo))
	addr := s.listen(tcpListener("l", toCluster("echo")))
	if errs := s.m.Update(nil, []string{"l", "unknown"}); len(errs) > 0 {
		t.Fatal(errs)
	}
	if c, err := netDial(addr); err == nil {
		c.Close()
		t.Error("the socket is still open")
	}
}

func TestAddressTaken(t *testing.T) {
	s := newSide(t, nil)
	s.static("echo", nil, serve(t, echo))
	addr := s.listen(tcpListener("first", toCluster("echo")))
	l := tcpListener("second", toCluster("echo"))
	l.Address = addr
	if errs := s.m.Update([]*config.Listener{l}, nil); errs["second"] == nil {
		t.Fatal("two listeners on one address")
	}
	if got, err := ask(t, addr, "x"); err != nil || got != "x" {
		t.Errorf("the first listener: got %q, %v", got, err)
	}
}

// TestUpdateMovesSocket: a listener with a new address leaves the old one.
func TestUpdateMovesSocket(t *testing.T) {
	s := newSide(t, nil)
	s.static("echo", nil, serve(t, echo))
	old := s.listen(tcpListener("l", toCluster("echo")))
	l := tcpListener("l", toCluster("echo"))
	l.Version, l.Address = "2", unusedPort(t)
	if now := s.listen(l); now == old {
		t.Fatal("the address did not change")
	} else if got, err := ask(t, now, "x"); err != nil || got != "x" {
		t.Errorf("got %q, %v", got, err)
	}
	if c, err := netDial(old); err == nil {
		c.Close()
		t.Error("the old socket is still open")
	}
}

// TestCloseEndsEverything: no connection outlives Close, in whatever state.
func TestCloseEndsEverything(t *testing.T) {
	in, client, server := twoSidecars(t, serve(t, echo))
	busy, waiting := dial(t, in), dial(t, in)
	_, _ = io.WriteString(busy, "x")
	_, _ = io.ReadFull(busy, make([]byte, 1))
	if n := client.m.Active(); n != 2 {
		t.Errorf("%d connections active, want 2", n)
	}
	done := make(chan struct{})
	go func() {
		client.m.Close()
		server.m.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("Close hangs")
	}
	_ = waiting.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := waiting.Read(make([]byte, 1)); err == nil {
		t.Error("a connection lives on")
	}
}

// TestDrainInbound: only connections from outside are asked to end, those that
// come later too.
func TestDrainInbound(t *testing.T) {
	s := newSide(t, nil)
	for name, dir := range map[string]config.Direction{
		"in": config.DirectionInbound, "out": config.DirectionOutbound, "gateway": config.DirectionUnspecified,
	} {
		l := tcpListener(name, toCluster(name))
		l.Direction = dir
		s.listen(l)
	}
	asked := func(name string) bool {
		select {
		case <-s.m.listeners[name].all[0].end:
			return true
		default:
			return false
		}
	}
	s.m.DrainInbound()
	later := tcpListener("in", toCluster("in"))
	later.Version, later.Direction, later.Chains[0].Version = "2", config.DirectionInbound, "2"
	s.listen(later)
	if !asked("in") || !asked("gateway") || asked("out") {
		t.Errorf("asked to end: in %v, gateway %v, out %v", asked("in"), asked("gateway"), asked("out"))
	}
	if s.m.Drain(); !asked("out") {
		t.Error("outbound connections are not asked to end by Drain")
	}
}

// TestAccessLogRefused: a TCP proxy whose access log cannot be written as it is
// asked for is refused with its listener, as HTTP's is.
func TestAccessLogRefused(t *testing.T) {
	s := newSide(t, nil)
	c := toCluster("echo")
	c.TCP.AccessLogs = []config.AccessLog{{Path: "/dev/stdout", Text: "%NO_SUCH%"}}
	errs := s.m.Update([]*config.Listener{tcpListener("l", c)}, nil)
	if err := errs["l"]; err == nil || !strings.Contains(err.Error(), "access log") {
		t.Errorf("got %v", err)
	}
}

// TestProtocolOf: what was agreed on goes before what was offered.
func TestProtocolOf(t *testing.T) {
	for _, tt := range []struct {
		agreed  string
		offered []string
		want    config.Protocol
	}{
		{agreed: "istio-h2", offered: []string{"istio-http/1.1", "istio-h2"}, want: config.ProtocolHTTP2},
		{agreed: "http/1.1", offered: []string{"h2", "http/1.1"}, want: config.ProtocolHTTP1},
		{agreed: "istio", offered: []string{"istio", "h2"}, want: config.ProtocolHTTP2},
		{offered: []string{"http/1.0"}, want: config.ProtocolHTTP1},
		{
			agreed:  "istio-peer-exchange",
			offered: []string{"istio-peer-exchange"},
			want:    config.ProtocolUnknown,
		},
		{want: config.ProtocolUnknown},
	} {
		if got := protocolOf(tt.agreed, tt.offered); got != tt.want {
			t.Errorf("agreed %q, offered %q: %v, want %v", tt.agreed, tt.offered, got, tt.want)
		}
	}
}
