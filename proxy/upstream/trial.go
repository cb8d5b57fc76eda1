package upstream

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// An endpoint that failed in a way that cannot be mistaken is in doubt: as long as
// there is another, requests go there. One request at a time tries it again, and
// its outcome decides for all. That is quicker than ejection, which waits until it
// is sure, and it is undone as quickly.

const (
	// doubtTime is how long an endpoint in doubt gets no request at all.
	doubtTime = 500 * time.Millisecond
	// trialTime is how long one trial is waited for before there is another: it
	// may never have been sent.
	trialTime = time.Second
	// whoKnocks stands in health.trial for an endpoint that could not be reached:
	// no request of a user's needs to find out, the knocker does.
	whoKnocks = math.MaxInt64
)

// calm tells whether nothing speaks against a request to the endpoint.
func (e *Endpoint) calm() bool { return e.health.trial.Load()|e.health.warm.Load() == 0 }

// doubt notes that requests should go elsewhere. Where there is nowhere else, there
// is nothing to doubt.
func (e *Endpoint) doubt(unreachable bool) {
	c := e.cluster
	if c.dst != nil || len(c.table.Load().levels) == 0 {
		return
	}
	if unreachable {
		if e.health.trial.Swap(whoKnocks) != whoKnocks {
			c.set.knocker.alarm(e)
		}
		return
	}
	if e.health.trial.Load() != whoKnocks {
		e.health.trial.Store(c.set.now() + int64(doubtTime))
	}
}

// retried notes that a trial failed.
func (e *Endpoint) retried() {
	if t := e.health.trial.Load(); t != 0 && t != whoKnocks {
		e.doubt(false)
	}
}

// cleared ends the doubt. An answer on an old connection proves nothing of an
// endpoint that takes no new ones, as one that is about to end.
func (e *Endpoint) cleared() {
	if t := e.health.trial.Load(); t != 0 && t != whoKnocks {
		e.health.trial.CompareAndSwap(t, 0)
	}
}

// proof is what is known to speak for an endpoint that could not be reached.
type proof uint8

// Each of them is more than those before.
const (
	unproven           proof = iota
	provenByConnection       // it took a connection
	provenByHandshake        // it made a TLS connection of one
)

// reachable is called by the knocker: nothing speaks against the endpoint any more that
// can be found out without a request. One request is to find out about the rest.
func (e *Endpoint) reachable(by proof) {
	h, c := &e.health, e.cluster
	if h.trial.CompareAndSwap(whoKnocks, c.set.now()) {
		h.failures.Store(lastStrike(c.settings.Load().outlier.local))
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if !h.ejected.Load() || !h.lost || h.firm && c.set.now() < h.until {
		return
	}
	c.letInLocked(e)
	h.proven = by
	if !c.stopped {
		c.tellEjectedLocked()
		c.rebuildLocked()
	}
}

// owesHandshake tells whether a TLS handshake with the endpoint has failed, and none has
// come about since, and for which protocol it was.
func (e *Endpoint) owesHandshake() (config.Protocol, bool) {
	owed := e.health.owed.Load()
	if owed == 0 {
		return 0, false
	}
	return config.Protocol(owed - 1), true
}

// doubted tells whether the knocker is waited for.
func (e *Endpoint) doubted() bool {
	if e.health.trial.Load() == whoKnocks {
		return true
	}
	e.cluster.mu.Lock()
	defer e.cluster.mu.Unlock()
	return e.health.ejected.Load() && e.health.lost
}

// admits tells whether the endpoint takes a request now; with share, one that is
// warming up takes only its share.
func (e *Endpoint) admits(now int64, share bool) bool {
	h := &e.health
	if at := h.trial.Load(); at != 0 {
		// Who moves the time of the trial on has it.
		if now < at || !h.trial.CompareAndSwap(at, now+int64(trialTime)) {
			return false
		}
	}
	if since := h.warm.Load(); since != 0 && share {
		slow := &e.cluster.settings.Load().slow
		if slow.over(since, now) {
			h.warm.CompareAndSwap(since, 0)
			return true
		}
		return slow.admits(since, now, 0)
	}
	return true
}

// begin starts the slow start of an endpoint that is new or back, where one is
// asked for.
func (e *Endpoint) begin() {
	if e.cluster.settings.Load().slow.window > 0 {
		e.health.warm.Store(max(e.cluster.set.now(), 1))
	}
}

// ramp is how a share grows from min to 1 within window.
type ramp struct {
	window time.Duration // 0: at once
	power  float64       // 1/aggression
	min    float64
}

// backWindow is in what time a priority that comes back takes its load over again,
// where the cluster has no slow start of its own: the connections of all come about
// meanwhile, and what is cold gets warm.
const backWindow = 4 * time.Second

// slowOf returns the slow start of the endpoints of a cluster, and that of its
// priorities, which is there without being asked for.
func slowOf(c *config.Cluster) (endpoints, priorities ramp) {
	s := c.Balance.SlowStart
	if s == nil {
		return ramp{}, ramp{window: backWindow, power: 1, min: 0.1}
	}
	r := ramp{window: s.Window, power: 1 / s.Aggression, min: s.MinPercent / 100}
	return r, r
}

func (r *ramp) over(since, now int64) bool { return now-since >= int64(r.window) }

// admits draws whether what began at since takes a request now; with 0 it does. For
// requests with a hash, that draws: those that it has let in stay.
func (r *ramp) admits(since, now int64, hash uint64) bool {
	if since == 0 || r.over(since, now) {
		return true
	}
	part := math.Pow(float64(now-since)/float64(r.window), r.power)
	drawn := rand.Float64()
	if hash != 0 {
		drawn = lot(hash)
	}
	return drawn < max(part, r.min)
}
