package httpproxy

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
)

// Mirrors are worth less than the requests that they are copies of: what exceeds these bounds is dropped.
const (
	// mirrorRoom and mirrorsRoom bound the bytes that wait to be sent to one mirror, and to all of a proxy.
	mirrorRoom  = 1 << 20
	mirrorsRoom = 16 << 20
	// mirrorsOfOne bounds the copies that are on their way to a cluster. Each has a session, of some 30 kB.
	mirrorsOfOne = 256
	// mirrorPatience is how long a mirror may be silent, and how much longer it may take than the request itself.
	mirrorPatience = 15 * time.Second
)

// mirrors is what the copies of a Server share.
type mirrors struct {
	handler *Handler     // serves them
	waiting atomic.Int64 // bytes that are to be sent
	// patience is mirrorPatience but in tests.
	patience time.Duration

	mu   sync.Mutex     // guards busy
	busy map[string]int // copies that are on their way, by cluster; those above 0
}

// begin prepares to serve copies. Their heads are as they are to be sent, so that nothing is to be added to them, nor
// taken from them.
func (m *mirrors) begin(s *Server, patience time.Duration) {
	m.patience, m.busy = patience, map[string]int{}
	m.handler = &Handler{server: s, hcm: &config.HCM{
		ForwardClientCert: config.ForwardClientCertAlwaysForwardOnly, StreamIdleTimeout: patience,
	}}
}

// take reports whether another copy may be sent to a cluster; if so, giveBack is to be called when it is over.
func (m *mirrors) take(cluster string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy[cluster] >= mirrorsOfOne {
		return false
	}
	m.busy[cluster]++
	return true
}

func (m *mirrors) giveBack(cluster string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy[cluster]--; m.busy[cluster] == 0 {
		delete(m.busy, cluster)
	}
}

// mirror is the copy of one request for one mirror: the connection by which a session of its own gets the request. What
// the session answers is dropped. One goroutine passes the request on, another one serves it.
type mirror struct {
	server *Server
	to     *routes.Mirror

	mu      sync.Mutex // guards what follows
	came    sync.Cond
	waiting bytes.Buffer // what was not read yet
	err     error        // why nothing more is read
	over    bool
	until   time.Time   // deadline of reads; zero: none
	alarm   *time.Timer // wakes the reader then
	late    *time.Timer // ends it when the request itself has long been over
}

var (
	errMirrorCut    = errors.New("the request that was mirrored ended early")
	errMirrorBehind = errors.New("the mirror took the request in too slowly")
	errMirrorLate   = errors.New("the mirror took much longer than the request itself")
)

// mirror begins to send copies of a request to those of a route's mirrors that are to have one. head is that of the
// request as it is sent on, in HTTP/1, maybe with more of it. What follows is to be given to pass, and in the end leave
// is to be called.
func (s *Server) mirror(r *routes.Route, info *downstream.Info, head []byte) []*mirror {
	var out []*mirror
	for i := range r.Mirrors {
		to := &r.Mirrors[i]
		if !routes.Draw(to.Share) {
			continue
		}
		if !s.mirrors.take(to.Cluster) {
			s.cfg.Telemetry.Mirrored(telemetry.MirrorBusy)
			continue
		}
		m := &mirror{server: s, to: to}
		m.came.L = &m.mu
		m.pass(head)
		go m.run(&downstream.Info{Direction: info.Direction, Local: info.Local, Peer: info.Peer})
		out = append(out, m)
	}
	return out
}

// run sends the copy and drops the answer.
func (m *mirror) run(info *downstream.Info) {
	s := newSession(m.server.mirrors.handler, m, info)
	s.mirror = m
	raw, err := s.nextHead()
	if err == nil {
		s.exchange(raw)
	}
	s.end()
	m.finish(err == nil && s.call.Outcome.Flag == outcome.None)
}

// forwardMirror is forward for the copy of a request.
func (s *session) forwardMirror(q *routes.Target) {
	c := &s.call
	v := c.Mirror(s.mirror.to.Route(q.Authority), c.start)
	if c.cluster = c.Cluster.Load(); c.cluster == nil {
		v = c.NoCluster()
	}
	if v.Do == exchange.Reply {
		s.replyRest(v.Answer)
		return
	}
	s.h2 = upstreamProtocol(c.cluster, config.ProtocolHTTP1) == config.ProtocolHTTP2
	s.forwardTo(q, v)
}

// pass gives the copy what comes next of the request. It does not wait: a mirror that is too far behind is given up.
func (m *mirror) pass(p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	all, n := &m.server.mirrors.waiting, int64(len(p))
	if all.Add(n) > mirrorsRoom || m.waiting.Len()+len(p) > mirrorRoom {
		all.Add(-n)
		m.endLocked(errMirrorBehind)
		return
	}
	m.waiting.Write(p)
	m.came.Broadcast()
}

// leave says that the request itself is over; whole that all of it was passed.
func (m *mirror) leave(whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !whole:
		m.endLocked(errMirrorCut)
	case !m.over: // an answer may have no end
		m.late = time.AfterFunc(m.server.mirrors.patience, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.endLocked(errMirrorLate)
		})
	}
}

// endLocked has reads and writes fail from now on, on which the session ends.
func (m *mirror) endLocked(why error) {
	if m.err != nil {
		return
	}
	m.err = why
	m.server.mirrors.waiting.Add(-int64(m.waiting.Len()))
	m.waiting = bytes.Buffer{}
	m.came.Broadcast()
}

// ended reports whether nobody waits for the copy any more. The session has to ask now and then: it may be about to send
// what the mirror does not take.
func (m *mirror) ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err != nil
}

// finish counts the copy, which is over.
func (m *mirror) finish(answered bool) {
	m.mu.Lock()
	why := m.err
	m.over = true
	m.endLocked(net.ErrClosed)
	for _, t := range [...]*time.Timer{m.alarm, m.late} {
		if t != nil {
			t.Stop()
		}
	}
	m.mu.Unlock()

	m.server.mirrors.giveBack(m.to.Cluster)
	result := telemetry.MirrorFailed
	switch {
	case answered:
		result = telemetry.MirrorAnswered
	case errors.Is(why, errMirrorCut):
		result = telemetry.MirrorCut
	case errors.Is(why, errMirrorBehind):
		result = telemetry.MirrorBehind
	}
	m.server.cfg.Telemetry.Mirrored(result)
}

// Read implements net.Conn. It has no end: that the request is whole is said by its framing.
func (m *mirror) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		switch {
		case m.err != nil:
			return 0, m.err
		case !m.until.IsZero() && !time.Now().Before(m.until):
			return 0, os.ErrDeadlineExceeded
		case m.waiting.Len() > 0:
			n, err := m.waiting.Read(p)
			m.server.mirrors.waiting.Add(-int64(n))
			return n, err
		}
		m.came.Wait()
	}
}

// Write implements net.Conn: the answer is nobody's.
func (m *mirror) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, m.err
	}
	return len(p), nil
}

// SetReadDeadline implements net.Conn.
func (m *mirror) SetReadDeadline(at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.until = at
	if m.alarm != nil {
		m.alarm.Stop()
		m.alarm = nil
	}
	if !at.IsZero() && !m.over {
		m.alarm = time.AfterFunc(time.Until(at), func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.came.Broadcast()
		})
	}
	return nil
}

// Close implements net.Conn.
func (m *mirror) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endLocked(net.ErrClosed)
	return nil
}

// SetDeadline implements net.Conn.
func (m *mirror) SetDeadline(at time.Time) error { return m.SetReadDeadline(at) }

// SetWriteDeadline implements net.Conn: no write waits.
func (m *mirror) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr implements net.Conn.
func (m *mirror) LocalAddr() net.Addr { return mirrorAddr{} }

// RemoteAddr implements net.Conn.
func (m *mirror) RemoteAddr() net.Addr { return mirrorAddr{} }

// mirrorAddr is the address of either end of a connection within the proxy.
type mirrorAddr struct{}

func (mirrorAddr) Network() string { return "mirror" }
func (mirrorAddr) String() string  { return "mirror" }
