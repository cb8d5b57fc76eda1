package upstream

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestEjectionByPriority: all of a priority may be left out while another one has a
// healthy endpoint, unless somebody has bounded it; never the last of the cluster.
func TestEjectionByPriority(t *testing.T) {
	near := locality(0, at(1), at(2), at(3), at(4))
	far := locality(1, at(5), at(6))
	cases := map[string]struct {
		outlier *config.OutlierDetection
		ls      []config.LocalityEndpoints
		fails   []byte
		out     int
	}{
		"nothing else is there":     {nil, []config.LocalityEndpoints{near}, []byte{1, 2, 3, 4}, 2},
		"another priority is there": {nil, []config.LocalityEndpoints{near, far}, []byte{1, 2, 3, 4}, 4},
		"both priorities fail":      {nil, []config.LocalityEndpoints{near, far}, []byte{1, 2, 3, 4, 5, 6}, 5},
		"another priority, unhealthy": {
			nil, []config.LocalityEndpoints{near, locality(1, withoutHealth(5))}, []byte{1, 2, 3, 4}, 2,
		},
		"a bound of Envoy's": {
			&config.OutlierDetection{ConsecutiveGateway: 5, MaxPercent: 10},
			[]config.LocalityEndpoints{near, far}, []byte{1, 2, 3, 4}, 4,
		},
		"a bound that was set": {
			&config.OutlierDetection{ConsecutiveGateway: 5, MaxPercent: 34, MaxPercentGiven: true},
			[]config.LocalityEndpoints{near, far}, []byte{1, 2, 3, 4}, 2,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, &config.Cluster{Outlier: c.outlier}, c.ls...)
			out := 0
			for _, n := range c.fails {
				report(m.endpoint(n), OutcomeGatewayError, 6)
				if m.endpoint(n).Ejected() {
					out++
				}
			}
			if out != c.out {
				t.Errorf("%d are out, want %d", out, c.out)
			}
			picks(t, m.Cluster, 10) // there is always one
		})
	}
}

// TestWhatIsLeftOutIsLast: when what is left has failed for a request, what is left
// out may still answer it.
func TestWhatIsLeftOutIsLast(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2)))
	report(m.endpoint(1), OutcomeGatewayError, 5)
	tried := []*Endpoint{m.endpoint(2)}
	if e, err := m.Pick(Hint{Tried: tried}); err != nil || e != m.endpoint(1) {
		t.Errorf("got %v, %v", e, err)
	}
	if e, err := m.Pick(Hint{Tried: tried, Healthy: true}); err == nil {
		t.Errorf("an answer would be given up for %v, which is left out", e.Addr())
	}
}

// TestLeavePriority: a retry can leave the priorities of those that failed.
func TestLeavePriority(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2), at(3)), locality(1, at(4)))
	h := Hint{Tried: []*Endpoint{m.endpoint(1)}}
	for range 50 {
		if e, _ := m.Pick(h); e == m.endpoint(4) || e == m.endpoint(1) {
			t.Fatalf("the next one is %v", e.Addr())
		}
	}
	h.Leave = true
	for range 50 {
		if e, _ := m.Pick(h); e != m.endpoint(4) {
			t.Fatalf("the next one is %v", e.Addr())
		}
	}
	m.endpoint(4).Report(outcomeConnectError)
	for range 50 {
		if e, _ := m.Pick(h); e != m.endpoint(4) {
			t.Fatalf("with the next priority in doubt, the next one is %v", e.Addr())
		}
	}
	h.Tried = append(h.Tried, m.endpoint(4))
	if e, err := m.Pick(h); err != nil || e == m.endpoint(1) || e == m.endpoint(4) {
		t.Errorf("with every priority tried, got %v, %v", e, err)
	}
}

// TestPriorityComesBack: a priority that was away gets its load back little by
// little, and all of it in the end.
func TestPriorityComesBack(t *testing.T) {
	near, far := locality(0, at(1), at(2)), locality(1, at(3))
	m := newMesh(t, &config.Cluster{}, near, far)
	if got := picks(t, m.Cluster, 100); got[3] != 0 {
		t.Fatalf("at first %d requests go far", got[3])
	}
	m.set.ApplyEndpoints(eds("e", far))
	if got := picks(t, m.Cluster, 100); got[3] != 100 {
		t.Fatalf("without the near ones %d of 100 requests go far", got[3])
	}

	m.set.ApplyEndpoints(eds("e", near, far))
	for _, c := range []struct {
		after time.Duration
		far   int // of 1000
	}{
		{0, 900},
		{backWindow / 2, 500},
		{backWindow * 8 / 10, 200},
		{backWindow, 0},
	} {
		m.now.Store(int64(time.Hour + c.after))
		if got := picks(t, m.Cluster, 1000)[3]; got < c.far-70 || got > c.far+70 {
			t.Errorf("after %v %d of 1000 requests go far, want about %d", c.after, got, c.far)
		}
	}
	m.coolDown()
	if m.table.Load().warming {
		t.Error("it is warming up for ever")
	}
}

// TestPriorityComesBackAlone: with nothing to share the load with, it takes it all.
func TestPriorityComesBackAlone(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(1, at(3)))
	m.set.ApplyEndpoints(eds("e", locality(0, at(1))))
	if got := picks(t, m.Cluster, 100); got[1] != 100 {
		t.Errorf("picked %v", got)
	}
}

// TestSlowStart: a new endpoint begins with a part of its share where that is asked
// for.
func TestSlowStart(t *testing.T) {
	m := newMesh(t, &config.Cluster{
		LB:      config.LBRandom,
		Balance: config.Balance{SlowStart: &config.SlowStart{Window: 100 * time.Second, Aggression: 1, MinPercent: 10}},
	}, locality(0, at(1), at(2)))
	m.later(200 * time.Second)
	picks(t, m.Cluster, 100)
	m.set.ApplyEndpoints(eds("e", locality(0, at(1), at(2), at(3))))
	for _, c := range []struct {
		after time.Duration
		want  int // of 1000
	}{
		{0, 48}, // 0.1 of 2.1
		{50 * time.Second, 200},
		{50 * time.Second, 333},
	} {
		m.later(c.after)
		if got := picks(t, m.Cluster, 1000)[3]; got < c.want-45 || got > c.want+45 {
			t.Errorf("%v later it is picked %d times of 1000, want about %d", c.after, got, c.want)
		}
	}
	if !m.endpoint(3).calm() {
		t.Error("it is warming up for ever")
	}
}

// TestLeaveWhatIsLeftOut: a request that is to leave a priority does so, too, when the
// endpoint that it has tried there was left out, or is gone, by the time it failed.
func TestLeaveWhatIsLeftOut(t *testing.T) {
	near, far := locality(0, at(1), at(2), at(3)), locality(1, at(4))
	ends := map[string]func(m *mesh){
		"it is as it was":   func(*mesh) {},
		"it is left out":    func(m *mesh) { report(m.endpoint(1), OutcomeReset, 3) },
		"it is gone":        func(m *mesh) { m.set.ApplyEndpoints(eds("e", locality(0, at(2), at(3)), far)) },
		"another has moved": func(m *mesh) { m.set.ApplyEndpoints(eds("e", locality(0, at(1), at(3)), locality(1, at(4), at(2)))) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, &config.Cluster{}, near, far)
			tried := []*Endpoint{m.endpoint(1)}
			end(m)
			for range 50 {
				e, err := m.Pick(Hint{Tried: tried, Leave: true})
				if err != nil || e.priority.Load() != 1 {
					t.Fatalf("got %v, %v, of the priority that it leaves", e.Addr(), err)
				}
			}
		})
	}
}
