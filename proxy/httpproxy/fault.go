package httpproxy

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

// holdUp waits as a fault asks, and goes on then. The verdict is to break off when the caller goes away meanwhile.
func (s *session) holdUp(length time.Duration, from *asking, q *routes.Target) exchange.Verdict {
	// What comes meanwhile takes the place of the head in the buffer.
	s.req.Detach()
	for _, text := range []*string{&q.Method, &q.Authority, &q.Path} {
		*text = strings.Clone(*text)
	}

	gone, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if s.readAhead() {
			close(gone)
		}
	}()
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-gone:
	}
	s.setDeadline(time.Unix(1, 0))
	<-done
	s.setDeadline(time.Time{})

	select {
	case <-gone:
		s.h.server.cfg.Telemetry.FaultDelayed(false)
		return exchange.Verdict{Do: exchange.Break}
	default:
		return s.call.delayed(from, q)
	}
}

// readAhead reads what the caller sends, as far as the buffer holds it, until it is interrupted or the caller is gone,
// which it reports.
func (s *session) readAhead() (gone bool) {
	for {
		switch err := s.in.Fill(); {
		case err == nil:
		case errors.Is(err, http1.ErrFull), errors.Is(err, os.ErrDeadlineExceeded):
			return false
		case errors.Is(err, io.EOF) && s.req.Close:
			// It has said that it sends nothing more, and may still read (watcher).
			return false
		default:
			return true
		}
	}
}

// delayLocked waits as a fault asks, and goes on then, unless the request is over before.
func (p *pair) delayLocked(length time.Duration, q routes.Target) {
	p.req.fields = slices.Clone(p.req.fields) // the connection reads the next head into them
	p.delay = time.AfterFunc(length, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.done {
			return
		}
		p.delay = nil
		from := asking{h: p.srv.h, info: p.srv.info, edge: &p.srv.edge, fields: &p.req}
		p.onwardLocked(p.call.delayed(&from, &q), &q)
	})
}

// endDelayLocked is called when the request is over.
func (p *pair) endDelayLocked() {
	if p.delay != nil {
		p.delay.Stop()
		p.delay = nil
		p.srv.h.server.cfg.Telemetry.FaultDelayed(false)
	}
}
