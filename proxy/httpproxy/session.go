package httpproxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
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
	bridged bool // the request came by HTTP/2
	info    *downstream.Info
	cert    clientCert

	in       inbuf
	out      outbuf
	req      head
	up, down relay
	scratch  []byte // the encoded request head, with the body when that is small
	lookup   func(string) (string, bool)
	stalled  func() bool
	started  func()
	slowBody func() bool

	call    call
	up1     upload
	watch   watcher
	counted countedCluster

	mu       sync.Mutex // guards idle, and the read deadline of an idle connection
	idle     bool
	draining atomic.Bool

	now       time.Time // when the last request ended
	deadline  time.Time // read deadline in force
	headTimer bool      // it bounds the receipt of a head
	fresh     bool      // nothing has come yet
}

// call is what is learned about one request on its way.
type call struct {
	start    time.Time
	deadline time.Time // of the whole call; zero: none
	tryEnd   time.Time // of the current try; zero: none
	lastTry  bool
	// replayable says that the whole request is in session.scratch.
	replayable bool
	idempotent bool   // RFC 9110 section 9.2.2
	upgrade    string // the protocol that the caller may switch to, or ""
	sent       bool   // an endpoint may have got a request that failed
	answered   bool   // and may have answered it
	failed     string // the x-isthmus-failed of the proxy's own answer
	route      *route
	cluster    *upstream.Cluster
	ep         *upstream.Endpoint
	pool       *endpointPool
	outcome    telemetry.Outcome
	grpc       bool
	headOnly   bool // a HEAD request
	h2         bool // the endpoint is spoken to in HTTP/2
	http10     bool
	keep       bool // whether the downstream connection survives the request
	unread     bool // something of the request may still be on its way
	entry      *telemetry.Entry
}

func newSession(h *Handler, conn net.Conn, info *downstream.Info) *session {
	s := &session{h: h, conn: conn, info: info, cert: newClientCert(h.hcm, info), now: time.Now(), fresh: true}
	s.in.src = conn
	s.out.dst, s.out.pool = conn, &h.server.bulk
	s.lookup = s.req.lookup
	s.stalled = s.onStall
	s.started = s.headStarted
	s.slowBody = s.onSlowBody
	s.up.pool, s.down.pool = &h.server.bulk, &h.server.bulk
	h.server.drains.join(info.Drain, s)
	return s
}

func (s *session) end() { s.h.server.drains.leave(s.info.Drain, s) }

// view returns b as a string without copying; it is valid as long as b is.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

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
	if s.in.r == s.in.w {
		if err := s.awaitRequest(); err != nil {
			return nil, err
		}
	}
	s.endFirstWait()
	raw, err := s.in.readHead(s.started)
	if s.headTimer {
		s.headTimer = false
		s.setDeadline(time.Time{})
	}
	if limit := s.h.hcm.MaxHeaderBytes; limit > 0 && len(raw) > int(limit) {
		return nil, errFull
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
		at := s.now.Add(s.h.hcm.IdleTimeout)
		if s.deadline.IsZero() || at.Sub(s.deadline) > min(idleSlack, s.h.hcm.IdleTimeout/4) {
			s.setDeadline(at)
		}
	}
	s.mu.Unlock()
	err := s.in.fill()
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
	var syntax *parseError
	switch {
	case errors.Is(err, errIdle), errors.Is(err, io.EOF):
		return
	case errors.As(err, &syntax):
	case errors.Is(err, errFull):
		syntax = &parseError{431, "the request head is too large"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		syntax = &parseError{408, "the request head did not arrive in time"}
	default:
		return
	}
	s.call = call{start: time.Now(), outcome: telemetry.Outcome{Flag: telemetry.FlagDownstreamProtocol, GRPC: telemetry.NoGRPCStatus}}
	s.call.unread = true
	s.reply(syntax.status, syntax.reason)
	s.finish()
	s.linger()
}

// exchange serves one request whose head is raw, and reports whether the connection can serve another.
func (s *session) exchange(raw []byte) bool {
	s.call = call{start: time.Now(), keep: true, outcome: telemetry.Outcome{GRPC: telemetry.NoGRPCStatus}}
	if err := s.req.parseRequest(raw); err != nil {
		s.refuse(err)
		return false
	}
	s.in.discard(len(raw))
	s.up1.reset()
	s.watch.reset()
	c := &s.call
	c.http10 = s.req.minor == 0
	c.headOnly = string(s.req.method) == "HEAD"
	c.keep = !s.req.close && !s.draining.Load()
	c.grpc = isGRPC(view(s.req.get(fieldContentType)))
	if s.req.upgrade {
		c.upgrade = allowedUpgrade(s.h.hcm, s.req.get(fieldUpgrade))
	}
	if s.h.log != nil {
		s.openEntry()
	}
	s.forward()
	s.finish()
	if !c.keep {
		s.linger()
	}
	return c.keep
}

// forward routes the request and hands it to the side that speaks to the endpoint.
func (s *session) forward() {
	q, err := s.target()
	if err != nil {
		s.call.keep = false
		s.call.outcome.Flag = telemetry.FlagDownstreamProtocol
		s.replyRest(statusOf(err), err.Error())
		return
	}
	if !s.resolve(&q) {
		return
	}
	s.call.h2 = upstreamProtocol(s.call.cluster, config.ProtocolHTTP1) == config.ProtocolHTTP2
	if s.call.h2 && s.call.upgrade != "" {
		s.replyWith(&failure{status: 502, flag: telemetry.FlagUpstreamProtocol, body: fmt.Sprintf(
			"cluster %q is spoken to in HTTP/2, where a connection cannot switch to %s; name its port http",
			s.call.cluster.Name(), s.call.upgrade)})
		return
	}
	s.forwardTo(&q)
}

// resolve finds the route and the cluster, or answers.
func (s *session) resolve(q *target) bool {
	c := &s.call
	t := s.h.routes.table()
	if t != nil {
		c.route = t.find(q)
	}
	if c.route == nil {
		f := noRoute(t, q)
		c.outcome.Flag = f.flag
		s.replyRest(f.status, f.body)
		return false
	}
	if f := c.route.local(s.info, q); f != nil {
		s.replyWith(f)
		return false
	}
	ref := c.route.cluster()
	if c.cluster = ref.Load(); c.cluster == nil {
		f := noCluster(c.route, ref.Name())
		c.outcome.Flag = f.flag
		s.replyRest(f.status, f.body)
		return false
	}
	if c.route.timeout > 0 {
		c.deadline = c.start.Add(c.route.timeout)
	}
	return true
}

// target reads what routing needs from the request line and Host.
func (s *session) target() (target, error) {
	q := target{
		method: view(s.req.method), authority: view(s.req.get(fieldHost)),
		path: view(s.req.target), grpc: s.call.grpc, header: s.lookup,
		destination: s.info.Local.Addr(),
	}
	switch {
	case q.method == "CONNECT":
		return q, &parseError{405, "CONNECT is not forwarded on a port whose protocol is HTTP; name the port tcp"}
	case q.path[0] == '/':
		q.path = normalizePath(s.h.hcm, q.path)
	case q.path == "*" && q.method == "OPTIONS":
	default: // absolute form; its authority stands above Host (RFC 9112 section 3.2.2)
		authority, path, err := splitAbsolute(q.path)
		if err != nil {
			return q, err
		}
		q.authority, q.path = authority, normalizePath(s.h.hcm, path)
		if path == "" {
			q.path = "/"
			if q.method == "OPTIONS" { // RFC 9112 section 3.2.4
				q.path = "*"
			}
		}
	}
	if q.authority == "" { // HTTP/1.0 names no host: the address that was called stands for it
		q.authority = netip.AddrPortFrom(s.info.Local.Addr().Unmap(), s.info.Local.Port()).String()
	}
	if s.h.hcm.StripAnyHostPort {
		q.authority = withoutPort(q.authority)
	}
	return q, nil
}
