package upstream

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// tries returns how many of many requests that may try an endpoint are sent to 10.0.0.n.
func tries(t *testing.T, m *mesh, n byte) int {
	t.Helper()
	sent := 0
	for range 10 * tryShare {
		e, err := m.Pick(Hint{Try: true})
		if err != nil {
			t.Fatal(err)
		}
		if e == m.endpoint(n) {
			sent++
		}
	}
	return sent
}

// TestTryWhatIsLeftOut: one request at a time finds out whether an endpoint is well again that was left out for its
// answers; the pauses grow while it is not, and when it is it need not wait for its time.
func TestTryWhatIsLeftOut(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2)))
	e := m.endpoint(1)
	report(e, OutcomeGatewayError, 5)
	if n := tries(t, m, 1); n != 0 {
		t.Fatalf("tried %d times at once", n)
	}

	for _, pause := range []time.Duration{firstTry, 2 * firstTry, 4 * firstTry, lastTry, lastTry} {
		m.later(pause - time.Millisecond)
		if n := tries(t, m, 1); n != 0 {
			t.Fatalf("%v after it failed it is tried %d times", pause-time.Millisecond, n)
		}
		m.later(time.Millisecond)
		if got := picks(t, m.Cluster, 100); got[1] != 0 {
			t.Fatalf("%d requests try it that may not", got[1])
		}
		if n := tries(t, m, 1); n != 1 {
			t.Fatalf("%v after it failed it is tried %d times, want once", pause, n)
		}
		e.Report(OutcomeGatewayError)
	}

	m.later(lastTry)
	for i := range enoughTries {
		if !e.Ejected() {
			t.Fatalf("it is back after %d answers", i)
		}
		if n := tries(t, m, 1); n != 1 {
			t.Fatalf("after %d answers it is tried %d times, want once", i, n)
		}
		e.Report(OutcomeOK)
		m.later(nextTry)
	}
	if e.Ejected() {
		t.Error("it has answered often enough, and is left out")
	}
}

// TestTryNoMore: what does not let an endpoint back in.
func TestTryNoMore(t *testing.T) {
	cases := map[string]struct {
		outlier *config.OutlierDetection
		outcome Outcome
		before  func(m *mesh)
		tried   bool
	}{
		"nothing speaks against it": {
			outcome: OutcomeGatewayError,
			tried:   true,
		},
		"the time was chosen": {
			outlier: &config.OutlierDetection{ConsecutiveGateway: 5, BaseEjection: time.Hour, MaxPercent: 50},
			outcome: OutcomeGatewayError,
		},
		"it was not reachable: who knocks finds out": {
			outcome: outcomeConnectError,
		},
		"it cannot be reached now": {
			outcome: OutcomeGatewayError,
			before:  func(m *mesh) { m.endpoint(1).Report(outcomeConnectError) },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, &config.Cluster{Outlier: c.outlier}, locality(0, at(1), at(2)))
			m.dead.Store(true)
			report(m.endpoint(1), c.outcome, 5)
			if !m.endpoint(1).Ejected() {
				t.Fatal("it is not left out")
			}
			if c.before != nil {
				c.before(m)
			}
			m.later(lastTry)
			if n := tries(t, m, 1); (n > 0) != c.tried {
				t.Errorf("tried %d times", n)
			}
		})
	}
}

// TestAnswersOfBefore: requests that were sent before an endpoint was left out say nothing of it now.
func TestAnswersOfBefore(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2)))
	e := m.endpoint(1)
	report(e, OutcomeGatewayError, 5)
	report(e, OutcomeOK, 10)
	if !e.Ejected() {
		t.Error("answers to requests of before let it in")
	}
}

// load is requests to a mesh, 200 a second by the clock of the test, of which every fifth is a POST.
type load struct {
	*mesh
	sick func(*Endpoint) bool // it answers 503
	sent int
	lost int // requests that failed
}

// run sends for a while and returns how many of its requests were answered by 10.0.0.1 to .5.
func (l *load) run(t *testing.T, long time.Duration) (near, all int) {
	t.Helper()
	const pause = 5 * time.Millisecond
	for range long / pause {
		l.sent++
		all++
		if l.one(t, l.sent%5 == 0) {
			near++
		}
		l.later(pause)
	}
	return near, all
}

// one sends a request, as the exchange would have it, and reports whether it was answered near.
func (l *load) one(t *testing.T, post bool) bool {
	t.Helper()
	h := Hint{Try: !post}
	for range 3 {
		e, err := l.Pick(h)
		if err != nil {
			t.Fatal(err)
		}
		if !l.sick(e) {
			e.Report(OutcomeOK)
			return e.priority.Load() == 0
		}
		e.Report(OutcomeGatewayError)
		if post {
			break
		}
		h.Tried = append(h.Tried, e)
		h.Try, h.Leave = false, len(h.Tried) > 1
	}
	l.lost++
	return false
}

// TestNearAgain: a place that has answered 503 gets its load back within seconds of being well, little by little; while it
// is not, no request fails that can be made again, and few others.
func TestNearAgain(t *testing.T) {
	var sick bool
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2), at(3), at(4), at(5)), locality(1, at(6), at(7)))
	l := &load{mesh: m, sick: func(e *Endpoint) bool { return sick && e.priority.Load() == 0 }}
	l.run(t, 2*time.Second)
	sick = true
	l.run(t, time.Second) // until all are left out
	lost, sent := l.lost, l.sent
	if near, _ := l.run(t, 30*time.Second); near > 0 || l.lost > lost {
		t.Errorf("of %d requests %d were lost to endpoints that were known to fail", l.sent-sent, l.lost-lost)
	}

	sick = false
	var healed time.Duration
	for share := 0.0; share < 0.99; healed += 500 * time.Millisecond {
		if healed > time.Minute {
			t.Fatal("calls are not near again")
		}
		near, all := l.run(t, 500*time.Millisecond)
		share = float64(near) / float64(all)
	}
	t.Logf("calls are near again after %v", healed)
	if most := lastTry + backWindow + 2*time.Second; healed > most {
		t.Errorf("calls are near again after %v, want %v at most", healed, most)
	}
}
