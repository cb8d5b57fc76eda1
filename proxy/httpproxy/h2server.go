package httpproxy

import (
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
)

// goAwayGrace is how long after the first GOAWAY new streams are still taken, for those that were under way.
const goAwayGrace = time.Second

// h2server serves one downstream HTTP/2 connection.
type h2server struct {
	h    *Handler
	info *downstream.Info
	edge exchange.Edge
	c    *h2conn

	mu      sync.Mutex // guards counted and ending
	counted countedCluster
	ending  *time.Timer
}

// serveH2 serves conn until it is done.
func (h *Handler) serveH2(conn net.Conn, info *downstream.Info) {
	c := newH2conn(conn, false, &h.server.bulk, &h.server.held)
	if n := h.hcm.MaxConcurrentStreams; n > 0 {
		c.limit = int(min(n, 1<<20))
	}
	if n := h.hcm.MaxHeaderBytes; n > 0 {
		c.blocks.limit = min(n, maxHead)
	}
	if limit := h.hcm.HeadersTimeout; limit > 0 {
		c.patience = limit
	}
	s := &h2server{h: h, info: info, edge: newEdge(h.hcm, info), c: c}
	c.newSink, c.accept = s.newSink, s.accept
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	c.start()
	h.server.drains.join(info.Drain, s)
	stopIdle, stopStreams, stopClock := c.watchIdle(h.hcm.IdleTimeout, s.drain), s.watchStreams(), c.watchClock()
	_ = c.serve() // why a caller hung up is of no interest
	stopIdle()
	stopStreams()
	stopClock()
	h.server.drains.leave(info.Drain, s)
	s.mu.Lock()
	if s.ending != nil {
		s.ending.Stop()
	}
	s.mu.Unlock()
	<-written
}

// drain says GOAWAY, first for what comes after the streams that are under way.
func (s *h2server) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return
	}
	s.c.goAway(1<<31 - 1)
	s.ending = time.AfterFunc(goAwayGrace, s.c.closing)
}

// goAway asks the peer to open no more streams; those up to last are still served.
func (c *h2conn) goAway(last uint32) {
	c.mu.Lock()
	c.appendGoAway(last, http2.ErrCodeNo, "")
	c.mu.Unlock()
	c.kick()
}

// closing takes no more streams and ends the connection with the last one.
func (c *h2conn) closing() {
	c.mu.Lock()
	if c.err == nil {
		c.appendGoAway(c.lastPeerStream(), http2.ErrCodeNo, "")
		c.away = true
		c.hangUpIfEmpty()
	}
	c.mu.Unlock()
	c.kick()
}

func (s *h2server) newSink(st *h2stream) h2sink {
	return &pair{srv: s, down: st, call: call{start: time.Now()}}
}

// accept begins a request; it must not block.
func (s *h2server) accept(sink h2sink, h *h2head) {
	p := sink.(*pair)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done { // the connection failed meanwhile
		return
	}
	p.end = h.end
	if h.tooLarge {
		p.refuseLocked(&parseError{431, "the request head is too large"})
		return
	}
	if err := p.req.parse(h.fields, p.down, p.end); err != nil {
		if statusOf(err) == 400 {
			p.down.malform()
		}
		p.refuseLocked(err)
		return
	}
	p.call.GRPC = p.req.grpc
	p.call.headOnly = p.req.method == "HEAD"
	if s.h.log != nil {
		p.openEntry()
	}
	q := p.target()
	switch v := p.call.begin(s.h, s.info, &q, false); {
	case v.Do == exchange.Reply:
		p.replyLocked(v.Answer)
	case upstreamProtocol(p.call.cluster, config.ProtocolHTTP2) == config.ProtocolHTTP2:
		p.encode(&q)
		p.startLocked()
	default:
		p.bridge()
	}
}

// counters returns the telemetry handles of a call.
func (s *h2server) counters(c *call) *telemetry.HTTP {
	s.mu.Lock() // of counted, which the requests of the connection share
	defer s.mu.Unlock()
	return c.counters(s.h, s.info, &s.counted)
}
