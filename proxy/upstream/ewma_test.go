package upstream

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestPeakEWMA: an endpoint that was slow once is left alone for a while, and not
// for ever.
func TestPeakEWMA(t *testing.T) {
	m := newMesh(t, &config.Cluster{Balance: config.Balance{PeakEWMA: true}}, locality(0, at(1), at(2)))
	m.endpoint(1).Took(10 * time.Millisecond)
	m.endpoint(2).Took(10 * time.Millisecond)
	m.endpoint(1).Took(200 * time.Millisecond)
	if got := picks(t, m.Cluster, 100); got[1] != 0 {
		t.Fatalf("the slow one was picked %d times", got[1])
	}
	for range 60 {
		m.later(time.Second)
		m.endpoint(2).Took(10 * time.Millisecond)
	}
	if got := picks(t, m.Cluster, 100); got[1] == 0 {
		t.Error("a peak is never forgotten")
	}
}

// slowOne is a queue of requests against ten endpoints of which one takes twenty
// times as long; it returns the 99th percentile of how long a request took.
func slowOne(c *Cluster, now func() int64, advance func(time.Duration), seed uint64) time.Duration {
	type flight struct {
		e    *Endpoint
		took time.Duration
		end  int64
	}
	r := rand.New(rand.NewPCG(seed, 1))
	var open []flight
	var took []time.Duration
	for range 20_000 {
		advance(time.Duration(r.ExpFloat64() * float64(2*time.Millisecond))) // 500 a second
		open = slices.DeleteFunc(open, func(f flight) bool {
			if f.end > now() {
				return false
			}
			f.e.End()
			f.e.Took(f.took)
			took = append(took, f.took)
			return true
		})
		e, err := c.Pick(Hint{})
		if err != nil {
			panic(err)
		}
		d := time.Duration((0.5 + r.ExpFloat64()*0.5) * float64(5*time.Millisecond))
		if e.Addr().Addr().As4()[3] == 1 {
			d *= 20
		}
		e.Begin()
		open = append(open, flight{e, d, now() + int64(d)})
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// TestOneSlowEndpointInTen: what the choice by latency is for.
func TestOneSlowEndpointInTen(t *testing.T) {
	p99 := map[bool]time.Duration{}
	for _, ewma := range []bool{false, true} {
		m := newMesh(t, &config.Cluster{LB: config.LBLeastRequest, Balance: config.Balance{PeakEWMA: ewma}},
			locality(0, at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9), at(10)))
		p99[ewma] = slowOne(m.Cluster, m.now.Load, m.later, 7)
	}
	t.Logf("p99: least request %v, peak EWMA %v", p99[false], p99[true])
	if p99[true]*3 > p99[false] {
		t.Errorf("p99 with peak EWMA %v, with least request %v", p99[true], p99[false])
	}
}

func BenchmarkPickPeakEWMA(b *testing.B) {
	s := newTestSet(b, Options{})
	c := apply(b, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", Balance: config.Balance{PeakEWMA: true}})
	s.ApplyEndpoints(eds("e", locality(0, at(1), at(2), at(3))))
	for b.Loop() {
		e, _ := c.Pick(Hint{})
		e.Begin()
		e.Report(OutcomeOK)
		e.Took(time.Millisecond)
		e.End()
	}
}
