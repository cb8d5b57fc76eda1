package httpproxy

import (
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
)

// goAwayGrace is how long after the first GOAWAY new streams are still taken, for those that were under way.
const goAwayGrace = time.Second

// h2server serves one downstream HTTP/2 connection.
type h2server struct {
	h    *Handler
	info *downstream.Info
	edge exchange.Edge
	c    *http2.Conn

	peer peer // of accept, which is called by one goroutine

	mu      sync.Mutex // guards counted and ending
	counted countedCluster
	ending  *time.Timer
}

// serveH2 serves conn until it is done.
func (h *Handler) serveH2(conn net.Conn, info *downstream.Info) {
	s := &h2server{h: h, info: info, edge: newEdge(h.hcm, info)}
	c := http2.NewServer(conn, h.server.held, http2.ServerOptions{
		NewSink: s.newSink, Accept: s.accept,
		MaxStreams: int(min(h.hcm.MaxConcurrentStreams, 1<<20)),
		MaxHead:    h.hcm.MaxHeaderBytes,
		Patience:   h.hcm.HeadersTimeout,
	})
	s.c = c

	written := make(chan struct{})
	go func() {
		defer close(written)
		c.WriteLoop()
	}()

	h.server.drains.join(info.Drain, s)
	stopIdle, stopStreams, stopClock := c.WatchIdle(h.hcm.IdleTimeout, s.drain), s.watchStreams(), c.WatchClock()
	_ = c.Serve() // why a caller hung up is of no interest

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
	s.c.GoAway()
	s.ending = time.AfterFunc(goAwayGrace, s.c.Retire)
}

func (s *h2server) newSink(st *http2.Stream) http2.Sink {
	return &pair{srv: s, down: st, call: call{start: st.Began(), onward: st.Began()}}
}

// accept begins a request; it must not block.
func (s *h2server) accept(sink http2.Sink, h *http2.Head) {
	p := sink.(*pair)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done { // the connection failed meanwhile
		return
	}

	p.end = h.End
	if h.TooLarge {
		p.refuseLocked(&requestError{431, "the request head is too large"})
		return
	}
	if err := p.req.parse(h.Fields, p.down, p.end); err != nil {
		if statusOf(err) == 400 {
			p.down.MarkMalformed()
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
	from := asking{
		h: s.h, info: s.info, caller: s.peer.of(s.h, s.info), edge: &s.edge, fields: &p.req,
		tokens: s.h.inForce().tokens, edit: (*fieldList)(&p.req.fields),
	}
	v, passed := p.call.authenticate(&from, &q)
	if passed {
		p.req.path = q.Path // without a token, also where the HTTP/1 side gets it
		v = p.call.begin(&from, &q)
	}
	if v.Do == exchange.Delay {
		p.delayLocked(v.For, q)
		return
	}
	p.onwardLocked(v, &q)
}

// onwardLocked goes on with a request that has been routed.
func (p *pair) onwardLocked(v exchange.Verdict, q *routes.Target) {
	switch {
	case v.Do == exchange.Reply:
		p.replyLocked(v.Answer)
	case upstreamProtocol(p.call.cluster, config.ProtocolHTTP2) == config.ProtocolHTTP2:
		p.encode(q)
		p.startLocked()
	default:
		p.bridgeLocked()
	}
}

// counters returns the telemetry handles of a call.
func (s *h2server) counters(c *call) *telemetry.HTTP {
	s.mu.Lock() // of counted, which the requests of the connection share
	defer s.mu.Unlock()
	return c.counters(s.h, s.info, &s.counted)
}
