package http2

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	// clockCheck is how often it is looked at whether the peer takes too long, at most.
	clockCheck = 15 * time.Second
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

// WatchIdle calls end when the connection had no streams for limit; it looks now and then, not exactly. Zero means
// no limit.
func (c *Conn) WatchIdle(limit time.Duration, end func()) (stop func()) {
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

// ErrSilent ends a connection whose peer does not answer a PING.
var ErrSilent = errors.New("the endpoint gives no sign of life")

// WatchPeer ends the connection when the peer, while streams wait for it, is silent for after and then answers no PING
// within patience, as when its machine is gone.
func (c *Conn) WatchPeer(after, patience time.Duration) (stop func()) {
	var last uint64
	asked := 0                                            // periods that went by since the PING
	most := max(int((patience+after-1)/max(after, 1)), 1) // as many are its patience
	return every(after, func() bool {
		frames := c.frames.Load()
		c.mu.Lock()
		silent := frames == last && len(c.streams) > 0 && c.err == nil
		if silent && asked == 0 {
			c.wbuf = append(appendFrame(c.wbuf, 8, http2.FramePing, 0, 0), "isthmus!"...)
		}
		c.mu.Unlock()
		if silent && asked >= most {
			c.fail(ErrSilent)
			_ = c.conn.Close()
			return false
		}
		last = frames
		if silent {
			asked++
		} else {
			asked = 0
		}
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
func (c *Conn) overdue(k *clock, now time.Time) error {
	frames, partial := c.frames.Load(), c.partial.Load()
	switch {
	case !partial || frames != k.frames:
		k.frames, k.since = frames, time.Time{}
	case k.since.IsZero():
		k.since = now
	case now.Sub(k.since) >= c.patience:
		return connectionFault(http2.ErrCodeEnhanceYourCalm, "a frame or a header block that was begun does not come to its end")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return nil
	case !c.acked && now.Sub(c.begun) >= c.patience: // RFC 9113 section 6.5.3
		return connectionFault(http2.ErrCodeSettingsTimeout, "the settings were not acknowledged within %v", c.patience)
	case c.clogged.Load() && now.Sub(c.cloggedAt) >= c.patience:
		return connectionFault(http2.ErrCodeEnhanceYourCalm, "more is asked for than is taken")
	}
	return nil
}

// WatchClock ends the connection when the peer takes too long for something.
func (c *Conn) WatchClock() (stop func()) {
	var k clock
	return every(min(c.patience/4, clockCheck), func() bool {
		c.relieve()
		err := c.overdue(&k, time.Now())
		if err != nil {
			c.fail(err)
		}
		return err == nil
	})
}

// WatchStreams calls check with the sink of every open stream, again and again after each period, until stop is
// called. A check may take the locks that the sink takes when it is called.
func (c *Conn) WatchStreams(period time.Duration, check func(s Sink, now time.Time)) (stop func()) {
	return every(period, func() bool {
		c.mu.Lock()
		sinks := make([]Sink, 0, len(c.streams))
		for _, s := range c.streams {
			sinks = append(sinks, s.sink)
		}
		c.mu.Unlock()
		now := time.Now()
		for _, s := range sinks {
			check(s, now)
		}
		return true
	})
}
