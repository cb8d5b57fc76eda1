package httpproxy

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	// h2PingAfter is how long an endpoint may be silent while streams wait for it, before it is asked for a sign
	// of life, and how long it then has to give one.
	h2PingAfter = 10 * time.Second
	// streamCheck is how often streams are looked at where nothing else says how often.
	streamCheck = 15 * time.Second
	// silentBody is how long a caller may leave a request body unfinished and silent that nobody has answered yet,
	// where the configuration does not say. Streams of gRPC are open as long as their callers like.
	silentBody = 5 * time.Minute
)

// every calls f each d in a goroutine of its own, until stop is called or f returns false.
func every(d time.Duration, f func() bool) (stop func()) {
	var mu sync.Mutex
	var timer *time.Timer
	stopped := false
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(d, func() {
		if !f() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			timer.Reset(d)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// watchIdle calls end when the connection had no streams for limit; it looks now and then, not exactly. Zero means
// no limit.
func (c *h2conn) watchIdle(limit time.Duration, end func()) (stop func()) {
	if limit <= 0 {
		return func() {}
	}
	return every(max(limit/4, 10*time.Millisecond), func() bool {
		c.mu.Lock()
		idle := len(c.streams) == 0 && time.Since(c.idleSince) >= limit
		c.mu.Unlock()
		if idle {
			end()
		}
		return !idle
	})
}

var errSilent = errors.New("the endpoint gives no sign of life")

// watchPeer ends the connection when the peer is silent and does not answer a PING, as when its machine is gone.
func (c *h2conn) watchPeer() (stop func()) {
	var last uint64
	asked := false
	return every(h2PingAfter, func() bool {
		frames := c.frames.Load()
		c.mu.Lock()
		silent := frames == last && len(c.streams) > 0 && c.err == nil
		if silent && !asked {
			c.wbuf = append(appendFrame(c.wbuf, 8, http2.FramePing, 0, 0), "isthmus!"...)
		}
		c.mu.Unlock()
		if silent && asked {
			c.fail(errSilent)
			_ = c.conn.Close()
			return false
		}
		asked, last = silent, frames
		c.kick()
		return true
	})
}

// clock notices what takes too long.
type clock struct {
	frames uint64    // how many had come when it was last looked at
	since  time.Time // and since when one has begun and not come to its end; zero: none has
}

// overdue returns the error for what the peer should have done by now, or nil. One goroutine at a time calls it.
func (c *h2conn) overdue(k *clock, now time.Time) error {
	frames, partial := c.frames.Load(), c.partial.Load()
	switch {
	case !partial || frames != k.frames:
		k.frames, k.since = frames, time.Time{}
	case k.since.IsZero():
		k.since = now
	case now.Sub(k.since) >= c.patience:
		return h2Error(http2.ErrCodeEnhanceYourCalm, "a frame or a header block that was begun does not come to its end")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return nil
	case !c.acked && now.Sub(c.begun) >= c.patience: // RFC 9113 section 6.5.3
		return h2Error(http2.ErrCodeSettingsTimeout, "the settings were not acknowledged within %v", c.patience)
	case c.clogged.Load() && now.Sub(c.cloggedAt) >= c.patience:
		return h2Error(http2.ErrCodeEnhanceYourCalm, "more is asked for than is taken")
	}
	return nil
}

// watchClock ends the connection when the peer takes too long for something.
func (c *h2conn) watchClock() (stop func()) {
	var k clock
	return every(min(c.patience/4, streamCheck), func() bool {
		c.relieve()
		err := c.overdue(&k, time.Now())
		if err != nil {
			c.fail(err)
		}
		return err == nil
	})
}

// watchStreams ends streams on which nothing moves for too long.
func (s *h2server) watchStreams() (stop func()) {
	period := streamCheck
	if limit := s.h.hcm.StreamIdleTimeout; limit > 0 {
		period = max(limit/4, 10*time.Millisecond)
	}
	return every(period, func() bool {
		s.c.mu.Lock()
		pairs := make([]*pair, 0, len(s.c.streams))
		for _, st := range s.c.streams {
			pairs = append(pairs, st.sink.(*pair))
		}
		s.c.mu.Unlock()
		now := time.Now()
		for _, p := range pairs {
			p.checkIdle(now)
		}
		return true
	})
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
	if p.done || p.pipe != nil || p.call.Route == nil {
		return
	}
	limit := p.idleLimitLocked()
	moved := p.received.Load() + p.sent.Load()
	if p.movedAt.IsZero() || p.moved != moved {
		p.moved, p.movedAt = moved, now
	}
	if limit > 0 && now.Sub(p.movedAt) >= limit {
		p.lateLocked()
	}
}
