package httpproxy

import (
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
)

const (
	// streamCheck is how often streams are looked at where nothing else says how often.
	streamCheck = 15 * time.Second
	// silentBody is how long a caller may leave a request body unfinished and silent that nobody has answered yet,
	// where the configuration does not say. Streams of gRPC are open as long as their callers like.
	silentBody = 5 * time.Minute
)

// watchStreams ends streams on which nothing moves for too long.
func (s *h2server) watchStreams() (stop func()) {
	period := streamCheck
	if limit := s.h.hcm.StreamIdleTimeout; limit > 0 {
		period = max(limit/4, 10*time.Millisecond)
	}
	return s.c.WatchStreams(period, func(s http2.Sink, now time.Time) { s.(*pair).checkIdle(now) })
}

// idleLimitLocked is how long nothing may move; 0: for ever.
func (p *pair) idleLimitLocked() time.Duration {
	if limit := p.call.idleLimit(p.srv.h); limit > 0 || p.end || p.responded || p.call.GRPC {
		return limit
	}
	if a := p.call.Route.Action; a != nil && a.IdleSet {
		return 0
	}
	return silentBody
}

// checkIdle ends the request when nothing has moved for as long as the configuration allows.
func (p *pair) checkIdle(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done || p.pipe != nil || p.call.Route == nil || p.delay != nil {
		return
	}
	limit := p.idleLimitLocked()
	moved := p.received.Load() + p.sent.Load()
	if p.movedAt.IsZero() || p.moved != moved {
		p.moved, p.movedAt = moved, now
	}
	if limit > 0 && now.Sub(p.movedAt) >= limit {
		p.overLocked(exchange.Idle)
	}
}
