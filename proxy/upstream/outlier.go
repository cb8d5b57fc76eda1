package upstream

import (
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Outcome is how a request or connection went, as far as the endpoint is to
// blame.
type Outcome uint8

// Outcomes.
const (
	OutcomeOK           Outcome = iota
	OutcomeServerError          // the endpoint answered 500, 501, 505...
	OutcomeGatewayError         // it answered 502, 503 or 504
	OutcomeReset                // it broke off before it answered
	outcomeConnectError         // it could not be reached; counted by Dial
)

// health is what an endpoint's record is.
type health struct {
	failures atomic.Uint32 // in a row: connect errors and resets
	gateway  atomic.Uint32 // in a row: these, and 502, 503, 504
	errors5x atomic.Uint32 // in a row: these, and other 5xx
	ejected  atomic.Bool
	times    atomic.Uint32 // ejections so far; grows the time out
}

// ejectPolicy says when an endpoint is left out and for how long.
type ejectPolicy struct {
	local, gateway, errors5x uint32 // in a row; 0: not counted
	base, max                time.Duration
	percent                  int // of the endpoints, for answers with an error
}

// policyOf returns the policy of a cluster. Ejection is on for every cluster
// that is made of endpoints, whether asked for or not: an endpoint that cannot
// be reached three times in a row, or answers 502, 503 or 504 five times in a
// row, sits out 15 s, longer each time. Where discovery gives figures, they
// hold.
func policyOf(c *config.Cluster) ejectPolicy {
	if c.Type == config.ClusterOriginalDst {
		return ejectPolicy{}
	}

	p := ejectPolicy{local: 3, gateway: 5, base: 15 * time.Second, max: 5 * time.Minute, percent: 50}
	if o := c.Outlier; o != nil {
		p.gateway, p.errors5x = o.ConsecutiveGateway, o.Consecutive5xx
		if o.ConsecutiveLocal > 0 {
			p.local = o.ConsecutiveLocal
		}
		if o.BaseEjection > 0 {
			p.base = o.BaseEjection
		}
		if o.MaxEjection > 0 {
			p.max = max(o.MaxEjection, p.base)
		}
		p.percent = int(o.MaxPercent)
	}

	return p
}

// Report tells how a request or connection to the endpoint went.
func (e *Endpoint) Report(o Outcome) {
	h, p := &e.health, &e.cluster.outlier
	switch o {
	case OutcomeOK:
		// Loads alone, as a rule: stores would make every core fetch the line
		// anew, for each request.
		if h.errors5x.Load()|h.gateway.Load()|h.failures.Load() != 0 {
			h.failures.Store(0)
			h.gateway.Store(0)
			h.errors5x.Store(0)
		}
		if h.times.Load() != 0 && !h.ejected.Load() {
			h.times.Store(0)
		}
	case outcomeConnectError:
		h.gateway.Add(1)
		h.errors5x.Add(1)
		if n := h.failures.Add(1); p.local > 0 && n >= p.local {
			e.cluster.eject(e, true)
		}
	case OutcomeReset:
		h.errors5x.Add(1)
		h.failures.Add(1)
		if n := h.gateway.Add(1); p.gateway > 0 && n >= p.gateway {
			e.cluster.eject(e, false)
		}
	case OutcomeGatewayError:
		h.failures.Store(0)
		h.errors5x.Add(1)
		if n := h.gateway.Add(1); p.gateway > 0 && n >= p.gateway {
			e.cluster.eject(e, false)
		}
	case OutcomeServerError:
		h.failures.Store(0)
		h.gateway.Store(0)
	}

	if o != OutcomeOK && p.errors5x > 0 {
		if o == OutcomeServerError {
			h.errors5x.Add(1)
		}
		if h.errors5x.Load() >= p.errors5x {
			e.cluster.eject(e, false)
		}
	}
}

// Ejected tells whether the endpoint sits out.
func (e *Endpoint) Ejected() bool { return e.health.ejected.Load() }

// eject leaves an endpoint out for a while. One that cannot be reached is
// left out as long as another remains; one that answers with errors only as
// long as the policy's share of endpoints is not used up.
func (c *Cluster) eject(e *Endpoint, unreachable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.stopped || e.retired.Load() || e.health.ejected.Load() || c.known[keyOf(&e.cfg)] != e {
		return
	}

	out := 0
	for _, k := range c.known {
		if k.health.ejected.Load() {
			out++
		}
	}

	n := len(c.known)
	if out+1 >= n || !unreachable && (out+1)*100 > n*c.outlier.percent {
		return
	}

	e.health.ejected.Store(true)
	times := e.health.times.Add(1)
	pause := min(time.Duration(times)*c.outlier.base, c.outlier.max)
	c.rebuildLocked()
	c.set.log.Warn("endpoint ejected", "cluster", c.cfg.Name, "endpoint", e.addr, "for", pause, "unreachable", unreachable)
	time.AfterFunc(pause, func() { c.readmit(e) })
}

// readmit lets an endpoint in again, on probation: one more failure of the
// kind that is counted ejects it again.
func (c *Cluster) readmit(e *Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !e.health.ejected.Swap(false) {
		return
	}

	p := &c.outlier
	e.health.failures.Store(lastStrike(p.local))
	e.health.gateway.Store(lastStrike(p.gateway))
	e.health.errors5x.Store(lastStrike(p.errors5x))
	if !c.stopped {
		c.rebuildLocked()
	}
}

// lastStrike is the count at which one more failure ejects.
func lastStrike(limit uint32) uint32 {
	if limit == 0 {
		return 0
	}
	return limit - 1
}
