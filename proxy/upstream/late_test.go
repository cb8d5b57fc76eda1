package upstream

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/test/hole"
)

// TestPatience: how long a connection may take follows from how long they took.
func TestPatience(t *testing.T) {
	cases := map[string]struct {
		took []time.Duration
		want time.Duration
	}{
		"nothing is known":       {nil, firstPatience},
		"near":                   {[]time.Duration{time.Millisecond, time.Millisecond}, leastPatience},
		"far, the first":         {[]time.Duration{80 * time.Millisecond}, 240 * time.Millisecond},
		"far, the second":        {[]time.Duration{80 * time.Millisecond, 80 * time.Millisecond}, 200 * time.Millisecond},
		"near, and slow at once": {[]time.Duration{0, 200 * time.Millisecond}, 225 * time.Millisecond},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var u usual
			for _, took := range c.took {
				u.note(took)
			}
			if got := u.patience(leastPatience); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestPlacesAreKnown: what is known of a place holds for all endpoints there, over
// changes of them, and for no others.
func TestPlacesAreKnown(t *testing.T) {
	here, there, gateway := locality(0, at(1), at(2)), locality(1, at(3)), locality(1, at(4))
	here.Region, there.Region, gateway.Region = "here", "there", "there"
	gateway.Endpoints[0].Gateway = true
	m := newMesh(t, &config.Cluster{}, here, there, gateway)
	m.endpoint(1).habits.Load().connection.note(time.Millisecond)

	here.Endpoints = append(here.Endpoints, at(5))
	m.set.ApplyEndpoints(eds("e", here, there, gateway))
	for n, want := range map[byte]time.Duration{
		1: leastPatience, 2: leastPatience, 5: leastPatience, 3: firstPatience, 4: firstPatience,
	} {
		if got := m.endpoint(n).habits.Load().connection.patience(leastPatience); got != want {
			t.Errorf("10.0.0.%d: %v, want %v", n, got, want)
		}
	}
}

// closed reports whether a channel is.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestLate: who waits for a connection to a machine that answers nothing is told, and
// requests that have a choice go elsewhere until it has answered or the connection has
// failed. It does not count as a failure before.
func TestLate(t *testing.T) {
	for name, answers := range map[string]bool{"it answers at last": true, "it is gone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, accept := hole.Listen(t)
			limit := time.Second // after which the kernel sends a SYN again
			if answers {
				limit = 20 * time.Second
			}
			s := newTestSet(t, Options{})
			c := apply(t, s, &config.Cluster{
				Name: "c", Type: config.ClusterStatic, ConnectTimeout: limit,
				Endpoints: eds("c", locality(0,
					config.Endpoint{Addr: addr.Addr(), Port: addr.Port(), Healthy: true},
					config.Endpoint{Addr: addr.Addr(), Port: 1, Healthy: true})),
			})
			full := c.Endpoints()[1]
			if full.Addr() != addr {
				full = c.Endpoints()[0]
			}

			before := full.Late()
			done := make(chan error, 1)
			go func() {
				conn, _, err := full.Dial(context.Background(), config.ProtocolTCP)
				if err == nil {
					err = conn.Close()
				}
				done <- err
			}()
			select {
			case <-before:
			case err := <-done:
				t.Fatalf("nobody was told before the dial ended: %v", err)
			}
			if full.calm() || full.health.failures.Load() != 0 {
				t.Errorf("while it is late: calm %v, %d failures", full.calm(), full.health.failures.Load())
			}
			if !closed(full.Late()) {
				t.Error("who comes later is not told")
			}

			if answers {
				accept()
			}
			if err := <-done; (err == nil) != answers {
				t.Errorf("the dial: %v", err)
			}
			if closed(full.Late()) {
				t.Error("it counts as late though no dial is under way")
			}
			if full.calm() != answers {
				t.Errorf("afterwards: calm %v, want %v", full.calm(), answers)
			}
		})
	}
}

// TestLateBehindGateway: a gateway takes connections for endpoints that are gone. Who
// waits for the handshake is told, further connections that the gateway takes change
// nothing, and a handshake that comes about ends it.
func TestLateBehindGateway(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0") // its kernel takes connections
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{
		Name: "c", Type: config.ClusterEDS, EDSName: "e", ConnectTimeout: 20 * time.Second,
		Transport: config.Transport{TLS: &config.UpstreamTLS{}},
	})
	s.ApplyEndpoints(eds("e",
		locality(0, config.Endpoint{Addr: addr.Addr(), Port: addr.Port(), Healthy: true, Gateway: true}), locality(1, at(2))))
	gateway, err := c.Pick(Hint{})
	if err != nil {
		t.Fatal(err)
	}

	ctx, giveUp := context.WithCancel(t.Context())
	late, done := gateway.Late(), make(chan error, 1)
	go func() {
		_, _, err := gateway.Dial(ctx, config.ProtocolHTTP2)
		done <- err
	}()
	select {
	case <-late:
	case err := <-done:
		t.Fatalf("nobody was told before the dial ended: %v", err)
	}
	if !PlaceIsLate([]*Endpoint{gateway}) {
		t.Error("another gateway of the place would be asked")
	}

	if err := tcpReach(ctx, gateway); err != nil {
		t.Fatal(err)
	}
	if !closed(gateway.Late()) || gateway.calm() {
		t.Errorf("the gateway has taken another connection: late %v, calm %v", closed(gateway.Late()), gateway.calm())
	}

	conn, err := net.Dial("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	gateway.watchHandshake(conn.(*net.TCPConn))(nil)
	if closed(gateway.Late()) || !gateway.calm() {
		t.Errorf("a handshake has come about: late %v, calm %v", closed(gateway.Late()), gateway.calm())
	}
	giveUp()
	<-done
}

// TestLateEndsWithAnother: one SYN that was lost says nothing of an endpoint that takes
// other connections.
func TestLateEndsWithAnother(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2)))
	e := m.endpoint(1)
	e.tardy()
	e.tardy()
	e.settled(true, false)
	if !closed(e.Late()) {
		t.Error("one of two late dials has failed, and the other is not late any more")
	}
	e.settled(false, true)
	if closed(e.Late()) || !e.calm() {
		t.Errorf("a connection has come about: late %v, calm %v", closed(e.Late()), e.calm())
	}
	e.settled(true, false)
	if closed(e.Late()) {
		t.Error("a dial that ended made it late")
	}
	e.tardy()
	if !closed(e.Late()) {
		t.Error("the next one that is late is not told")
	}
}

// TestLateLeavesOtherDoubts: that a connection comes about ends no doubt that has
// another reason.
func TestLateLeavesOtherDoubts(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2)))
	e := m.endpoint(1)
	e.tardy()
	e.Report(OutcomeHandedBack)
	m.later(time.Millisecond)
	e.doubt(false)
	e.settled(true, true)
	if e.calm() {
		t.Error("its application had been found to be gone")
	}
}
