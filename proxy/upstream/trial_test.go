package upstream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// mesh is a cluster whose time and reachability a test decides about.
type mesh struct {
	*Cluster
	set    *Set
	now    atomic.Int64
	dead   atomic.Bool // nobody takes a connection
	knocks atomic.Int64

	mu     sync.Mutex // guards events
	events map[Event]int
}

// told returns how many events of a kind there were, or the last value.
func (m *mesh) told(e Event) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.events[e]
}

func newMesh(t *testing.T, cfg *config.Cluster, ls ...config.LocalityEndpoints) *mesh {
	t.Helper()
	m := &mesh{events: map[Event]int{}}
	m.set = newTestSet(t, Options{Event: func(_ string, e Event, n int) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if e == EventEjected || e == EventPanic {
			m.events[e] = n
		} else {
			m.events[e] += n
		}
	}})
	m.now.Store(int64(time.Hour))
	m.set.clock = m.now.Load
	m.set.knocker.reach = func(context.Context, *Endpoint) error {
		m.knocks.Add(1)
		if m.dead.Load() {
			return errors.New("nobody is there")
		}
		return nil
	}
	cfg.Name, cfg.Type, cfg.EDSName = "c", config.ClusterEDS, "e"
	m.Cluster = apply(t, m.set, cfg)
	m.set.ApplyEndpoints(eds("e", ls...))
	return m
}

func (m *mesh) later(d time.Duration) { m.now.Add(int64(d)) }

// endpoint returns 10.0.0.n.
func (m *mesh) endpoint(n byte) *Endpoint {
	for _, e := range m.Endpoints() {
		if e.Addr().Addr().As4()[3] == n {
			return e
		}
	}
	return nil
}

// await waits for something that other goroutines do.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// TestTrial: after a failure that cannot be mistaken, one request at a time tries
// an endpoint again, and its outcome decides for all.
func TestTrial(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2)))
	e := m.endpoint(1)
	e.Report(OutcomeHandedBack)
	if got := picks(t, m.Cluster, 100); got[1] != 0 {
		t.Fatalf("in doubt it was picked %d times", got[1])
	}

	m.later(doubtTime)
	if got := picks(t, m.Cluster, 100); got[1] != 1 {
		t.Fatalf("%d requests are on trial, want 1", got[1])
	}
	e.Report(OutcomeGatewayError)
	if got := picks(t, m.Cluster, 100); got[1] != 0 {
		t.Fatal("a trial that failed changed nothing")
	}

	m.later(doubtTime)
	picks(t, m.Cluster, 100)
	m.later(trialTime) // whoever had the trial made nothing of it
	if got := picks(t, m.Cluster, 100); got[1] != 1 {
		t.Fatalf("after a trial that was lost there are %d, want 1", got[1])
	}
	e.Report(OutcomeOK)
	if got := picks(t, m.Cluster, 100); got[1] < 20 {
		t.Errorf("after a trial that went well it was picked %d times of 100", got[1])
	}
}

// TestUnreachable: no user's request has to find out when an endpoint is back.
func TestUnreachable(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2)))
	m.dead.Store(true)
	e := m.endpoint(1)
	e.Report(outcomeConnectError)
	for range 10 {
		m.later(time.Minute)
		if got := picks(t, m.Cluster, 20); got[1] != 0 {
			t.Fatalf("it cannot be reached and was picked %d times", got[1])
		}
	}
	e.Report(OutcomeOK) // on a connection of old
	if got := picks(t, m.Cluster, 20); got[1] != 0 {
		t.Fatal("an answer on an old connection is taken for a new one")
	}

	await(t, "knocks in vain eject it", e.Ejected)
	m.dead.Store(false)
	m.later(time.Minute)
	await(t, "one that opens lets it in", func() bool { return !e.Ejected() })
	if got := picks(t, m.Cluster, 100); got[1] != 1 {
		t.Fatalf("%d requests are on trial, want 1", got[1])
	}
	e.Report(OutcomeOK)
	if got := picks(t, m.Cluster, 100); got[1] < 20 {
		t.Errorf("it is back and was picked %d times of 100", got[1])
	}
}

// TestDoubtOfTheOnlyOne: where there is nothing else, what is in doubt is used.
func TestDoubtOfTheOnlyOne(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1)))
	m.dead.Store(true)
	m.endpoint(1).Report(outcomeConnectError)
	if got := picks(t, m.Cluster, 10); got[1] != 10 {
		t.Errorf("picked %v", got)
	}
}

// TestGatewayIsKnockedAt: the end of a gateway that is in use is found without a
// request that fails, for each cluster that has it.
func TestGatewayIsKnockedAt(t *testing.T) {
	gw := at(1)
	gw.Gateway = true
	m := newMesh(t, &config.Cluster{}, locality(0, gw), locality(1, at(2)))
	m.dead.Store(true)
	e := m.endpoint(1)
	e.Begin()
	defer e.End()
	await(t, "a knock finds the gateway dead", func() bool { return e.health.trial.Load() == whoKnocks })
	if got := picks(t, m.Cluster, 20); got[2] != 20 {
		t.Errorf("picked %v", got)
	}
}

// TestUnusedGatewayIsLeftAlone: nothing is knocked at that nobody uses.
func TestUnusedGatewayIsLeftAlone(t *testing.T) {
	gw := at(1)
	gw.Gateway = true
	m := newMesh(t, &config.Cluster{}, locality(0, gw))
	d := m.set.knocker.doors[m.endpoint(1).addr]
	list, doubted, used, open := m.set.knocker.look(m.endpoint(1).addr, d)
	if len(list) != 1 || doubted || used || !open {
		t.Errorf("got %v, in doubt %v, used %v, open %v", list, doubted, used, open)
	}
}

// TestDoubtedWhileItIsLookedAt: an endpoint that comes to be in doubt at the very moment
// at which nobody seems to want to know about it any more is knocked at all the same.
// It was forgotten, and so left out for as long as there was another.
func TestDoubtedWhileItIsLookedAt(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1)), locality(1, at(2)))
	e, k := m.endpoint(1), m.set.knocker

	// Nobody waits behind the door, and it is about to be looked at, which stops at the
	// lock of the cluster.
	m.Cluster.mu.Lock()
	k.watch(e)
	k.mu.Lock()
	d := k.doors[e.addr]
	k.mu.Unlock()
	d.soon <- struct{}{}
	time.Sleep(2 * firstKnock)

	e.doubt(true)
	m.Cluster.mu.Unlock()
	await(t, "it is let in again", func() bool { return e.health.trial.Load() != whoKnocks })
}

// TestGatewayHandsBack: one pod of many behind a gateway is no reason to leave it,
// and it may be asked for another when there is nothing else.
func TestGatewayHandsBack(t *testing.T) {
	gw := at(1)
	gw.Gateway = true
	m := newMesh(t, &config.Cluster{}, locality(0, gw))
	e := m.endpoint(1)
	e.Report(OutcomeHandedBack)
	if !e.calm() {
		t.Error("the gateway is in doubt")
	}

	tried := []*Endpoint{e}
	if got, err := m.Pick(Hint{Tried: tried, Again: true, Healthy: true}); got != e {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := m.Pick(Hint{Tried: tried}); err == nil {
		t.Errorf("a gateway that could not be reached is asked again: %v", got.Addr())
	}
	m.set.ApplyEndpoints(eds("e", locality(0, gw), locality(1, at(2))))
	if got, err := m.Pick(Hint{Tried: tried, Again: true}); err != nil || got == e {
		t.Errorf("another one is there, and got %v, %v", got, err)
	}
}
