package discovery

import (
	"net"
	"net/netip"
	"sync"
)

// Bounds of the connections to one port. They are far above what a cluster's
// proxies come to: a connection that does nothing costs some 30 KiB.
const (
	maxConns = 10_000
	// maxConnsPerPeer leaves room for others beside any one address. Proxies
	// behind a gateway share one, so it is large.
	maxConnsPerPeer = maxConns / 2
)

// boundedListener closes connections beyond a number at once, in all and for one
// peer address, so that whoever opens many does not use up what the process may
// open. Its Accept is called from one goroutine.
type boundedListener struct {
	net.Listener
	total, perPeer int

	mu    sync.Mutex
	open  int
	peers map[netip.Addr]int // only addresses with open connections
}

// boundConns bounds a listener; nil stays nil.
func boundConns(l net.Listener, total, perPeer int) net.Listener {
	if l == nil {
		return nil
	}
	return &boundedListener{Listener: l, total: total, perPeer: perPeer, peers: map[netip.Addr]int{}}
}

// Accept gives the next connection within the bounds.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var from netip.Addr
		if ap, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
			from = ap.Addr().Unmap()
		}
		if !l.enter(from) {
			_ = c.Close()
			continue
		}
		return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
	}
}

func (l *boundedListener) enter(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.total || l.peers[from] >= l.perPeer {
		return false
	}
	l.open++
	l.peers[from]++
	return true
}

func (l *boundedListener) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	l.peers[from]--
	if l.peers[from] == 0 {
		delete(l.peers, from)
	}
}

// boundedConn counts until it is closed.
type boundedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection.
func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
