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

	// tryAt is when one request may try an endpoint that is ejected, by Set.now; 0:
	// none may. tried says that one does. See probation.go.
	tryAt atomic.Int64
	tried atomic.Bool

	// owed is 1 more than the protocol for which a TLS handshake has failed, until one
	// comes about, and 0 then.
	owed atomic.Uint32

	// Of an endpoint that is ejected; the cluster's lock guards them.
	lost      bool  // it was unreachable: who knocks at it lets it in
	until     int64 // it stays out until then, unless it is found well before, by Set.now
	firm      bool  // it stays out until then whatever knocks find
	probation probation
	// proven is what let an endpoint in that was lost, the last time; the cluster's lock
	// guards it.
	proven proof
}

// ejectPolicy says when an endpoint is left out and for how long.
type ejectPolicy struct {
	local, gateway, errors5x uint32 // in a row; 0: not counted
	split                    bool   // local failures are not among the other two
	base, max                time.Duration
	// lost is base for endpoints that were unreachable, which are knocked at.
	lost time.Duration
	// timed says that somebody set base: then nobody comes back earlier.
	timed   bool
	percent int // of the endpoints, for answers with an error
	// chosen says that somebody set percent: then it holds for the whole cluster,
	// whatever other priorities have.
	chosen bool
}

// policyOf returns the policy of a cluster. Ejection is on for every cluster
// that is made of endpoints, whether asked for or not: an endpoint that cannot
// be reached three times in a row, or answers 502, 503 or 504 five times in a
// row, sits out 15 s, longer each time; it comes back before, as soon as it can be
// reached, or has answered requests that tried it. What knocks find does not end the
// time of one that failed again after they had found it well: there is more to it than
// they see. Where discovery gives figures, they hold.
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
		p.base, p.lost, p.timed = o.BaseEjection, o.BaseEjection, true
	}
	if o.MaxEjection > 0 {
		p.max = max(o.MaxEjection, p.base)
	}
	p.percent, p.chosen = int(o.MaxPercent), o.MaxPercentGiven
	return p
}

// off tells whether nothing ejects.
func (p *ejectPolicy) off() bool { return p.local+p.gateway+p.errors5x == 0 }

// pause is how long an endpoint sits out that has to for the times-th time.
func (p *ejectPolicy) pause(times uint32, unreachable bool) time.Duration {
	base := p.base
	if unreachable {
		base = p.lost
	}
	return min(time.Duration(times)*base, p.max)
}

// Report tells how a request or connection to the endpoint went.
func (e *Endpoint) Report(o Outcome) {
	h, p := &e.health, &e.cluster.settings.Load().outlier
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
	if h.ejected.Load() {
		e.judge(false)
	}
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
	if h.times.Load() != 0 {
		if h.ejected.Load() {
			e.judge(true)
		} else {
			h.times.Store(0)
		}
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

	h := &e.health
	h.ejected.Store(true)
	h.lost = unreachable
	c.probeLocked(e)

	policy, times := &c.settings.Load().outlier, h.times.Add(1)
	h.firm = policy.timed || times > 1 && h.proven >= h.missed()
	h.proven = unproven

	pause := policy.pause(times, unreachable)
	c.sitOutLocked(e, c.set.now()+int64(pause))
	c.tell(EventEjection, 1)
	c.tellEjectedLocked()
	c.rebuildLocked()
	c.set.log.Warn("endpoint ejected", "cluster", c.name, "endpoint", e.addr, "for", pause, "unreachable", unreachable)
}

// missed is the least that speaks for an endpoint which could not be reached: that it does
// now what it has failed of.
func (h *health) missed() proof {
	if h.owed.Load() != 0 {
		return provenByHandshake
	}
	return provenByConnection
}

// sitOutLocked keeps an endpoint out until a time, by Set.now.
func (c *Cluster) sitOutLocked(e *Endpoint, until int64) {
	e.health.until = until
	if e.health.lost {
		c.set.knocker.watch(e) // and who knocks readmits it
		return
	}
	time.AfterFunc(time.Duration(until-c.set.now()), func() { c.readmit(e, until) })
}

// reviewLocked judges an endpoint that sits out by settings that are new: it does so
// for no longer than they say, and not at all where nothing ejects by them.
func (c *Cluster) reviewLocked(e *Endpoint) {
	h, p := &e.health, &c.settings.Load().outlier
	switch until := c.set.now() + int64(p.pause(h.times.Load(), h.lost)); {
	case !h.ejected.Load():
	case p.off():
		c.letInLocked(e)
		if h.lost { // it still cannot be reached, as far as is known
			h.trial.Store(whoKnocks)
			c.set.knocker.alarm(e)
		}
	case until < h.until:
		c.sitOutLocked(e, until)
	}
	if p.timed {
		h.tryAt.Store(0)
		h.firm = true
	}
}

// secondChanceLocked is for an endpoint that is reached in another way from now on, as
// when the mode of TLS changes: what it has failed of may have been the way.
func (c *Cluster) secondChanceLocked(e *Endpoint) {
	switch h := &e.health; {
	case !h.ejected.Load():
	case h.lost:
		h.until = c.set.now() // who knocks lets it in as soon as it can be reached in the new way
	default:
		c.letInLocked(e)
	}
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

	policy := &c.settings.Load().outlier
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
	case policy.chosen:
		return (allOut+1)*100 <= len(c.members)*policy.percent
	case far > 0:
		return true
	}
	return (out+1)*100 <= n*policy.percent
}

// readmit lets an endpoint in again that sits out until a time; if that has changed
// meanwhile, somebody else does.
func (c *Cluster) readmit(e *Endpoint, until int64) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !e.health.ejected.Load() || e.health.until != until {
		return
	}
	c.letInLocked(e)
	if !c.stopped {
		c.tellEjectedLocked()
		c.rebuildLocked()
	}
}

// letInLocked lets an endpoint in again, on trial: one request goes there before
// others do, and one more failure of the kind that is counted ejects it again. The
// table is to be rebuilt after it.
func (c *Cluster) letInLocked(e *Endpoint) {
	p := &c.settings.Load().outlier
	e.health.ejected.Store(false)
	e.health.tryAt.Store(0)
	e.health.failures.Store(lastStrike(p.local))
	e.health.gateway.Store(lastStrike(p.gateway))
	e.health.errors5x.Store(lastStrike(p.errors5x))
	e.health.trial.Store(c.set.now())
	e.begin()
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
