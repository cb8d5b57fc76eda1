package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

// Peak EWMA (Finagle's load balancer of that name): an endpoint costs what its
// answers took of late, times the requests that it has and would have. What takes
// longer than the average counts in full at once, so that one slow answer keeps
// others from following it; it is forgotten with time, whether or not the
// endpoint is asked again.

const (
	// decay is in what time a peak falls to 1/e.
	decay = 10 * time.Second
	// unmeasured is what an endpoint costs for each request that it has before
	// its first answer: it gets one request at a time.
	unmeasured = float64(time.Second)
)

// latency is how long an endpoint took of late.
type latency struct {
	ns atomic.Uint64 // a float64, as of at; 0: not measured yet
	at atomic.Int64  // by Set.now
}

// PeakEWMA tells whether the cluster wants to know how long requests took.
func (c *Cluster) PeakEWMA() bool { return c.Config().Balance.PeakEWMA }

// Took notes how long the endpoint took for one request. Of two that come at the
// same moment one may be lost.
func (e *Endpoint) Took(d time.Duration) {
	l, now := &e.latency, e.cluster.set.now()
	old := math.Float64frombits(l.ns.Load())
	v := max(float64(d), 1)
	if v < old {
		w := math.Exp(-float64(now-l.at.Load()) / float64(decay))
		v = old*w + v*(1-w)
	}
	l.ns.Store(math.Float64bits(v))
	l.at.Store(now)
}

// cost is what one more request would cost.
func (e *Endpoint) cost(now int64) float64 {
	l, active := &e.latency, float64(e.Active())
	v := math.Float64frombits(l.ns.Load())
	if v == 0 {
		return active * unmeasured
	}
	return v * math.Exp(-float64(now-l.at.Load())/float64(decay)) * (active + 1)
}

// quicker returns the one of two endpoints that costs less.
func (p *place) quicker(c *Cluster) *Endpoint {
	i, j, one := p.two()
	a, b := p.endpoints[i], p.endpoints[j]
	if one {
		return a
	}
	now := c.set.now()
	x, y := a.cost(now), b.cost(now)
	if p.weights != nil {
		x, y = x*float64(p.weights[j]), y*float64(p.weights[i])
	}
	if y < x {
		return b
	}
	return a
}
