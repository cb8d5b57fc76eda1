package upstream

import (
	"slices"
	"time"
)

// An endpoint that is left out for its answers is not knocked at: that it takes
// connections says nothing. A request finds out, one that can be made elsewhere when it
// fails: it takes no longer than that, and nobody is harmed. So an endpoint is back soon
// after it is well, and not when its time is over. Where the time to sit out was chosen,
// it holds.

const (
	// firstTry is how soon after an endpoint was left out a request may try it; the time
	// doubles up to lastTry with each that failed.
	firstTry = 500 * time.Millisecond
	lastTry  = 4 * time.Second
	// nextTry is how soon after a request that went well the next one may go, and
	// enoughTries how many in a row must go well: of an endpoint that fails half of its
	// requests, one alone would say little.
	nextTry     = 100 * time.Millisecond
	enoughTries = 3
	// tryLimit is when a try counts as lost that nothing was heard of.
	tryLimit = 10 * time.Second
	// tryShare is one of how many requests may be a try: who calls seldom waits for what
	// others find out, or until the time is over.
	tryShare = 20
)

// probation is what is found out about an endpoint that is left out for its answers.
type probation struct {
	pause  time.Duration // until the next try, after one that fails
	passed int           // tries in a row that went well
}

// probeLocked begins the probation of an endpoint that has just been left out.
func (c *Cluster) probeLocked(e *Endpoint) {
	h := &e.health
	h.probation = probation{pause: firstTry}
	h.tryAt.Store(0)
	if !h.lost && !c.settings.Load().outlier.timed {
		h.tryAt.Store(c.set.now() + int64(firstTry))
	}
}

// try returns an endpoint that is left out and to be tried by a request that can be made
// elsewhere, nil for most requests. One with a hash tries its own endpoint alone.
func (t *table) try(c *Cluster, hash uint64) *Endpoint {
	if hash != 0 && !slices.ContainsFunc(t.rest, func(e *Endpoint) bool { return t.owns(e, hash) }) {
		return nil
	}
	if c.turns.Add(1)%tryShare != 0 {
		return nil
	}
	now := c.set.now()
	for _, e := range t.rest {
		if hash != 0 && !t.owns(e, hash) {
			continue
		}
		h := &e.health
		if h.trial.Load() == whoKnocks {
			continue // it could not be reached either
		}
		// Who moves the time of the try on has it.
		if at := h.tryAt.Load(); at != 0 && now >= at && h.tryAt.CompareAndSwap(at, now+int64(tryLimit)) {
			h.tried.Store(true)
			return e
		}
	}
	return nil
}

// judge takes down how the try of an endpoint went that is left out.
func (e *Endpoint) judge(well bool) {
	h, c := &e.health, e.cluster
	if !h.tried.CompareAndSwap(true, false) {
		return // a request of before
	}

	c.mu.Lock()
	p, now, until := &h.probation, c.set.now(), h.until
	enough := false
	switch {
	case !h.ejected.Load():
	case well:
		p.passed++
		enough = p.passed >= enoughTries
		h.tryAt.Store(now + int64(nextTry))
	default:
		p.passed, p.pause = 0, min(2*p.pause, lastTry)
		h.tryAt.Store(now + int64(p.pause))
	}
	c.mu.Unlock()

	if enough {
		c.readmit(e, until)
	}
}
