package upstream

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// The retry budget keeps retries from multiplying the load of endpoints that fail
// because they have too much of it. It counts what may have loaded an endpoint;
// what certainly reached none (a refused connection, a stream refused, a request
// that a sidecar handed back) is free, or the end of an endpoint would lose what
// was on its way there.
//
// Envoy's form, a share of the requests of the moment, serves bursts badly: when an
// endpoint dies, all requests that it had are retried in the same instant, and they
// may be all that there are. So unless Envoy's form is asked for, it is a share of
// the requests of the last seconds (as in Finagle's RetryBudget): every request
// pays a fifth of a retry in, which loses its worth in ten seconds, and ten retries
// a second are there in any case.
const (
	budgetShare = 0.2
	budgetTime  = 10 * time.Second
	budgetRate  = 10.0 // a second
	// budgetStore bounds what budgetRate saves up.
	budgetStore = 100.0
)

// budget is what a cluster may spend on retries.
type budget struct {
	// A lock, because it is taken by retries alone: no request pays for it.
	mu      sync.Mutex // guards what follows; no other is taken with it
	paid    float64    // of requests
	store   float64    // of time
	at      int64      // until when both are counted, by Set.now
	began   int64      // requests until then
	retries int64      // granted, which are requests of the endpoints, too
}

// take takes one retry. began is how many requests endpoints were sent so far.
func (b *budget) take(now, began int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	// What was paid in over a long time has lost most of its worth since.
	if dt := float64(now-b.at) / float64(time.Second); dt > 0 {
		tau := budgetTime.Seconds()
		left := math.Exp(-dt / tau)
		rate := max(float64(began-b.began-b.retries), 0) / dt
		b.paid = b.paid*left + budgetShare*rate*tau*(1-left)
		b.store = min(b.store+dt*budgetRate, budgetStore)
		b.at, b.began, b.retries = now, began, 0
	}

	switch {
	case b.paid >= 1:
		b.paid--
	case b.store >= 1:
		b.store--
	default:
		return false
	}
	b.retries++
	return true
}

// spending is what is counted of a cluster's requests and of its retries.
type spending struct {
	requests atomic.Int64 // under way
	retries  atomic.Int64 // under way
	conns    atomic.Int64 // open
	pending  atomic.Int64 // requests that wait for a connection
	freed    chan struct{}
	budget   budget
}

// BeginRetry takes a retry from what the cluster may spend. EndRetry says that it is
// over, for where it is the number under way that is limited.
func (c *Cluster) BeginRetry() bool {
	if c.spend(c.spending.retries.Add(1)) {
		c.tell(EventRetry, 1)
		return true
	}
	c.spending.retries.Add(-1)
	c.tell(EventRetryOverflow, 1)
	return false
}

// spend tells whether one more retry is allowed, with which n are under way.
func (c *Cluster) spend(n int64) bool {
	l := c.Config().Limits
	if !byNumber(l) {
		return c.spending.budget.take(c.set.now(), c.beganAll())
	}
	limit := int64(l.Retries)
	if b := l.Budget; b != nil {
		limit = max(int64(b.Percent/100*float64(c.spending.requests.Load())), int64(b.MinConcurrency))
	}
	return n <= limit
}

// EndRetry is called once the request is over for which BeginRetry was true.
func (c *Cluster) EndRetry() { c.spending.retries.Add(-1) }

// byNumber tells whether retries are limited as in Envoy.
func byNumber(l *config.Limits) bool {
	return l != nil && (l.Budget != nil || l.Retries != config.NoLimit)
}

// beganAll is how many requests the endpoints of the moment were sent. When one
// leaves, the sum falls; the budget takes that for a moment without requests.
func (c *Cluster) beganAll() int64 {
	t, n := c.table.Load(), int64(0)
	for i := range t.levels {
		for _, e := range t.levels[i].endpoints {
			n += e.began.Load()
		}
	}
	for _, e := range t.rest {
		n += e.began.Load()
	}
	return n
}
