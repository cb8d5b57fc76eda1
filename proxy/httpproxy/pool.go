package httpproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

const (
	// maxIdleTime is how long a connection to an endpoint is kept unused; it is below the 60 s after which
	// common servers hang up.
	maxIdleTime = 45 * time.Second
	// maxIdleConns bounds the unused connections to one endpoint.
	maxIdleConns = 256
)

// endpointPool keeps the HTTP connections to one endpoint. It is the endpoint's upstream.Attachment.
type endpointPool struct {
	server *Server
	ep     *upstream.Endpoint

	mu      sync.Mutex
	idle    []*h1conn // most recently used last
	queue   queue     // of requests that found none
	sweeper *time.Timer
	retired bool
	h2      h2pool

	// principal is the SPIFFE id that the endpoint proved last, or "".
	principal atomic.Pointer[string]
	// counters are the telemetry handles of calls in which this proxy is the source: plain, gRPC.
	counters [2]atomic.Pointer[telemetry.HTTP]
}

func (s *Server) pool(ep *upstream.Endpoint) *endpointPool {
	if a := ep.Attachment(); a != nil {
		return a.(*endpointPool)
	}
	return ep.Attach(func(ep *upstream.Endpoint) upstream.Attachment {
		p := &endpointPool{server: s, ep: ep}
		p.h2.pool = p
		return p
	}).(*endpointPool)
}

// h1conn is an HTTP/1 connection to an endpoint. One request at a time uses it.
type h1conn struct {
	net.Conn
	pool   *endpointPool
	in     http1.Reader
	resp   http1.Head
	since  time.Time // when it fell idle
	born   time.Time // where the cluster bounds its age
	closed atomic.Bool
	wake   time.Time // read deadline in force
	reused bool
	served uint32
	socket silence
	// question is what the endpoint is being asked; turn is turnFD, bound once.
	question question
	turn     func(fd uintptr) bool
	// written counts the bytes that were written, before those of earlier requests.
	written atomic.Int64
	before  int64
}

// Write implements net.Conn. The upload calls it from a goroutine of its own.
func (c *h1conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// Close implements net.Conn.
func (c *h1conn) Close() error {
	if !c.closed.Swap(true) {
		if _, bridged := c.Conn.(*bridgedConn); !bridged {
			c.pool.ep.Hangup()
		}
	}
	return c.Conn.Close()
}

// untouched reports, of a connection whose read ended in err, that the endpoint closed it before any byte of the
// request had reached its machine: then nobody there can have read the request, whatever its method is.
//
// The end of a TCP stream carries the last acknowledgement that its sender had to give when it closed (RFC 9293
// section 3.10.4), and what comes later is answered with a reset. A reset without an end before it proves nothing: it
// may come from an application that has read a part. Nor is TLS looked at: there the endpoint is a proxy, which says
// itself what became of the request (exchange.FailedField).
func (c *h1conn) untouched(err error) bool {
	if !errors.Is(err, io.EOF) || !c.in.NothingCame() || c.socket.raw == nil {
		return false
	}
	acked, known := c.socket.acknowledged()
	return known && acked <= c.before
}

// refused reports of a bridge that failed whether the endpoint has refused its stream: another may take the request.
func (c *h1conn) refused() bool {
	b, bridged := c.Conn.(*bridgedConn)
	return bridged && b.bridge.refused.Load()
}

// take returns an idle connection, or nil. Who takes it must see that it is quiet before writing to it.
func (p *endpointPool) take(now time.Time) *h1conn {
	p.mu.Lock()
	c := p.popLocked()
	p.mu.Unlock()
	if c == nil {
		return nil
	}

	// The one used last is too old by the cluster's own bounds: so are the others, or as good as.
	if o := &p.ep.Cluster().Config().HTTP; o.IdleTimeout > 0 && now.Sub(c.since) >= o.IdleTimeout || c.overaged(now) {
		_ = c.Close()
		return nil
	}
	c.reused = true
	return c
}

// popLocked takes the idle connection that was used last, nil where there is none.
func (p *endpointPool) popLocked() *h1conn {
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// overaged reports whether the cluster allows the connection no further request because of its age.
func (c *h1conn) overaged(now time.Time) bool {
	limit := c.pool.ep.Cluster().Config().HTTP.MaxAge
	return limit > 0 && now.Sub(c.born) >= limit
}

// connect opens a connection for HTTP/1, which was reserved.
func (p *endpointPool) connect() (*h1conn, error) {
	conn, _, err := p.ep.DialReserved(context.Background(), config.ProtocolHTTP1)
	if err != nil {
		return nil, err
	}
	p.learn(conn)
	c := newH1conn(conn, p)
	if p.ep.Cluster().Config().HTTP.MaxAge > 0 {
		c.born = time.Now()
	}
	return c, nil
}

func newH1conn(conn net.Conn, p *endpointPool) *h1conn {
	c := &h1conn{Conn: conn, pool: p}
	c.in.Reset(conn)
	c.socket.watch(conn)
	c.turn = c.turnFD
	return c
}

// learn notes who the endpoint proved to be.
func (p *endpointPool) learn(conn net.Conn) {
	uri := upstream.PeerURI(conn)
	if old := p.principal.Load(); old == nil || *old != uri {
		p.principal.Store(&uri)
		p.counters[0].Store(nil)
		p.counters[1].Store(nil)
	}
}

// put gives back a connection whose response was read to its end.
func (p *endpointPool) put(c *h1conn, now time.Time) {
	if !c.in.Empty() { // bytes that no request asked for
		_ = c.Close()
		return
	}
	c.served++
	if limit := p.ep.Cluster().Config().HTTP.MaxRequests; limit > 0 && c.served >= limit || c.overaged(now) {
		_ = c.Close()
		return
	}
	c.reused = true
	c.socket.hurry()

	p.mu.Lock()
	kept := p.keepLocked(c, now)
	p.mu.Unlock()
	if !kept {
		_ = c.Close()
	}
}

// keepLocked hands a connection that can take a request to who waits for one, or lays it by. It reports false when
// there is no use for it.
func (p *endpointPool) keepLocked(c *h1conn, now time.Time) bool {
	if len(p.queue.waiting) > 0 && p.handLocked(c) {
		return true
	}
	if p.retired || len(p.idle) >= maxIdleConns {
		return false
	}
	c.since = now
	p.idle = append(p.idle, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(maxIdleTime/3, p.sweep)
	}
	return true
}

// idleLimit is how long a connection may be without requests: as long as the cluster says, 0 for ever, or else def.
func idleLimit(o *config.HTTPOptions, def time.Duration) time.Duration {
	if o.IdleSet {
		return o.IdleTimeout
	}
	return def
}

// dropIdle closes the idle connections, which lead nowhere any more.
func (p *endpointPool) dropIdle() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		_ = c.Close()
	}
}

// sweep closes what lay idle for too long, was hung up on or spoke unasked, and comes back as long as something is idle.
func (p *endpointPool) sweep() {
	now := time.Now()
	limit := idleLimit(&p.ep.Cluster().Config().HTTP, maxIdleTime)

	p.mu.Lock()
	all := p.idle
	p.idle = nil
	p.sweeper = nil
	p.mu.Unlock()

	// Without the lock: each look is a system call.
	var kept []*h1conn
	for _, c := range all {
		if limit > 0 && now.Sub(c.since) > limit || c.overaged(now) || !c.quiet() {
			_ = c.Close()
			continue
		}
		kept = append(kept, c)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired { // meanwhile
		for _, c := range kept {
			_ = c.Close()
		}
		return
	}
	p.idle = append(kept, p.idle...)
	if len(p.idle) > 0 && p.sweeper == nil {
		p.sweeper = time.AfterFunc(maxIdleTime/3, p.sweep)
	}
}

// Retire implements upstream.Attachment.
func (p *endpointPool) Retire() {
	p.mu.Lock()
	p.retired = true
	idle := p.idle
	p.idle = nil
	if p.sweeper != nil {
		p.sweeper.Stop()
		p.sweeper = nil
	}
	p.mu.Unlock()
	for _, c := range idle {
		_ = c.Close()
	}
	p.h2.retire()
}
