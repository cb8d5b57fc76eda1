package listen

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
)

// connection is an accepted connection that has its filter chain.
type connection struct {
	conn  *net.TCPConn
	info  *downstream.Info
	chain *chain
	of    *connections
	seen  seen                     // guarded by the lock of connections
	tls   atomic.Pointer[tls.Conn] // set once TLS is terminated
}

// connections are the open ones of one listener, those of former versions of
// its configuration included. It is safe for concurrent use. Its lock is taken
// under that of the Manager, never the other way round.
type connections struct {
	mu     sync.Mutex
	open   map[*connection]struct{}
	closed bool
}

// enter adds a connection. It returns false when the chain is not in force any
// more, since the choice and an update may overlap: it has to be chosen again.
func (s *connections) enter(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || c.chain.retired {
		return false
	}

	if s.open == nil {
		s.open = map[*connection]struct{}{}
	}
	s.open[c] = struct{}{}
	return true
}

func (s *connections) leave(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// learn writes down what was seen of a connection after it entered.
func (c *connection) learn(what seen) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.seen = what
}

// retire takes chains out of force, and returns the connections whose chain is
// out of force now or was before and that a test holds for.
func (s *connections) retire(chains []*chain, test func(*connection) bool) []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range chains {
		c.retired = true
	}
	return s.filterLocked(func(c *connection) bool { return c.chain.retired && test(c) })
}

// filter returns the connections that a test holds for.
func (s *connections) filter(test func(*connection) bool) []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.filterLocked(test)
}

// filterLocked is filter under the lock.
func (s *connections) filterLocked(test func(*connection) bool) []*connection {
	var out []*connection
	for c := range s.open {
		if test(c) {
			out = append(out, c)
		}
	}
	return out
}

// empty tells whether none is open.
func (s *connections) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open) == 0
}

// closeAll closes every connection, and keeps others from entering.
func (s *connections) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		_ = c.conn.Close()
	}
}

// change is a listener that an update replaced or removed.
type change struct {
	name      string
	old, next *listener // next is nil for one that is gone
}

// retireChains takes the chains of a former version out of force. Its
// connections are asked to end at the next good moment; those that would not be
// let in any more are cut off when the drain time is over. The others go on for
// as long as they like: a policy or a service that does not concern a
// connection is no reason to break it. The new version was published before.
func (m *Manager) retireChainsLocked(ch change) {
	var gone []*chain
	for _, c := range ch.old.all {
		if ch.next.chain(func(n *chain) bool { return n == c }) == nil {
			gone = append(gone, c)
		}
	}

	for _, c := range gone {
		c.supersede(ch.next)
	}
	strangers := ch.old.conns.retire(gone, func(c *connection) bool { return !m.mayStayLocked(c) })
	for _, c := range gone {
		c.endGently()
	}
	m.cutLaterLocked(ch.old.conns, strangers, func(c *connection) bool { return !m.mayStayLocked(c) })
}

// cutLaterLocked closes connections when the drain time is over, if the reason
// for it still holds then.
func (m *Manager) cutLaterLocked(of *connections, conns []*connection, reason func(*connection) bool) {
	if len(conns) == 0 {
		return
	}
	m.log.Info("connections will be cut off: as things are now they would not be let in",
		"listener", conns[0].chain.name, "connections", len(conns), "after", m.opt.DrainTime)

	// Connections come and go until then: those of today are kept by pointer,
	// and judged anew when the time is over, since an update may have let them
	// in again.
	late := make(map[*connection]bool, len(conns))
	for _, c := range conns {
		late[c] = true
	}

	time.AfterFunc(m.opt.DrainTime, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, c := range of.filter(func(c *connection) bool { return late[c] && reason(c) }) {
			_ = c.conn.Close()
		}
	})
}

// mayStayLocked tells whether a connection whose chain is out of force would be
// let in by what is in force.
func (m *Manager) mayStayLocked(c *connection) bool {
	l := m.listeners[c.chain.name]
	if l == nil && !c.chain.bound {
		l = m.takerLocked(c)
	}
	if l == nil {
		return false
	}

	now := l.match.find(c.info.Local, &c.seen)
	if now == nil {
		return false
	}

	// Who proved more than is asked for may stay, too.
	if now.cfg.TLS != nil && now.cfg.Access != c.chain.cfg.Access {
		return false
	}
	return (now.tcp == nil || !m.leadsNowhere(now.cfg.TCP)) && now.admits(c)
}

// takerLocked finds the listener that a redirected connection would go to now,
// when the one that it came by is gone: the service was removed, or the pod of a
// headless service is not ready for a while.
func (m *Manager) takerLocked(c *connection) *listener {
	if l := m.virtual.Load().find(c.info.Direction, c.info.Local); l != nil {
		return l
	}

	// There is one as a rule. Of several, the first by name, the same each time.
	var taker *listener
	for name, l := range m.listeners {
		if l.cfg.UseOriginalDst && l.cfg.Direction == c.info.Direction && (taker == nil || name < taker.cfg.Name) {
			taker = l
		}
	}
	return taker
}

// leadsNowhere tells whether a chain only catches what is not allowed: it goes
// to a cluster that is there and can have no endpoints.
func (m *Manager) leadsNowhere(t *config.TCPProxy) bool {
	if t.Cluster == "" || t.SNICluster {
		return false
	}

	c := m.opt.Clusters.Get(t.Cluster)
	if c == nil || c.Config().Type != config.ClusterStatic {
		return false
	}

	la := c.Config().Endpoints
	if la == nil {
		return true
	}

	for i := range la.Localities {
		if len(la.Localities[i].Endpoints) > 0 {
			return false
		}
	}
	return true
}

// RecheckPeers is to be called when the roots of trust have changed. Peers whose
// certificates do not lead to one of them any more are asked to go, together
// with the others of their chains, who may come back at once; those who stay are
// cut off when the drain time is over.
func (m *Manager) RecheckPeers() {
	m.mu.Lock()
	defer m.mu.Unlock()

	for _, conns := range m.open {
		// A chain can only ask all of its connections to end (turnOver); the
		// trusted ones come back at once.
		distrusted := conns.filter(func(c *connection) bool { return !c.trusted() })
		for _, c := range distrusted {
			c.chain.turnOver()
		}
		if len(distrusted) > 0 {
			m.cutLaterLocked(conns, distrusted, func(c *connection) bool { return !c.trusted() })
		}
	}
}

// trusted tells whether the peer would be let in with the certificate that it
// showed.
func (c *connection) trusted() bool {
	t := c.tls.Load()
	if t == nil {
		return true
	}
	state := t.ConnectionState()
	return c.chain.tls.Recheck(&state, c.info.Start) == nil
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

// connectionsLocked returns the connections of a listener, made on the first
// call.
func (m *Manager) connectionsLocked(listener string) *connections {
	c := m.open[listener]
	if c == nil {
		c = &connections{}
		m.open[listener] = c
	}
	return c
}

// forgetConnectionsLocked drops the sets of listeners that are gone and whose
// last connection has left.
func (m *Manager) forgetConnectionsLocked() {
	for name, c := range m.open {
		if m.listeners[name] == nil && c.empty() {
			delete(m.open, name)
		}
	}
}
