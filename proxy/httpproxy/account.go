package httpproxy

import (
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
)

// finish counts the request and logs it.
func (s *session) finish() {
	c := &s.call
	s.now = time.Now()
	c.outcome.Duration = s.now.Sub(c.start)
	if s.up1.started {
		c.outcome.Received = s.up.moved
		if !s.up1.running() {
			s.setDeadline(time.Time{}) // that of the body
		}
	}
	s.counters().Record(&c.outcome)
	s.out.release()
	s.up1.out.release()
	s.up1.to.drop()
	if cap(s.scratch) > idleBuffer {
		s.scratch = nil
	}
	if e := c.entry; e != nil {
		c.fill(e)
		s.h.log.Write(e)
	}
}

// fill completes an access log entry with what became of the call.
func (c *call) fill(e *telemetry.Entry) {
	e.Code, e.GRPC, e.Flags = c.outcome.Code, c.outcome.GRPC, c.outcome.Flag.String()
	e.Received, e.Sent = c.outcome.Received, c.outcome.Sent
	if c.ep != nil {
		e.Upstream = c.ep.Addr()
	}
	if c.cluster != nil {
		e.Cluster = c.cluster.Name()
	}
	if c.route != nil {
		e.Route = c.route.Name
	}
}

// counters returns the telemetry handles of the call.
func (s *session) counters() *telemetry.HTTP {
	c := &s.call
	t := s.h.server.cfg.Telemetry
	switch {
	case s.info.Direction == config.DirectionInbound:
		return s.counted.get(t, s.info, c)
	case c.pool != nil:
		return c.pool.count(t, s.info, c.grpc)
	}
	return t.HTTPFor(s.info, c.cluster, nil, "", c.grpc)
}

// openEntry begins an access log entry; it copies what it keeps of the head.
func (s *session) openEntry() {
	e := telemetry.NewEntry(s.info)
	e.Start = s.call.start
	e.Method, e.Path = string(s.req.method), string(s.req.target)
	e.Authority, e.Scheme = string(s.req.get(fieldHost)), "http"
	if s.info.TLS != nil {
		e.Scheme = "https"
	}
	e.Protocol = "HTTP/1.1"
	switch {
	case s.bridged:
		e.Protocol = "HTTP/2"
	case s.call.http10:
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
