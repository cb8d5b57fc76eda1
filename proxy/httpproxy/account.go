package httpproxy

import (
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
)

// finish counts the request, logs it, and gives back what it needed.
func (s *session) finish() {
	c := &s.call
	s.now = time.Now()
	if s.up1.started {
		c.Outcome.Received = s.up.Moved()
		if !s.up1.running() {
			s.setDeadline(time.Time{}) // that of the body
		}
	}
	if s.mirrors != nil {
		s.leaveMirrors()
	}
	switch {
	case s.mirror == nil:
		c.finish(s.h, c.counters(s.h, s.info, &s.counted), s.now)
	case c.cluster != nil: // a copy stands neither in the log nor among the requests
		c.settle(s.now)
	}

	s.out.Release()
	if s.up1.started {
		s.up1.out.Release()
		s.up1.to.drop()
	}
	if cap(s.scratch) > http1.IdleSize {
		s.scratch = nil
	}
}

// openEntry begins an access log entry; it copies what it keeps of the head.
func (s *session) openEntry() {
	e := telemetry.NewEntry(s.info)
	e.Start = s.call.start
	e.Method, e.Path = string(s.req.Method), string(s.req.Target)
	e.Authority, e.Scheme = string(s.req.Get(http1.FieldHost)), "http"
	if s.info.TLS != nil {
		e.Scheme = "https"
	}
	e.Protocol = "HTTP/1.1"
	switch {
	case s.bridged:
		e.Protocol = "HTTP/2"
	case s.http10:
		e.Protocol = "HTTP/1.0"
	}
	e.RequestHeaders = values(s.h.log.RequestHeaders(), s.lookup)
	s.call.entry = e
}

// values looks headers up by their lower-case names.
func values(names []string, lookup func(string) (string, bool)) []string {
	if len(names) == 0 {
		return nil
	}
	out := make([]string, len(names))
	for i, n := range names {
		v, _ := lookup(n)
		out[i] = strings.Clone(v)
	}
	return out
}
