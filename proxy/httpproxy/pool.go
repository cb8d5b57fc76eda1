package httpproxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

const (
	// maxIdleTime is how long a connection to an endpoint is kept unused; it is below the 60 s after which
	// common servers hang up.
	maxIdleTime = 45 * time.Second
	// maxIdleConns bounds the unused connections to one endpoint.
	maxIdleConns = 256
	// peekAfter is how long a connection may lie unused before it is checked for a hang-up.
	peekAfter = time.Second
)

// endpointPool keeps the HTTP connections to one endpoint. It is the endpoint's upstream.Attachment.
type endpointPool struct {
	server *Server
	ep     *upstream.Endpoint

	mu      sync.Mutex
	idle    []*h1conn // most recently used last
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
	in     inbuf
	resp   head
	since  time.Time // when it fell idle
	wake   time.Time // read deadline in force
	reused bool
	served uint32
	raw    syscall.RawConn
	peek   func(fd uintptr) bool
	dead   bool // what peek found
}

// take returns an idle connection, or nil. check demands that the connection be known alive now.
func (p *endpointPool) take(now time.Time, check bool) *h1conn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if (check || now.Sub(c.since) > peekAfter) && !c.alive() {
			_ = c.Close()
			continue
		}
		c.reused = true
		return c
	}
}

// dial opens a connection for HTTP/1.
func (p *endpointPool) dial(ctx context.Context) (*h1conn, error) {
	conn, _, err := p.ep.Dial(ctx, config.ProtocolHTTP1)
	if err != nil {
		return nil, err
	}
	p.learn(conn)
	return newH1conn(conn, p), nil
}

func newH1conn(conn net.Conn, p *endpointPool) *h1conn {
	c := &h1conn{Conn: conn, pool: p}
	c.in.src = conn
	if raw := rawConn(conn); raw != nil {
		c.raw = raw
		c.peek = c.peekFD
	}
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
	if c.in.r != c.in.w { // bytes that no request asked for
		_ = c.Close()
		return
	}
	c.since = now
	c.served++
	if limit := p.ep.Cluster().Config().HTTP.MaxRequests; limit > 0 && c.served >= limit {
		_ = c.Close()
		return
	}
	p.mu.Lock()
	if p.retired || len(p.idle) >= maxIdleConns {
		p.mu.Unlock()
		_ = c.Close()
		return
	}
	p.idle = append(p.idle, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(maxIdleTime/3, p.sweep)
	}
	p.mu.Unlock()
}

// sweep closes what lay idle for too long, or was hung up on, and comes back as long as something is idle.
func (p *endpointPool) sweep() {
	limit := maxIdleTime
	if t := p.ep.Cluster().Config().HTTP.IdleTimeout; t > 0 {
		limit = min(limit, t)
	}
	oldest := time.Now().Add(-limit)
	p.mu.Lock()
	all := p.idle
	p.idle = nil
	p.sweeper = nil
	p.mu.Unlock()
	var kept []*h1conn
	for _, c := range all {
		if c.since.Before(oldest) || !c.alive() {
			_ = c.Close()
			continue
		}
		kept = append(kept, c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired {
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

// rawConn returns access to the socket below conn, or nil.
func rawConn(conn net.Conn) syscall.RawConn {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// alive reports whether the peer neither hung up nor sent anything unasked.
func (c *h1conn) alive() bool {
	if c.raw == nil {
		return true
	}
	c.dead = false
	if err := c.raw.Read(c.peek); err != nil {
		return false
	}
	return !c.dead
}

func (c *h1conn) peekFD(fd uintptr) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	c.dead = n >= 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
	return true
}
