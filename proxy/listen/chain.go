package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
)

// listener is one listener in one version of its configuration. It is
// immutable; its chains may be shared with the version before and after.
type listener struct {
	cfg   *config.Listener
	match *matcher
	all   []*chain
}

// chain is a filter chain made ready to serve.
type chain struct {
	m    *Manager
	cfg  *config.FilterChain
	name string // of the listener
	dir  config.Direction
	tls  *mtls.Server
	http HTTPHandler
	tcp  *tcpProxy

	end   chan struct{} // closed when connections should end
	ended sync.Once
	conns *connSet // HTTP connections, and others until they are forwarded
	// streams are TCP connections. They are handed from version to version
	// of the chain as long as who may connect stays the same.
	streams *connSet
}

// compile makes a listener, with the chains of the old version that did not
// change.
func (m *Manager) compile(cfg *config.Listener, old *listener) (*listener, error) {
	l := &listener{cfg: cfg}
	var fallback *chain
	for i, fc := range cfg.AllChains() {
		c := old.chain(func(o *chain) bool { return o.cfg.Version == fc.Version && o.dir == cfg.Direction })
		if c == nil {
			var err error
			if c, err = m.newChain(cfg, fc); err != nil {
				return nil, fmt.Errorf("listener %q: filter_chains[%d] %q: %w", cfg.Name, i, fc.Name, err)
			}
			if p := old.chain(func(o *chain) bool { return o.cfg.Access == fc.Access && o.tcp != nil }); p != nil {
				c.streams = p.streams
			}
		}
		l.all = append(l.all, c)
		if fc == cfg.Default {
			fallback = c
		}
	}
	plain := l.all
	if fallback != nil {
		plain = plain[:len(plain)-1]
	}
	l.match = newMatcher(plain, fallback)
	return l, nil
}

// chain returns a chain that a test holds for; l may be nil.
func (l *listener) chain(test func(*chain) bool) *chain {
	if l == nil {
		return nil
	}
	if i := slices.IndexFunc(l.all, test); i >= 0 {
		return l.all[i]
	}
	return nil
}

func (m *Manager) newChain(l *config.Listener, fc *config.FilterChain) (*chain, error) {
	c := &chain{
		m: m, cfg: fc, name: l.Name, dir: l.Direction,
		end: make(chan struct{}), conns: &connSet{}, streams: &connSet{},
	}
	if m.draining[c.dir] {
		c.endGently()
	}
	var err error
	if fc.TLS != nil {
		if c.tls, err = mtls.NewServer(fc.TLS, m.opt.Identity); err != nil {
			return nil, err
		}
	}
	switch {
	case fc.TCP != nil:
		c.tcp = newTCPProxy(m, fc.TCP)
	case m.opt.HTTP == nil:
		return nil, errors.New("HTTP is not served here")
	default:
		c.http, err = m.opt.HTTP.Handler(fc.HTTP)
	}
	return c, err
}

// retireChains ends the chains of old that new has not: HTTP connections are
// asked to end and cut off when the drain time is over; TCP streams are cut
// off then if no chain of the new version lets the same peers in.
func (m *Manager) retireChains(old, next *listener) {
	for _, c := range old.all {
		if next.chain(func(n *chain) bool { return n == c }) != nil {
			continue
		}
		c.endGently()
		keep := next.chain(func(n *chain) bool { return n.streams == c.streams }) != nil
		m.retired[c] = time.AfterFunc(m.opt.DrainTime, func() {
			m.mu.Lock()
			delete(m.retired, c)
			m.mu.Unlock()
			c.conns.closeAll()
			if !keep {
				c.streams.closeAll()
			}
		})
	}
}

// endGently asks connections to end.
func (c *chain) endGently() { c.ended.Do(func() { close(c.end) }) }

// cut closes all connections.
func (c *chain) cut() {
	c.conns.closeAll()
	c.streams.closeAll()
}

// serve takes a connection from the choice of its chain to its end.
func (c *chain) serve(conn *net.TCPConn, info *downstream.Info, s *seen) {
	var inner net.Conn = conn
	if c.tls != nil {
		t, err := c.terminate(conn, info, s)
		if err != nil {
			reason := mtls.ReasonOf(err)
			c.m.opt.Telemetry.HandshakeFailed(string(reason), c.dir)
			c.m.refused.event("TLS handshake failed", "listener", c.name, "peer", info.Peer, "reason", reason, "error", err)
			return
		}
		inner = t
	} else if s.http != config.ProtocolTCP {
		info.Protocol = s.http
	}
	if c.http != nil {
		if c.conns.add(conn) {
			defer c.conns.remove(conn)
			c.m.opening.remove(conn)
			c.http.ServeConn(inner, info)
			if t, ok := inner.(*tls.Conn); ok {
				_ = t.SetDeadline(time.Now().Add(time.Second))
				_ = t.Close() // says goodbye; the socket is closed in any case
			}
		}
		return
	}
	if c.streams.add(conn) {
		defer c.streams.remove(conn)
		c.m.opening.remove(conn)
		c.tcp.serve(inner, info)
	}
}

// terminate shakes hands and writes down who is at the other end.
func (c *chain) terminate(conn *net.TCPConn, info *downstream.Info, s *seen) (*tls.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(c.cfg.HandshakeTimeout)); err != nil {
		return nil, err
	}
	if !s.tls {
		again, err := inspect(conn, helloOnly)
		if err != nil {
			return nil, err
		}
		*s = again
		info.SNI, info.OfferedALPN = s.sni, s.alpn
		_ = conn.SetDeadline(time.Now().Add(c.cfg.HandshakeTimeout))
	}
	rec, err := mtls.NewConn(conn)
	if err != nil {
		return nil, err
	}
	t := tls.Server(rec, c.tls.Config(s.alpn))
	if err := t.Handshake(); err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	state := t.ConnectionState()
	info.TLS = &downstream.TLS{ALPN: state.NegotiatedProtocol, PeerURI: mtls.PeerURI(&state), Version: state.Version}
	if len(state.PeerCertificates) > 0 {
		info.TLS.Peer = state.PeerCertificates[0]
	}
	if c.cfg.TLS.Cert == config.CertMesh {
		info.TLS.OwnURI = ownURI(c.m.opt.Identity)
	}
	info.Protocol = protocolOf(state.NegotiatedProtocol, s.alpn)
	return t, nil
}

// helloOnly makes inspect wait for a ClientHello and nothing else.
var helloOnly = &config.Listener{InspectTLS: true, InspectTimeout: helloTimeout}

func ownURI(id mtls.Identity) string {
	cert := id.Certificate()
	if cert == nil || cert.Leaf == nil || len(cert.Leaf.URIs) == 0 {
		return ""
	}
	return cert.Leaf.URIs[0].String()
}

// protocolOf tells what is spoken inside TLS by the protocol agreed on, else
// by those offered.
func protocolOf(agreed string, offered []string) config.Protocol {
	for _, p := range append([]string{agreed}, offered...) {
		switch p {
		case "h2", "istio-h2":
			return config.ProtocolHTTP2
		case "http/1.1", "http/1.0", "istio-http/1.1", "istio-http/1.0":
			return config.ProtocolHTTP1
		}
	}
	return config.ProtocolUnknown
}

// connSet is a set of connections that can all be closed at once. The zero
// value is ready.
type connSet struct {
	mu     sync.Mutex
	all    map[io.Closer]struct{}
	closed bool
}

// add enters a connection; it returns false when the set was closed.
func (s *connSet) add(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.all == nil {
		s.all = map[io.Closer]struct{}{}
	}
	s.all[c] = struct{}{}
	return true
}

func (s *connSet) remove(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// closeAll closes every connection, and those that would be added later.
func (s *connSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.all {
		_ = c.Close()
	}
}
