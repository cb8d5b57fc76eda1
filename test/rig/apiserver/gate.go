package apiserver

import (
	"net"
	"sync"
	"time"
)

// Refuse closes all connections and takes none, as a server that is stopped,
// until Recover.
func (s *Server) Refuse() {
	s.mu.Lock()
	l := s.listener
	s.listener = nil
	s.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	s.serving.Wait()
	s.gate.closeAll()
}

// Hang lets connections stand and new ones begin, and no byte through, as a
// network that loses packets, until Recover. What was under way goes on then.
func (s *Server) Hang() { s.gate.shut() }

// Slow lets every answer begin later, until Recover.
func (s *Server) Slow(delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = delay
}

// Recover ends Refuse, Hang and Slow.
func (s *Server) Recover() error {
	s.gate.reopen()
	s.mu.Lock()
	s.delay = 0
	refusing := s.listener == nil
	s.mu.Unlock()
	if refusing {
		return s.listen()
	}
	return nil
}

// Connections tells how many connections stand, and how many there ever were.
func (s *Server) Connections() (open, ever int) {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return len(s.gate.conns), s.gate.ever
}

// gate stands between the server and its connections.
type gate struct {
	mu    sync.Mutex
	open  chan struct{} // closed while bytes may pass
	conns map[*gatedConn]struct{}
	ever  int
}

func newGate() *gate {
	g := &gate{open: make(chan struct{}), conns: map[*gatedConn]struct{}{}}
	close(g.open)
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		g.open = make(chan struct{})
	default: // it is shut
	}
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

// closeAll closes all connections.
func (g *gate) closeAll() {
	g.mu.Lock()
	conns := make([]*gatedConn, 0, len(g.conns))
	for c := range g.conns {
		conns = append(conns, c)
	}
	g.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

func (g *gate) listener(l net.Listener) net.Listener { return gatedListener{l, g} }

type gatedListener struct {
	net.Listener
	gate *gate
}

// Accept takes a connection through the gate.
func (l gatedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	out := &gatedConn{Conn: c, gate: l.gate, closed: make(chan struct{})}
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	l.gate.conns[out] = struct{}{}
	l.gate.ever++
	return out, nil
}

// gatedConn lets bytes through while the gate is open.
type gatedConn struct {
	net.Conn
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (c *gatedConn) wait() error {
	c.gate.mu.Lock()
	open := c.gate.open
	c.gate.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

// Read reads what has come, when the gate is open.
func (c *gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if shut := c.wait(); shut != nil {
		return 0, shut
	}
	return n, err
}

// Write writes when the gate is open.
func (c *gatedConn) Write(p []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// SetDeadline and its kin do nothing: a deadline is not to end a connection that
// hangs.
func (c *gatedConn) SetDeadline(time.Time) error { return nil }

// Close ends the connection without a goodbye to the client.
func (c *gatedConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.gate.mu.Lock()
		delete(c.gate.conns, c)
		c.gate.mu.Unlock()
	})
	return c.Conn.Close()
}
