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
	OutcomeHandedBack           // its sidecar answered for it: the application cannot be asked
	OutcomeReset                // it broke off before it answered
	OutcomeLost                 // a connection of it is dead: it acknowledges nothing more
	outcomeConnectError         // it could not be reached; counted by Dial
)

// health is what an endpoint's record is.
type health struct {
	failures atomic.Uint32 // in a row: connect errors and resets
	gateway  atomic.Uint32 // in a row: these, and 502, 503, 504
	errors5x atomic.Uint32 // in a row: these, and other 5xx
	ejected  atomic.Bool
	times    atomic.Uint32 // ejections so far; grows the time out
	// trial is when one request may go to an endpoint that is in doubt, by
	// Set.now; 0: there is no doubt. See trial.go.
	trial atomic.Int64
	// warm is when it began to take its share, 0 once it has all of it.
	warm atomic.Int64

	// Of an endpoint that is ejected; the cluster's lock guards them.
	lost  bool  // it was unreachable: who knocks at it lets it in
	until int64 // it stays out until then at least, by Set.now
}

// ejectPolicy says when an endpoint is left out and for how long.
type ejectPolicy struct {
	local, gateway, errors5x uint32 // in a row; 0: not counted
	split                    bool   // local failures are not among the other two
	base, max                time.Duration
	// lost is base for endpoints that were unreachable, which are knocked at.
	lost    time.Duration
	percent int // of the endpoints, for answers with an error
	// chosen says that somebody set percent: then it holds for the whole cluster,
	// whatever other priorities have.
	chosen bool
}

// policyOf returns the policy of a cluster. Ejection is on for every cluster
// that is made of endpoints, whether asked for or not: an endpoint that cannot
// be reached three times in a row, or answers 502, 503 or 504 five times in a
// row, sits out 15 s, longer each time; one that was unreachable comes back as
// soon as it can be reached. Where discovery gives figures, they hold.
func policyOf(c *config.Cluster) ejectPolicy {
	if c.Type == config.ClusterOriginalDst {
		return ejectPolicy{}
	}

	p := ejectPolicy{
		local: 3, gateway: 5, base: 15 * time.Second, max: 5 * time.Minute, lost: time.Second, percent: 50,
	}
	o := c.Outlier
	if o == nil {
		return p
	}

	p.gateway, p.errors5x, p.split = o.ConsecutiveGateway, o.Consecutive5xx, o.Split
	if o.Split || o.ConsecutiveLocal > 0 {
		p.local = o.ConsecutiveLocal
	} else if o.ConsecutiveGateway+o.Consecutive5xx == 0 {
		p.local = 0 // who turns both counts off wants no ejection
	}
	if o.BaseEjection > 0 {
		p.base, p.lost = o.BaseEjection, o.BaseEjection
	}
	if o.MaxEjection > 0 {
		p.max = max(o.MaxEjection, p.base)
	}
	p.percent, p.chosen = int(o.MaxPercent), o.MaxPercentGiven
	return p
}

// Report tells how a request or connection to the endpoint went.
func (e *Endpoint) Report(o Outcome) {
	h, p := &e.health, &e.cluster.outlier
	switch o {
	case OutcomeOK:
		e.recovered()
		return
	case outcomeConnectError, OutcomeLost:
		e.doubt(true)
		e.count(1, !p.split, !p.split)
	case OutcomeHandedBack:
		// Behind a gateway it is one endpoint of many that is meant.
		if e.cfg.Gateway {
			e.count(0, true, true)
			break
		}
		e.doubt(false)
		e.count(1, true, true)
	case OutcomeReset:
		if h.failures.Load() > 0 { // one alone is no reason to stay away
			e.doubt(false)
		}
		e.count(1, !p.split, !p.split)
	case OutcomeGatewayError:
		h.failures.Store(0)
		e.retried()
		e.count(0, true, true)
	case OutcomeServerError:
		h.failures.Store(0)
		h.gateway.Store(0)
		e.count(0, false, true)
	}

	unreachable := o == outcomeConnectError || o == OutcomeLost
	switch {
	case p.local > 0 && h.failures.Load() >= p.local,
		p.gateway > 0 && h.gateway.Load() >= p.gateway,
		p.errors5x > 0 && h.errors5x.Load() >= p.errors5x:
		e.cluster.eject(e, unreachable)
	}
}

// count adds to the counts of failures in a row.
func (e *Endpoint) count(local uint32, gateway, errors5x bool) {
	h := &e.health
	if local > 0 {
		h.failures.Add(local)
	}
	if gateway {
		h.gateway.Add(1)
	}
	if errors5x {
		h.errors5x.Add(1)
	}
}

// recovered notes a success. It loads alone, as a rule: stores would make every
// core fetch the line anew, for each request.
func (e *Endpoint) recovered() {
	h := &e.health
	if h.errors5x.Load()|h.gateway.Load()|h.failures.Load() != 0 {
		h.failures.Store(0)
		h.gateway.Store(0)
		h.errors5x.Store(0)
	}
	if h.times.Load() != 0 && !h.ejected.Load() {
		h.times.Store(0)
	}
	e.cleared()
}

// Ejected tells whether the endpoint sits out.
func (e *Endpoint) Ejected() bool { return e.health.ejected.Load() }

// eject leaves an endpoint out for a while.
func (c *Cluster) eject(e *Endpoint, unreachable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.stopped || e.retired.Load() || e.health.ejected.Load() || !c.maySpareLocked(e, unreachable) {
		return
	}

	e.health.ejected.Store(true)
	base := c.outlier.base
	if unreachable {
		base = c.outlier.lost
	}
	pause := min(time.Duration(e.health.times.Add(1))*base, c.outlier.max)
	e.health.lost, e.health.until = unreachable, c.set.now()+int64(pause)
	c.tell(EventEjection, 1)
	c.tellEjectedLocked()
	c.rebuildLocked()
	c.set.log.Warn("endpoint ejected", "cluster", c.cfg.Name, "endpoint", e.addr, "for", pause, "unreachable", unreachable)

	if unreachable {
		c.set.knocker.watch(e) // and who knocks readmits it
		return
	}
	time.AfterFunc(pause, func() { c.readmit(e) })
}

// maySpareLocked tells whether the cluster can do without an endpoint. One that
// cannot be reached is left out as long as another remains in the cluster. One
// that answers with errors is left out as long as another priority has a healthy
// endpoint, or the policy's share of its own priority is not used up: when
// everybody fails, the fault is likely to lie elsewhere.
func (c *Cluster) maySpareLocked(e *Endpoint, unreachable bool) bool {
	var own *member
	for i := range c.members {
		if c.members[i].e == e {
			own = &c.members[i]
		}
	}
	if own == nil {
		return false
	}

	out, n := 0, 0 // of the own priority
	near, far := 0, 0
	allOut := 0
	for i := range c.members {
		m := &c.members[i]
		ejected := m.e.health.ejected.Load()
		if ejected {
			allOut++
		}
		switch {
		case m.e == e:
		case m.priority == own.priority && m.up():
			near++
		case m.up():
			far++
		}
		if m.priority == own.priority {
			n++
			if ejected {
				out++
			}
		}
	}

	switch {
	case near+far == 0:
		return false
	case unreachable:
		return true
	case c.outlier.chosen:
		return (allOut+1)*100 <= len(c.members)*c.outlier.percent
	case far > 0:
		return true
	}
	return (out+1)*100 <= n*c.outlier.percent
}

// readmit lets an endpoint in again, on trial: one request goes there before
// others do, and one more failure of the kind that is counted ejects it again.
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
	e.health.trial.Store(c.set.now())
	e.begin()
	if !c.stopped {
		c.tellEjectedLocked()
		c.rebuildLocked()
	}
}

func (c *Cluster) tellEjectedLocked() {
	n := 0
	for _, e := range c.known {
		if e.health.ejected.Load() {
			n++
		}
	}
	c.tell(EventEjected, n)
}

// lastStrike is the count at which one more failure ejects.
func lastStrike(limit uint32) uint32 {
	if limit == 0 {
		return 0
	}
	return limit - 1
}
