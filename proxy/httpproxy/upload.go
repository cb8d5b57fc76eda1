package httpproxy

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/http1"
)

// upload is the sending of a request body beside the receiving of the response.
type upload struct {
	started   bool
	done      chan struct{}
	sent      atomic.Bool // the last byte is written, or being written
	err       error       // valid once done is closed
	sourceErr error       // the part of err that the caller of the proxy is to blame for
	out       http1.Writer
	to        keeper
	halting   atomic.Bool // stopUpload interrupts it
	answered  atomic.Bool // the response has begun
	// of the uploading goroutine: what had moved when nothing came for the last time, and whether it gave up then
	seen   int64
	silent bool
}

// bodyTimeout ends a request whose body is silent for so long, where the configuration sets no bound.
const bodyTimeout = 5 * time.Minute

// reset makes ready for another body. One that was never started has left nothing.
func (u *upload) reset() {
	if !u.started {
		return
	}
	u.started, u.err, u.sourceErr = false, nil, nil
	u.sent.Store(false)
	u.halting.Store(false)
	u.answered.Store(false)
	u.seen, u.silent = 0, false
	u.to.drop()
}

// running reports whether the body is still being read from the caller.
func (u *upload) running() bool {
	if !u.started {
		return false
	}
	select {
	case <-u.done:
		return false
	default:
		return true
	}
}

// settled waits for an upload whose last byte is on its way, and reports whether the upload is over.
func (u *upload) settled() bool {
	if !u.running() {
		return true
	}
	if !u.sent.Load() {
		return false
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-u.done:
		return true
	case <-timer.C:
		return false
	}
}

// startUpload streams the body to conn, which has got the head, in a goroutine of its own.
func (s *session) startUpload(conn *h1conn) {
	u := &s.up1
	u.started = true
	u.done = make(chan struct{})
	u.to.begin(conn, &s.h.server.bulk, s.scratch, s.mirrors)
	u.out.Reset(&u.to, &s.h.server.bulk)
	s.setDeadline(time.Now().Add(s.bodyWait()))
	s.in.Stalled = s.slowBody
	s.up.Reset(&s.in, &u.out, s.req.Framing)
	s.up.Last = func() { u.sent.Store(true) }
	go func() {
		defer close(u.done)
		defer func() { s.in.Stalled = nil }()
		if u.err = s.up.Run(); u.err == nil {
			return
		}
		var src *http1.SourceError
		if errors.As(u.err, &src) {
			u.sourceErr = src.Err
			if u.silent {
				u.sourceErr = &requestError{408, "the request body did not arrive in time"}
			}
			_ = conn.Close() // wakes the reader of the response
		}
	}()
}

// bodyWait is how long the body of a request may be silent.
func (s *session) bodyWait() time.Duration {
	if limit := s.call.idleLimit(s.h); limit > 0 {
		return limit
	}
	return bodyTimeout
}

// onSlowBody is called, by the uploading goroutine, when nothing came of the body for a while; it reports whether to
// go on waiting. Once the response has begun, both sides may talk as they like.
func (s *session) onSlowBody() bool {
	u := &s.up1
	if u.halting.Load() {
		return false
	}
	if s.up.Moved() == u.seen && !u.answered.Load() {
		u.silent = true
		return false
	}
	u.seen = s.up.Moved()
	_ = s.conn.SetReadDeadline(time.Now().Add(s.bodyWait()))
	return true
}

// recall waits for the rest of a body whose endpoint failed, and puts the whole request into s.scratch, to be sent
// again. It reports false when the body is longer than what is kept of one, or does not come to its end.
func (s *session) recall() bool {
	u := &s.up1
	u.to.detach()
	limit := s.call.Deadline
	if end := time.Now().Add(recallTime); limit.IsZero() || end.Before(limit) {
		limit = end
	}
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	select {
	case <-u.done:
	case <-timer.C:
		return false
	}
	whole, ok := u.to.whole()
	if u.err != nil || !ok {
		return false
	}
	s.scratch = append(s.scratch[:0], whole...)
	s.call.Outcome.Received = s.up.Moved()
	s.replayable = true
	s.req.Framing = http1.Framing{}
	u.reset()
	return true
}

// stopUpload ends a running upload; the connections on both sides cannot be used for another request.
func (s *session) stopUpload() {
	u := &s.up1
	if !u.started {
		return
	}
	if u.running() {
		u.halting.Store(true)
		s.setDeadline(time.Unix(1, 0))
		<-u.done
		s.setDeadline(time.Time{})
		if errors.Is(u.sourceErr, os.ErrDeadlineExceeded) {
			u.sourceErr = nil
		}
	}
	s.keep = false
}

// watcher notices that the caller went away while the endpoint is silent.
type watcher struct {
	conn     *h1conn // the connection that is waited for
	done     chan struct{}
	stopping atomic.Bool
	gone     atomic.Bool
	// what had moved when a stall was last seen, and since when
	moved int64
	since time.Time
	idle  bool // it was too long
}

func (w *watcher) reset() {
	w.conn, w.done = nil, nil
	w.moved, w.since, w.idle = 0, time.Time{}, false
	if w.gone.Load() { // a store costs what an exchange does
		w.gone.Store(false)
	}
}

// start reads ahead on the caller's connection; nothing else reads there meanwhile.
func (w *watcher) start(s *session) {
	if w.done != nil || !s.in.Empty() { // a request that waits proves that the caller is there
		return
	}
	w.done = make(chan struct{})
	s.setDeadline(time.Time{})
	done, conn := w.done, w.conn
	go func() {
		defer close(done)
		err := s.in.Fill()
		if errors.Is(err, io.EOF) && s.req.Close {
			// The caller has said that it sends nothing more (RFC 9112 section 9.6): the end of its side is no news, and
			// it may still read.
			return
		}
		if err != nil && !w.stopping.Load() {
			w.gone.Store(true)
			_ = conn.Close()
		}
	}()
}

// stop ends the watch and reports whether the caller went away.
func (w *watcher) stop(s *session) bool {
	if w.done == nil {
		return false
	}
	w.stopping.Store(true)
	s.setDeadline(time.Unix(1, 0))
	<-w.done
	s.setDeadline(time.Time{})
	w.done = nil
	w.stopping.Store(false)
	return w.gone.Load()
}

// idleTooLong reports whether nothing moved on the stream for longer than the configuration allows.
func (w *watcher) idleTooLong(s *session, now time.Time) bool {
	limit := s.call.idleLimit(s.h)
	if limit <= 0 || s.up1.running() {
		return false
	}
	if w.since.IsZero() || w.moved != s.down.Moved() {
		w.moved, w.since = s.down.Moved(), now
		return false
	}
	return now.Sub(w.since) >= limit
}
