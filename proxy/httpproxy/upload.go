package httpproxy

import (
	"errors"
	"sync/atomic"
	"time"
)

// upload is the sending of a request body beside the receiving of the response.
type upload struct {
	started   bool
	done      chan struct{}
	sent      atomic.Bool // the last byte is written, or being written
	err       error       // valid once done is closed
	sourceErr error       // the part of err that the caller of the proxy is to blame for
	out       outbuf
}

// pending reports whether the request has a body that takeSmallBody left.
func (u *upload) pending(s *session) bool {
	b := s.req.framing
	return !u.started && b.kind != bodyNone && (s.call.outcome.Received == 0 || b.kind != bodyLength)
}

func (u *upload) reset() {
	u.started, u.err, u.sourceErr = false, nil, nil
	u.sent.Store(false)
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
	u.out = outbuf{dst: conn, pool: &s.h.server.bulk, pending: u.out.pending[:0]}
	if !s.deadline.IsZero() {
		s.setDeadline(time.Time{})
	}
	s.up.reset(&s.in, &u.out, s.req.framing)
	s.up.last = func() { u.sent.Store(true) }
	go func() {
		defer close(u.done)
		if u.err = s.up.run(); u.err == nil {
			return
		}
		var src *sourceError
		if errors.As(u.err, &src) {
			u.sourceErr = src.err
			_ = conn.Close() // wakes the reader of the response
		}
	}()
}

// stopUpload ends a running upload; the connections on both sides cannot be used for another request.
func (s *session) stopUpload() {
	u := &s.up1
	if !u.started {
		return
	}
	if u.running() {
		s.setDeadline(time.Unix(1, 0))
		<-u.done
		s.setDeadline(time.Time{})
		if isTimeout(u.sourceErr) {
			u.sourceErr = nil
		}
	}
	s.call.keep = false
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
}

func (w *watcher) reset() {
	w.conn, w.done = nil, nil
	w.moved, w.since = 0, time.Time{}
	w.gone.Store(false)
	w.stopping.Store(false)
}

// start reads ahead on the caller's connection; nothing else reads there meanwhile.
func (w *watcher) start(s *session) {
	if w.done != nil || s.in.r != s.in.w { // a request that waits proves that the caller is there
		return
	}
	w.done = make(chan struct{})
	s.setDeadline(time.Time{})
	done, conn := w.done, w.conn
	go func() {
		defer close(done)
		if err := s.in.fill(); err != nil && !w.stopping.Load() {
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
	limit := s.h.hcm.StreamIdleTimeout
	if r := s.call.route; r.Action != nil && r.Action.IdleSet {
		limit = r.Action.IdleTimeout
	}
	if limit <= 0 || s.up1.running() {
		return false
	}
	if w.since.IsZero() || w.moved != s.down.moved {
		w.moved, w.since = s.down.moved, now
		return false
	}
	return now.Sub(w.since) >= limit
}
