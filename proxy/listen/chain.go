package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/access"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/xds"
)

// listener is one listener in one version of its configuration. It is
// immutable; its chains may be shared with the version before and after.
type listener struct {
	cfg   *config.Listener
	match *matcher
	all   []*chain
	conns *connections // of all versions
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
	// access is the policy of http; that of tcp is there.
	access *access.Policy

	bound   bool // the listener has a socket of its own
	retired bool // not in force any more; guarded by the lock of connections

	mu    sync.Mutex
	end   chan struct{} // closed when connections should end
	ended bool          // for good: see endGently
}

// compileLocked makes a listener, with the chains of the old version that did
// not change: their connections are not disturbed.
func (m *Manager) compileLocked(cfg *config.Listener, old *listener) (*listener, error) {
	l := &listener{cfg: cfg, conns: m.connectionsLocked(cfg.Name)}
	var fallback *chain
	for i, fc := range cfg.AllChains() {
		c := old.chain(func(o *chain) bool { return o.cfg.Version == fc.Version && o.dir == cfg.Direction })
		if c == nil {
			var err error
			if c, err = m.newChainLocked(cfg, fc); err != nil {
				return nil, fmt.Errorf("listener %q: filter_chains[%d] %q: %w", cfg.Name, i, fc.Name, err)
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

// newChainLocked makes a chain that is not in force yet.
func (m *Manager) newChainLocked(l *config.Listener, fc *config.FilterChain) (*chain, error) {
	c := &chain{
		m: m, cfg: fc, name: l.Name, dir: l.Direction, bound: l.Bind,
		end: make(chan struct{}),
	}
	if m.draining[c.dir] {
		c.endGently()
	}

	var err error
	if fc.TLS != nil {
		if c.tls, err = mtls.NewServer(fc.TLS, m.opt.Identity, m.opt.Secrets); err != nil {
			return nil, err
		}
	}

	switch {
	case fc.TCP != nil:
		c.tcp, err = newTCPProxy(m, fc)
	case m.opt.HTTP == nil:
		return nil, errors.New("HTTP is not served here")
	default:
		c.access = access.Compile(fc.HTTP.Access, uncounted)
		c.http, err = m.opt.HTTP.Handler(fc.HTTP)
	}
	return c, err
}

// endGently asks connections to end, those that come later too.
func (c *chain) endGently() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended = true
		close(c.end)
	}
}

// turnOver asks the connections of the moment to end, and none of those that
// come later.
func (c *chain) turnOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		close(c.end)
		c.end = make(chan struct{})
	}
}

// drained returns a channel that is closed when a connection should end.
func (c *chain) drained() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// goodbyeTimeout bounds the writing of the last TLS record of a connection.
const goodbyeTimeout = time.Second

// serve takes a connection from the choice of its chain to its end.
func (c *chain) serve(h *connection) {
	var inner net.Conn = h.conn
	if c.tls != nil {
		t, err := c.terminate(h)
		if err != nil {
			reason := mtls.ReasonOf(err)
			c.m.opt.Telemetry.HandshakeFailed(reason)
			c.m.refused.event("TLS handshake failed", "listener", c.name, "peer", h.info.Peer, "reason", reason, "error", err)
			return
		}
		h.tls.Store(t)
		inner = t
	} else if h.seen.http != config.ProtocolTCP {
		h.info.Protocol = h.seen.http
	}

	if c.http == nil {
		c.tcp.serve(inner, h.info)
		return
	}

	c.http.ServeConn(inner, h.info)
	if t, ok := inner.(*tls.Conn); ok {
		// Close says goodbye, which may block on a peer that reads no more; the
		// socket is closed in any case.
		_ = t.SetDeadline(time.Now().Add(goodbyeTimeout))
		_ = t.Close()
	}
}

// terminate shakes hands and writes down who is at the other end.
func (c *chain) terminate(h *connection) (*tls.Conn, error) {
	conn, info, s := h.conn, h.info, h.seen
	if err := conn.SetDeadline(time.Now().Add(c.cfg.HandshakeTimeout)); err != nil {
		return nil, err
	}

	if !s.tls {
		// The choice of the chain did not depend on the ClientHello, so nobody
		// has looked; its ALPN decides what is agreed on.
		again, err := inspect(conn, helloOnly)
		if err != nil {
			return nil, err
		}
		s = again
		h.learn(s)
		info.SNI, info.OfferedALPN = s.sni, s.alpn
		_ = conn.SetDeadline(time.Now().Add(c.cfg.HandshakeTimeout)) // inspect has set its own
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
var helloOnly = inspection{tls: true, wait: helloTimeout}

func ownURI(id mtls.Identity) string {
	cert := id.Certificate()
	if cert == nil || cert.Leaf == nil || len(cert.Leaf.URIs) == 0 {
		return ""
	}
	return cert.Leaf.URIs[0].String()
}

// protocolOf tells what is spoken inside TLS by the protocol agreed on, else by
// those offered: a client that offers only HTTP to a chain without ALPN speaks
// it all the same.
func protocolOf(agreed string, offered []string) config.Protocol {
	if p := protocolByALPN(agreed); p != config.ProtocolUnknown {
		return p
	}
	for _, name := range offered {
		if p := protocolByALPN(name); p != config.ProtocolUnknown {
			return p
		}
	}
	return config.ProtocolUnknown
}

// protocolByALPN reads a protocol name, of the registry (RFC 7301, section 6) or
// of the mesh's own mutual TLS.
func protocolByALPN(name string) config.Protocol {
	switch name {
	case "h2", xds.ALPNHTTP2:
		return config.ProtocolHTTP2
	case "http/1.1", "http/1.0", xds.ALPNHTTP11, xds.ALPNHTTP10:
		return config.ProtocolHTTP1
	}
	return config.ProtocolUnknown
}
