package httpproxy

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"
)

// A request that finds no HTTP/1 connection of its endpoint free stands in a queue, and gets the next one that is given
// back or comes about. As many dials are under way as requests wait, but no more than the endpoint answers quickly.
//
// When a whole place goes away, all its requests come at once to the one endpoint that is left, to which there is no
// connection yet. When each of them dialled for itself, the handshakes took the processors at both ends from one
// another until none came about in time; each request that gave up dialled again, and so it went on for as long as
// requests came. In a queue, the first few connections serve all.

// queue is the requests that wait for a connection to one endpoint. The lock of the pool guards it.
type queue struct {
	waiting []*waiter // who came first stands first
	joined  uint64    // how many ever waited
	dialing int       // connections that are coming about
	pace    pace
	polling bool // somebody looks whether the cluster may have one more connection
}

// waiter is a request that waits.
type waiter struct {
	number uint64 // the how manyth it is
	fresh  bool   // it must have a connection that no request has used yet
	queued bool   // it counts among those that the cluster lets wait
	got    chan delivery
}

// delivery is what a request has waited for.
type delivery struct {
	conn *h1conn
	err  error
}

// await returns the connection that a request waits for that has joined the queue. It waits until ctx is over at most,
// and, of an endpoint that takes no connections, until a dial has failed that began no later. Errors are those of
// upstream.Endpoint.Dial, the cause of ctx, and errTardy once late is closed, after which it may be called again.
func (p *endpointPool) await(ctx context.Context, w *waiter, late <-chan struct{}) (*h1conn, error) {
	select {
	case d := <-w.got: // though it be late
		return d.conn, d.err
	default:
	}

	select {
	case d := <-w.got:
		return d.conn, d.err
	case <-late:
		return nil, errTardy
	case <-ctx.Done():
		p.leave(w)
		return nil, context.Cause(ctx)
	}
}

// join has a request wait. The error is an *upstream.OverflowError when too many do.
func (p *endpointPool) join(fresh bool) (*waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.queue
	q.joined++
	w := &waiter{number: q.joined, fresh: fresh, got: make(chan delivery, 1)}
	if !fresh {
		if c := p.popLocked(); c != nil { // it was given back just now
			c.reused = true
			w.got <- delivery{conn: c}
			return w, nil
		}
	}

	q.waiting = append(q.waiting, w)
	p.dialLocked()
	if len(q.waiting) > q.dialing { // nobody dials for this one
		if err := p.ep.Cluster().Queue(); err != nil {
			q.waiting = q.waiting[:len(q.waiting)-1]
			return nil, err
		}
		w.queued = true
	}
	return w, nil
}

// leave is for a request that waits no longer.
func (p *endpointPool) leave(w *waiter) {
	p.mu.Lock()
	if i := slices.Index(p.queue.waiting, w); i >= 0 {
		p.dismissLocked(i)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()

	// What came in the same moment is for the next one.
	if d := <-w.got; d.conn != nil {
		p.giveBack(d.conn)
	}
}

// dismissLocked takes who stands at i out of the queue.
func (p *endpointPool) dismissLocked(i int) *waiter {
	q := &p.queue
	w := q.waiting[i]
	q.waiting = slices.Delete(q.waiting, i, i+1)
	if w.queued {
		p.ep.Cluster().Unqueue()
	}
	return w
}

// handLocked gives a connection to who has waited longest for such a one. It reports false when nobody has.
func (p *endpointPool) handLocked(c *h1conn) bool {
	i := slices.IndexFunc(p.queue.waiting, func(w *waiter) bool { return !w.fresh || c.served == 0 })
	if i < 0 {
		return false
	}
	p.dismissLocked(i).got <- delivery{conn: c}
	return true
}

// giveBack is put for a connection that was not used.
func (p *endpointPool) giveBack(c *h1conn) {
	p.mu.Lock()
	kept := p.keepLocked(c, time.Now())
	p.mu.Unlock()
	if !kept {
		_ = c.Close()
	}
}

// dialLocked begins the dials that are wanted and allowed.
func (p *endpointPool) dialLocked() {
	q := &p.queue
	for q.dialing < min(len(q.waiting), q.pace.limit()) {
		if p.ep.Reserve() != nil {
			if !q.polling {
				q.polling = true
				go p.awaitRoom()
			}
			return
		}
		q.dialing++
		go p.dial(q.joined)
	}
}

// awaitRoom looks again when the cluster may have room for one more connection.
func (p *endpointPool) awaitRoom() {
	_ = p.ep.Cluster().Room(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.polling = false
	p.dialLocked()
}

// dial opens a connection for whoever waits then; when nobody does any more, it is kept. last is the number of the
// request that had come last when it began.
func (p *endpointPool) dial(last uint64) {
	began := time.Now()
	c, err := p.connect()
	now := time.Now()
	late, alone := isTimeout(err), p.ep.Alone()

	p.mu.Lock()
	p.queue.dialing--
	p.queue.pace.note(now.Sub(began), err == nil, late)
	kept := true
	switch {
	case err == nil:
		kept = p.keepLocked(c, now)
	default:
		p.failLocked(err, last, late, alone)
	}
	p.dialLocked()
	p.mu.Unlock()
	if !kept {
		_ = c.Close()
	}
}

// failLocked tells those whom it concerns that a dial has failed. Where there is another endpoint, it is everybody. An
// endpoint that is alone is given up only by who has waited for as long as the dial took, or, when it failed at once,
// by the first: for the others the next dial decides.
func (p *endpointPool) failLocked(err error, last uint64, late, alone bool) {
	n := 0
	for _, w := range p.queue.waiting {
		if alone && (w.number > last || !late && n > 0) {
			break
		}
		n++
	}
	for range n {
		p.dismissLocked(0).got <- delivery{err: err}
	}
}

// isTimeout reports whether a dial ended because it took too long.
func isTimeout(err error) bool {
	var timed net.Error
	return errors.As(err, &timed) && timed.Timeout()
}
