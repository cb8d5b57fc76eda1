package httpproxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

const (
	// headTimeout bounds the receipt of a request head once its first byte has come, where the configuration
	// sets no bound.
	headTimeout = 60 * time.Second
	// firstByteTimeout ends a connection on which nothing ever came.
	firstByteTimeout = 5 * time.Minute
	// idleSlack is how much too early or late the idle timeout may strike, so that the deadline is not set
	// anew for each request.
	idleSlack = time.Minute
	// drainGrace is how long an idle connection is kept open after the drain began: a request that is under
	// way meanwhile is answered, with Connection: close.
	drainGrace = 3 * time.Second
)

// session serves one downstream HTTP/1 connection, one request after the other.
type session struct {
	h       *Handler
	conn    net.Conn
	bridged bool      // the request came by HTTP/2
	began   time.Time // when it came, if a fault held it up there; else zero
	mirror  *mirror   // conn, where that carries a copy of a request that was decided about; else nil
	info    *downstream.Info
	edge    exchange.Edge
	peer    peer

	in       http1.Reader
	out      http1.Writer
	req      http1.Head
	up, down http1.Relay
	scratch  []byte // the encoded request head, with the body when that is small
	lookup   func(string) (string, bool)
	joined   func(string) (string, bool)
	stalled  func() bool
	started  func()
	slowBody func() bool

	call    call
	fields  headFields // of the head that is being edited
	up1     upload
	watch   watcher
	counted countedCluster

	// of the request that is under way
	mirrors    []*mirror // copies of it
	replayable bool      // the whole of it is in scratch
	upgrade    string    // the protocol that the caller may switch to, or ""
	h2         bool      // the endpoint is spoken to in HTTP/2
	http10     bool
	keep       bool // the downstream connection survives the request
	unread     bool // something of the request may still be on its way

	mu       sync.Mutex // guards idle, and the read deadline of an idle connection
	idle     bool
	draining atomic.Bool

	now       time.Time // when the last request ended
	deadline  time.Time // read deadline in force
	headTimer bool      // it bounds the receipt of a head
	fresh     bool      // nothing has come yet
}

func newSession(h *Handler, conn net.Conn, info *downstream.Info) *session {
	s := &session{h: h, conn: conn, info: info, edge: newEdge(h.hcm, info), now: time.Now(), fresh: true}
	s.in.Reset(conn)
	s.out.Reset(conn, &h.server.bulk)
	s.lookup, s.joined = s.req.Lookup, s.joinedField
	s.stalled = s.onStall
	s.started = s.headStarted
	s.slowBody = s.onSlowBody
	h.server.drains.join(info.Drain, s)
	return s
}

func (s *session) end() { s.h.server.drains.leave(s.info.Drain, s) }

func (s *session) serve() {
	for {
		raw, err := s.nextHead()
		if err != nil {
			s.refuse(err)
			return
		}
		if !s.exchange(raw) {
			return
		}
	}
}

// nextHead waits for a request and reads its head.
func (s *session) nextHead() ([]byte, error) {
	if s.in.Empty() {
		if err := s.awaitRequest(); err != nil {
			return nil, err
		}
	}
	s.endFirstWait()
	raw, err := s.in.ReadHead(s.started)
	if s.headTimer {
		s.headTimer = false
		s.setDeadline(time.Time{})
	}
	if limit := s.h.hcm.MaxHeaderBytes; limit > 0 && len(raw) > int(limit) {
		return nil, http1.ErrFull
	}
	return raw, err
}

// awaitRequest waits for the first byte of the next request, for as long as the idle timeout allows.
func (s *session) awaitRequest() error {
	s.mu.Lock()
	s.idle = true
	switch {
	case s.draining.Load():
		s.setDeadline(time.Now().Add(drainGrace))
	case s.fresh:
		s.setDeadline(s.now.Add(s.firstWait()))
	case s.h.hcm.IdleTimeout > 0:
		limit := s.h.hcm.IdleTimeout
		if s.deadline.IsZero() || s.deadline.Sub(s.now) < limit-min(idleSlack, limit/4) {
			s.setDeadline(s.now.Add(limit))
		}
	}
	s.mu.Unlock()
	err := s.in.Fill()
	s.mu.Lock()
	s.idle = false
	s.mu.Unlock()
	s.endFirstWait()
	drained := s.draining.Load()
	if drained {
		s.setDeadline(time.Time{})
	}
	if err != nil {
		return errIdle
	}
	return nil
}

// firstWait is how long the first byte of a connection may take.
func (s *session) firstWait() time.Duration {
	if limit := s.h.hcm.IdleTimeout; limit > 0 {
		return min(limit, firstByteTimeout)
	}
	return firstByteTimeout
}

// endFirstWait lifts the deadline for the first byte.
func (s *session) endFirstWait() {
	if s.fresh {
		s.fresh = false
		s.setDeadline(time.Time{})
	}
}

// errIdle ends a connection on which no request is under way.
var errIdle = errors.New("no request is under way")

func (s *session) setDeadline(at time.Time) {
	s.deadline = at
	_ = s.conn.SetReadDeadline(at)
}

// headStarted is called when a part of a head has come: the rest must follow soon.
func (s *session) headStarted() {
	limit := s.h.hcm.HeadersTimeout
	if limit <= 0 {
		limit = headTimeout
	}
	s.headTimer = true
	s.setDeadline(time.Now().Add(limit))
}

// drain begins the end of the connection; it is called from another goroutine.
func (s *session) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	if s.idle {
		_ = s.conn.SetReadDeadline(time.Now().Add(drainGrace))
	}
}

// refuse answers a request whose head could not be read, where there is somebody to answer to.
func (s *session) refuse(err error) {
	status, reason, is := breach(err)
	switch {
	case is:
	case errors.Is(err, http1.ErrFull):
		status, reason = 431, "the request head is too large"
	case errors.Is(err, os.ErrDeadlineExceeded):
		status, reason = 408, "the request head did not arrive in time"
	default: // it hung up, or nothing was asked
		return
	}
	s.begin(time.Now())
	s.unread = true
	s.reply(s.call.Refuse(status, outcome.DownstreamProtocol, reason).Answer)
	s.finish()
	s.linger()
}

// begin forgets the last request.
func (s *session) begin(now time.Time) {
	tried := s.call.tried[:0]
	s.call = call{} // in place: a literal would be made first and copied then
	s.call.start, s.call.onward, s.call.tried = now, now, tried
	s.replayable, s.upgrade, s.h2, s.http10, s.keep, s.unread = false, "", false, false, false, false
	s.up1.reset()
	s.watch.reset()
}

// exchange serves one request whose head is raw, and reports whether the connection can serve another.
func (s *session) exchange(raw []byte) bool {
	if err := s.req.ParseRequest(raw); err != nil {
		s.refuse(err)
		return false
	}
	s.begin(time.Now())
	if !s.began.IsZero() {
		s.call.start = s.began
	}
	s.in.Discard(len(raw))
	c := &s.call
	c.headOnly = string(s.req.Method) == "HEAD"
	c.GRPC = exchange.IsGRPC(http1.View(s.req.Get(http1.FieldContentType)))
	s.http10 = s.req.Minor == 0
	s.keep = !s.req.Close && !s.draining.Load()
	if s.req.Upgrade {
		s.upgrade = allowedUpgrade(s.h.hcm, s.req.Get(http1.FieldUpgrade))
	}
	if s.h.log != nil {
		s.openEntry()
	}

	s.forward()
	s.finish()
	if !s.keep {
		s.linger()
	}
	return s.keep
}

// forward routes the request and hands it to the side that speaks to the endpoint.
func (s *session) forward() {
	c := &s.call
	q, err := s.target()
	if err != nil {
		s.keep = false
		s.replyRest(c.Refuse(statusOf(err), outcome.DownstreamProtocol, err.Error()).Answer)
		return
	}

	s.fields.of(&s.req)
	if s.mirror != nil {
		s.forwardMirror(&q)
		return
	}
	from := asking{
		h: s.h, info: s.info, edge: &s.edge, fields: s, edit: &s.fields, ending: s.draining.Load(),
		again: s.bridged, delayed: !s.began.IsZero(),
	}
	if !s.bridged { // else the HTTP/2 side has asked
		from.caller, from.tokens = s.peer.of(s.h, s.info), s.h.inForce().tokens
	}

	v, passed := c.authenticate(&from, &q)
	if passed {
		v = c.begin(&from, &q)
	}
	if v.Do == exchange.Delay {
		v = s.holdUp(v.For, &from, &q)
	}
	switch v.Do {
	case exchange.Reply:
		s.replyRest(v.Answer)
		return
	case exchange.Break:
		s.abandon()
		return
	}

	s.h2 = upstreamProtocol(c.cluster, config.ProtocolHTTP1) == config.ProtocolHTTP2
	if s.h2 && s.upgrade != "" {
		s.replyRest(c.Refuse(502, outcome.UpstreamProtocol, fmt.Sprintf(
			"cluster %q is spoken to in HTTP/2, where a connection cannot switch to %s; name its port http",
			c.cluster.Name(), s.upgrade)).Answer)
		return
	}
	s.forwardTo(&q, v)
}

// joinedField is what routes are told of a field: what is left of the request's own, and what a token brought.
func (s *session) joinedField(name string) (string, bool) {
	if !s.fields.edited {
		return s.req.Joined(name)
	}
	return s.fields.Joined(name, ",")
}

// target reads what routing needs from the request line and Host.
func (s *session) target() (routes.Target, error) {
	q := routes.Target{
		Method: http1.View(s.req.Method), Authority: http1.View(s.req.Get(http1.FieldHost)),
		Path: http1.View(s.req.Target), GRPC: s.call.GRPC, Header: s.joined,
		Destination: s.info.Local.Addr(),
	}
	switch {
	case q.Method == "CONNECT":
		return q, &requestError{405, "CONNECT is not forwarded on a port whose protocol is HTTP; name the port tcp"}
	case q.Path[0] == '/':
	case q.Path == "*" && q.Method == "OPTIONS":
	default: // absolute form; its authority stands above Host (RFC 9112 section 3.2.2)
		authority, path, err := splitAbsolute(q.Path)
		if err != nil {
			return q, err
		}
		q.Authority, q.Path = authority, path
		if path == "" {
			q.Path = "/"
			if q.Method == "OPTIONS" { // RFC 9112 section 3.2.4
				q.Path = "*"
			}
		}
	}
	if q.Authority == "" { // HTTP/1.0 names no host: the address that was called stands for it
		q.Authority = netip.AddrPortFrom(s.info.Local.Addr().Unmap(), s.info.Local.Port()).String()
	}
	return q, nil
}
