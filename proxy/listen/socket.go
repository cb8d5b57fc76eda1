package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/backoff"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
)

// socket is a bound address. It outlives versions of its listener.
type socket struct {
	m       *Manager
	ln      *net.TCPListener
	addr    netip.AddrPort // as asked for
	current atomic.Pointer[listener]
	conns   atomic.Int64 // open
}

// bindLocked gives the listener its socket: the one of its former version where
// the address is the same.
func (m *Manager) bindLocked(l *listener) error {
	old := m.sockets[l.cfg.Name]
	if old != nil && l.cfg.Bind && old.addr == l.cfg.Address {
		old.current.Store(l)
		return nil
	}

	// The new socket is opened before the old one is closed: when that fails,
	// the former version stays in force.
	var s *socket
	if l.cfg.Bind {
		lc := net.ListenConfig{Control: listenOptions, KeepAlive: -1}
		ln, err := lc.Listen(context.Background(), "tcp", l.cfg.Address.String())
		if err != nil {
			return fmt.Errorf("listener %q: address: cannot listen: %w", l.cfg.Name, err)
		}
		s = &socket{m: m, ln: ln.(*net.TCPListener), addr: l.cfg.Address}
		s.current.Store(l)
	}

	if old != nil {
		old.close()
		delete(m.sockets, l.cfg.Name)
	}
	if s != nil {
		m.sockets[l.cfg.Name] = s
		m.wait.Add(1)
		go s.accept()
	}
	return nil
}

// listenOptions sets what accepted connections inherit, so that it costs no
// system call for each: probes on connections on which nothing moves.
func listenOptions(_, _ string, raw syscall.RawConn) error {
	var err error
	cerr := raw.Control(func(fd uintptr) {
		for _, o := range [][3]int{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 120},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 30},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
		} {
			if err == nil {
				err = unix.SetsockoptInt(int(fd), o[0], o[1], o[2])
			}
		}
	})
	return errors.Join(cerr, err)
}

// Addr returns the address that a listener is bound to, for one whose
// configuration leaves the port open; false when it has no socket.
func (m *Manager) Addr(name string) (netip.AddrPort, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sockets[name]
	if s == nil {
		return netip.AddrPort{}, false
	}
	return addrPort(s.ln.Addr()), true
}

func (s *socket) close() { _ = s.ln.Close() }

// accept takes connections until the socket is closed.
func (s *socket) accept() {
	defer s.m.wait.Done()

	pauses := backoff.Delays{First: 5 * time.Millisecond, Most: time.Second}
	for {
		c, err := s.ln.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}

		if err != nil {
			// Out of descriptors or memory: what is open goes on.
			s.m.log.Warn("cannot accept connections for the moment", "listener", s.current.Load().cfg.Name, "error", err)
			time.Sleep(pauses.Next())
			continue
		}

		pauses.Reset()
		if !s.admit() {
			s.turnAway(c)
			continue
		}
		s.m.wait.Add(1)
		go s.serve(c)
	}
}

// admit counts a connection as open, unless there are too many.
func (s *socket) admit() bool {
	total, own := s.m.conns.Add(1), s.conns.Add(1)
	limit := s.m.opt.MaxConnections // see Options
	if limit > 0 && (total > limit || own > max(1, limit/4*3)) {
		s.release()
		return false
	}
	return true
}

// release is the counterpart of admit.
func (s *socket) release() {
	s.conns.Add(-1)
	s.m.conns.Add(-1)
}

// turnAway refuses a connection with a reset, so that its client knows at once.
func (s *socket) turnAway(c *net.TCPConn) {
	name := s.current.Load().cfg.Name
	s.m.opt.Telemetry.OverLimit(name)
	s.m.refused.event("connection refused: as many are open as there is memory for; give the proxy more, or set --max-connections",
		"listener", name, "peer", addrPort(c.RemoteAddr()), "limit", s.m.opt.MaxConnections)
	_ = c.SetLinger(0)
	_ = c.Close()
}

// serve takes one connection from accept to close.
func (s *socket) serve(c *net.TCPConn) {
	m := s.m
	defer m.wait.Done()
	defer s.release()
	defer c.Close()

	// Close must find it while it waits for its first bytes, too.
	if !m.opening.add(c) {
		return
	}
	defer m.opening.remove(c)

	dir := s.current.Load().cfg.Direction
	m.opt.Telemetry.ConnOpen(dir)
	defer m.opt.Telemetry.ConnClose(dir)

	// An update may take a chain out of force between its choice and the
	// entry of the connection; then the choice is made anew. That it happens
	// again and again is not to be expected.
	for range 3 {
		h := s.assign(c)
		if h == nil {
			return
		}
		if h.of.enter(h) {
			defer h.of.leave(h)
			m.opening.remove(c)
			h.chain.serve(h)
			return
		}
	}

	m.log.Debug("connection closed: its listener is gone, or changes all the time", "peer", c.RemoteAddr())
}

// assign finds the filter chain of a connection. It returns nil, and has said
// why, for one that is refused.
func (s *socket) assign(c *net.TCPConn) *connection {
	m := s.m
	l := s.current.Load()
	info := &downstream.Info{
		Direction: l.cfg.Direction, Peer: addrPort(c.RemoteAddr()), Local: addrPort(c.LocalAddr()), Start: time.Now(),
	}
	if l = m.redirected(c, l, info); l == nil {
		return nil
	}

	seen, ch, err := l.choose(c, info.Local, m.opt.FirstBytes)
	if err != nil {
		m.log.Debug("connection closed before a filter chain was chosen",
			"listener", l.cfg.Name, "peer", info.Peer, "destination", info.Local, "error", err)
		return nil
	}

	if ch == nil {
		m.opt.Telemetry.NoFilterChain(l.cfg.Name)
		m.refused.event("connection refused: no filter chain matches", "listener", l.cfg.Name, "peer", info.Peer,
			"destination", info.Local, "transport", seen.transport(), "sni", seen.sni, "protocols", seen.protocols())
		return nil
	}

	info.Listener, info.Chain, info.Drain = l.cfg.Name, ch.cfg.Name, ch.drained()
	info.SNI, info.OfferedALPN = seen.sni, seen.alpn
	return &connection{conn: c, info: info, chain: ch, of: l.conns, seen: seen}
}

// choose looks at the first bytes, if need be, and finds the filter chain; nil
// when none matches. A client from outside that must speak first has
// firstBytes to begin.
func (l *listener) choose(c *net.TCPConn, dst netip.AddrPort, firstBytes time.Duration) (s seen, ch *chain, err error) {
	look := l.inspection(dst, firstBytes)
	if look.tls || look.http {
		if s, err = inspect(c, look); err != nil {
			return s, nil, err
		}
	}

	ch = l.match.find(dst, &s)
	if s.silent && ch != nil && ch.http != nil {
		// It must speak first, but has not yet: a slow client, or a slow
		// machine. What it will say may still lead to another chain, such as
		// that for TLS.
		look.wait, look.goOn = patience(l.cfg.Direction, firstBytes), false
		if s, err = inspect(c, look); err != nil {
			return s, nil, err
		}
		ch = l.match.find(dst, &s)
	}
	return s, ch, nil
}

// redirected finds out where a connection was going, and the listener for
// that. It returns nil for one that was meant for the proxy's own port:
// forwarded, it would come back for ever.
func (m *Manager) redirected(c *net.TCPConn, l *listener, info *downstream.Info) *listener {
	if !l.cfg.UseOriginalDst && !l.cfg.RestoreDst {
		return l
	}

	own := info.Local
	dst, err := m.opt.OriginalDst(c)
	if err != nil || dst == own {
		m.refused.event("connection refused: it was not redirected here, but addressed to the proxy's own port",
			"listener", l.cfg.Name, "peer", info.Peer, "port", own.Port(), "error", err)
		m.opt.Telemetry.NoFilterChain(l.cfg.Name)
		return nil
	}

	info.Local = dst
	if l.cfg.UseOriginalDst {
		if v := m.virtual.Load().find(l.cfg.Direction, dst); v != nil {
			return v
		}
	}
	return l
}

// originalDst asks connection tracking where a redirected connection was
// going (SO_ORIGINAL_DST, linux/netfilter_ipv4.h and ip6_tables.h). For one
// that was not redirected the local address is returned.
func originalDst(c *net.TCPConn) (netip.AddrPort, error) {
	const soOriginalDst = 80
	local := addrPort(c.LocalAddr())
	raw, err := c.SyscallConn()
	if err != nil {
		return local, err
	}

	out, serr := local, error(nil)
	err = raw.Control(func(fd uintptr) {
		if local.Addr().Is4() {
			// The option gives a struct sockaddr_in, which fits in this one.
			var m *unix.IPv6Mreq
			if m, serr = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, soOriginalDst); serr == nil {
				a := m.Multiaddr
				out = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), uint16(a[2])<<8|uint16(a[3]))
			}
			return
		}

		// That of IPv6, a struct sockaddr_in6, is the first field of this one.
		var m *unix.IPv6MTUInfo
		if m, serr = unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, soOriginalDst); serr == nil {
			port := m.Addr.Port<<8 | m.Addr.Port>>8 // network byte order
			out = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), port)
		}
	})
	if err == nil && serr == unix.ENOENT {
		return local, nil // not tracked: it came here directly
	}
	return out, errors.Join(err, serr)
}

// addrPort converts a TCP address, IPv4 in IPv6 undone.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
