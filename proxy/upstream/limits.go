package upstream

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// roomPoll is how often who waits for a connection looks for one by himself: of
// several that become free at once, one may go unheard.
const roomPoll = 10 * time.Millisecond

// OverflowError says which limit of a cluster (config.Limits) is reached.
type OverflowError struct {
	Cluster string
	What    string
	Limit   uint32
}

// Error implements error.
func (e *OverflowError) Error() string {
	return fmt.Sprintf("cluster %s: there are %d %s, which is its limit (circuit_breakers)", e.Cluster, e.Limit, e.What)
}

// Everything is counted at all times, and not where there are limits alone: they may
// come and go while requests are under way.

// Begin counts a request as active, unless the cluster has as many as it may have;
// then it returns false. End ends it.
func (e *Endpoint) Begin() bool {
	c := e.cluster
	n := c.spending.requests.Add(1)
	if l := c.Config().Limits; l != nil && n > int64(l.Requests) {
		c.spending.requests.Add(-1)
		c.tell(EventOverflow, 1)
		return false
	}
	e.began.Add(1)
	return true
}

// End is the counterpart of Begin.
func (e *Endpoint) End() {
	c := e.cluster
	e.ended.Add(1)
	c.spending.requests.Add(-1)
	if c.Config().Limits != nil {
		c.free() // for who waits for a stream
	}
}

// Pass has a request that has begun at the endpoint go on at another one of the same
// cluster.
func (e *Endpoint) Pass(to *Endpoint) {
	e.ended.Add(1)
	to.began.Add(1)
}

// BeginConn counts a connection as active that carries no requests; End ends it,
// too. Only the limit of connections is for those.
func (e *Endpoint) BeginConn() {
	e.began.Add(1)
	e.cluster.spending.requests.Add(1)
}

// Overflow is the error for a Begin that was false.
func (c *Cluster) Overflow() error {
	limit := uint32(config.NoLimit) // it may have gone meanwhile
	if l := c.Config().Limits; l != nil {
		limit = l.Requests
	}
	return &OverflowError{c.name, "requests under way", limit}
}

// Reserve takes one of the connections that the cluster may have, for DialReserved.
// The first one to an endpoint is always allowed, as in Envoy: else one endpoint's
// idle connections could keep another from being reached at all. The error is an
// *OverflowError.
func (e *Endpoint) Reserve() error {
	all, own := e.cluster.spending.conns.Add(1), e.conns.Add(1)
	l := e.cluster.Config().Limits
	if l == nil || all <= int64(l.Connections) || own == 1 {
		return nil
	}
	e.drop()
	return &OverflowError{e.cluster.name, "connections", l.Connections}
}

// Hangup is to be called once a connection that Dial made is closed.
func (e *Endpoint) Hangup() {
	e.drop()
	if e.cluster.Config().Limits != nil {
		e.cluster.free()
	}
}

func (e *Endpoint) drop() {
	e.cluster.spending.conns.Add(-1)
	e.conns.Add(-1)
}

func (c *Cluster) free() {
	select {
	case c.spending.freed <- struct{}{}:
	default:
	}
}

// AwaitRoom waits until it is worth looking for a connection again, after Dial
// returned an *OverflowError. The error is one, too, when too many wait already,
// and the cause of ctx when it is over.
func (c *Cluster) AwaitRoom(ctx context.Context) error {
	if err := c.Queue(); err != nil {
		return err
	}
	defer c.Unqueue()
	return c.Room(ctx)
}

// Queue counts a request among those that wait for a connection; the error is an
// *OverflowError where the cluster may have no more of them. Unqueue is its
// counterpart.
func (c *Cluster) Queue() error {
	n, l := c.spending.pending.Add(1), c.Config().Limits
	if l == nil || n <= int64(l.Pending) {
		return nil
	}
	c.spending.pending.Add(-1)
	c.tell(EventOverflow, 1)
	return &OverflowError{c.name, "requests that wait for a connection", l.Pending}
}

// Unqueue is to be called once for each Queue that was no error.
func (c *Cluster) Unqueue() { c.spending.pending.Add(-1) }

// Room waits, for roomPoll at most, until the cluster may have got room for one more
// connection. The error is the cause of ctx.
func (c *Cluster) Room(ctx context.Context) error {
	t := time.NewTimer(roomPoll)
	defer t.Stop()
	select {
	case <-c.spending.freed:
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
