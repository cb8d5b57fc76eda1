package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// ejecting is a cluster of n endpoints that are ejected for a moment only.
func ejecting(t *testing.T, n byte, o *config.OutlierDetection) *Cluster {
	t.Helper()
	s := newTestSet(t, Options{})
	s.knocker.reach = func(context.Context, *Endpoint) error { return nil }
	c := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", Outlier: o})
	l := locality(0)
	for i := range n {
		l.Endpoints = append(l.Endpoints, at(i+1))
	}
	s.ApplyEndpoints(eds("e", l))
	brief := &c.settings.Load().outlier
	brief.base, brief.lost, brief.max = 50*time.Millisecond, 50*time.Millisecond, time.Second
	return c
}

func report(e *Endpoint, o Outcome, n int) {
	for range n {
		e.Report(o)
	}
}

func TestEjection(t *testing.T) {
	given := &config.OutlierDetection{Consecutive5xx: 2, MaxPercent: 100}
	cases := map[string]struct {
		endpoints byte
		outlier   *config.OutlierDetection
		outcomes  []Outcome
		ejected   bool
		doubted   bool // not ejected, but nothing goes there
	}{
		"unreachable": {
			endpoints: 2,
			outcomes:  []Outcome{outcomeConnectError, outcomeConnectError, outcomeConnectError},
			ejected:   true,
		},
		"not in a row": {
			endpoints: 2,
			outcomes:  []Outcome{outcomeConnectError, outcomeConnectError, OutcomeOK, outcomeConnectError},
			doubted:   true,
		},
		"the only one": {
			endpoints: 1,
			outcomes:  []Outcome{outcomeConnectError, outcomeConnectError, outcomeConnectError},
		},
		"gateway errors": {
			endpoints: 2,
			outcomes:  []Outcome{OutcomeGatewayError, OutcomeGatewayError, OutcomeReset, OutcomeGatewayError, OutcomeGatewayError},
			ejected:   true,
		},
		"gateway errors, too few": {
			endpoints: 2,
			outcomes:  []Outcome{OutcomeGatewayError, OutcomeGatewayError, OutcomeGatewayError, OutcomeGatewayError},
		},
		"an application's 500": {
			endpoints: 2,
			outcomes:  []Outcome{OutcomeServerError, OutcomeServerError, OutcomeServerError, OutcomeServerError, OutcomeServerError, OutcomeServerError},
		},
		"500 where asked for": {
			endpoints: 2,
			outlier:   given,
			outcomes:  []Outcome{OutcomeServerError, OutcomeServerError},
			ejected:   true,
		},
		"500 where asked for, one": {
			endpoints: 2,
			outlier:   given,
			outcomes:  []Outcome{OutcomeServerError, OutcomeOK, OutcomeServerError},
		},
		"connecting counts as 5xx": {
			endpoints: 2,
			outlier:   given,
			outcomes:  []Outcome{outcomeConnectError, OutcomeServerError},
			ejected:   true,
		},
		"connecting is apart where that is asked for": {
			endpoints: 2,
			outlier:   &config.OutlierDetection{Consecutive5xx: 2, ConsecutiveLocal: 4, Split: true, MaxPercent: 100},
			outcomes:  []Outcome{outcomeConnectError, outcomeConnectError, outcomeConnectError},
			doubted:   true,
		},
		"connecting, so often": {
			endpoints: 2,
			outlier:   &config.OutlierDetection{Consecutive5xx: 2, ConsecutiveLocal: 2, Split: true, MaxPercent: 100},
			outcomes:  []Outcome{outcomeConnectError, outcomeConnectError},
			ejected:   true,
		},
		"all counts are turned off": {
			endpoints: 2,
			outlier:   &config.OutlierDetection{MaxPercent: 100},
			outcomes:  []Outcome{OutcomeReset, OutcomeReset, OutcomeReset, OutcomeReset, OutcomeGatewayError},
			doubted:   true,
		},
		"connections die": {
			endpoints: 2,
			outcomes:  []Outcome{OutcomeLost, OutcomeLost, OutcomeLost},
			ejected:   true,
		},
		"one connection dies": {
			endpoints: 2,
			outcomes:  []Outcome{OutcomeLost},
			doubted:   true,
		},
		"a request is handed back": {
			endpoints: 2,
			outcomes:  []Outcome{OutcomeHandedBack},
			doubted:   true,
		},
		"resets of fresh connections": {
			endpoints: 2,
			outcomes:  []Outcome{OutcomeReset, OutcomeReset, OutcomeReset},
			ejected:   true,
		},
		"one reset": {
			endpoints: 2,
			outcomes:  []Outcome{OutcomeReset},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cl := ejecting(t, c.endpoints, c.outlier)
			e := cl.Endpoints()[0]
			for _, o := range c.outcomes {
				e.Report(o)
			}
			if e.Ejected() != c.ejected {
				t.Errorf("ejected %v, want %v", e.Ejected(), c.ejected)
			}
			if got := picks(t, cl, 100); (got[1] == 0) != (c.ejected || c.doubted) {
				t.Errorf("picked %v", got)
			}
		})
	}
}

// TestEjectionShare: endpoints that answer with errors are ejected up to half;
// those that cannot be reached all but one.
func TestEjectionShare(t *testing.T) {
	for o, want := range map[Outcome]int{OutcomeGatewayError: 2, outcomeConnectError: 3} {
		c := ejecting(t, 4, nil)
		out := 0
		for _, e := range c.Endpoints() {
			report(e, o, 10)
		}
		for _, e := range c.Endpoints() {
			if e.Ejected() {
				out++
			}
		}
		if out != want {
			t.Errorf("outcome %d: %d of 4 are ejected, want %d", o, out, want)
		}
	}
}

// isBack tells whether an endpoint is ejected no more, and the cluster is through with letting it in.
func isBack(e *Endpoint) func() bool {
	return func() bool {
		e.cluster.mu.Lock()
		defer e.cluster.mu.Unlock()
		return !e.Ejected()
	}
}

// TestReadmission: an ejected endpoint comes back as soon as a knock finds it well, is
// ejected by one more failure for longer, whatever knocks find then, and is forgiven
// after success.
func TestReadmission(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2)))
	e := m.endpoint(1)
	pause := func() time.Duration {
		m.Cluster.mu.Lock()
		defer m.Cluster.mu.Unlock()
		return time.Duration(e.health.until - m.now.Load())
	}

	m.dead.Store(true)
	report(e, outcomeConnectError, 3)
	first := pause()
	twoKnocks := func() {
		knocks := m.knocks.Load()
		await(t, "two knocks", func() bool { return m.knocks.Load() >= knocks+2 })
	}
	m.later(first)
	twoKnocks()
	if !e.Ejected() {
		t.Fatal("it is back though it takes no connection")
	}
	m.later(-first)
	m.dead.Store(false)
	await(t, "it comes back", isBack(e))
	if got := picks(t, m.Cluster, 100); got[1] != 1 {
		t.Errorf("it came back and was picked %d times of 100, want one trial", got[1])
	}

	report(e, outcomeConnectError, 1)
	if !e.Ejected() {
		t.Fatal("one more failure did not eject it")
	}
	if second := pause(); second != 2*first {
		t.Errorf("ejected for %v, then for %v", first, second)
	}
	twoKnocks()
	if !e.Ejected() {
		t.Fatal("it is back before its time, though knocks were wrong about it before")
	}
	m.later(2 * first)
	await(t, "it comes back", isBack(e))
	e.Report(OutcomeOK)
	report(e, outcomeConnectError, 2)
	if e.Ejected() {
		t.Error("success was not counted")
	}
	if n, now := m.told(EventEjection), m.told(EventEjected); n != 2 || now != 0 {
		t.Errorf("told of %d ejections, of which %d last", n, now)
	}
}

// TestReadmissionAfterErrors: what answered is let in again by the clock alone.
func TestReadmissionAfterErrors(t *testing.T) {
	c := ejecting(t, 2, nil)
	e := c.Endpoints()[0]
	report(e, OutcomeGatewayError, 5)
	if !e.Ejected() {
		t.Fatal("it was not ejected")
	}
	await(t, "it comes back", isBack(e))
	report(e, OutcomeGatewayError, 1)
	if !e.Ejected() {
		t.Error("one more error did not eject it")
	}
}

// TestDialEjects: real refusals, by real sockets.
func TestDialEjects(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	alive := ln.Addr().(*net.TCPAddr).AddrPort()
	gone, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := gone.Addr().(*net.TCPAddr).AddrPort()
	gone.Close()
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e"})
	var l config.LocalityEndpoints
	for _, a := range []netip.AddrPort{alive, dead} {
		l.Endpoints = append(l.Endpoints, config.Endpoint{Addr: a.Addr(), Port: a.Port(), Weight: 1, Healthy: true})
	}
	s.ApplyEndpoints(eds("e", l))
	for range 6 {
		e, err := c.Pick(Hint{})
		if err != nil {
			t.Fatal(err)
		}
		conn, _, err := e.Dial(context.Background(), config.ProtocolTCP)
		var de *DialError
		switch {
		case e.Addr() == alive && err != nil:
			t.Fatal(err)
		case e.Addr() == dead && (!errors.As(err, &de) || de.Phase != PhaseConnect):
			t.Fatalf("dialling nobody: %v", err)
		case err == nil:
			conn.Close()
		}
	}
	for range 20 {
		if e, _ := c.Pick(Hint{}); e.Addr() == dead {
			t.Fatal("an endpoint that refuses connections is still picked")
		}
	}
}

// TestDialTimeout: the connect timeout holds for the handshake too.
func TestDialTimeout(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	mute := ln.Addr().(*net.TCPAddr).AddrPort()
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{
		Name: "c", Type: config.ClusterStatic, ConnectTimeout: 100 * time.Millisecond,
		Endpoints: eds("c", locality(0, config.Endpoint{Addr: mute.Addr(), Port: mute.Port(), Healthy: true})),
		Transport: config.Transport{TLS: &config.UpstreamTLS{}},
	})
	e, err := c.Pick(Hint{})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, _, err = e.Dial(context.Background(), config.ProtocolTCP)
	var de *DialError
	if !errors.As(err, &de) || de.Phase != PhaseTLS || time.Since(start) > 10*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
}

// TestBindSource: connections come from the address asked for.
func TestBindSource(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{
		Name: "in", Type: config.ClusterOriginalDst, BindSource: []netip.Addr{netip.MustParseAddr("127.0.0.6")},
	})
	e, err := c.Pick(Hint{OriginalDst: ln.Addr().(*net.TCPAddr).AddrPort()})
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := e.Dial(context.Background(), config.ProtocolTCP)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if host, _, _ := net.SplitHostPort(conn.LocalAddr().String()); host != "127.0.0.6" {
		t.Errorf("connected from %s", host)
	}
}

func BenchmarkPick(b *testing.B) {
	s := newTestSet(b, Options{})
	c := apply(b, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", LB: config.LBLeastRequest})
	s.ApplyEndpoints(eds("e", locality(0, at(1), at(2), at(3))))
	for b.Loop() {
		e, _ := c.Pick(Hint{})
		e.Begin()
		e.Report(OutcomeOK)
		e.End()
	}
}
