package listen

import (
	"github.com/isthmus-mesh/isthmus/proxy/access"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
)

// connectionOf is what policies ask about of a connection.
func connectionOf(info *downstream.Info) access.Connection {
	return access.Connection{
		Principal: info.PeerPrincipal(), Peer: info.Peer.Addr(), Local: info.Local, SNI: info.SNI,
	}
}

// admits tells whether the policies of a chain would let a connection in that another
// chain serves. HTTP is let in unless none of its requests would pass: each of them is
// asked about. Who the peer is has been written down once TLS is shaken hands on; before
// that nobody can tell.
func (c *chain) admits(h *connection) bool {
	switch {
	case c.tcp != nil && c.tcp.access == nil, c.tcp == nil && c.access == nil:
		return true
	case h.chain.tls != nil && h.tls.Load() == nil:
		return false
	case c.tcp != nil:
		return c.tcp.access.For(connectionOf(h.info)).Allows()
	case h.chain.tcp != nil:
		return false // its bytes are no requests, so that nobody could ask about them
	}
	return !c.access.For(connectionOf(h.info)).Barred()
}

// supersede has the requests that still come by a chain that is out of force decided about
// by the one of the same name that is in force; the listener is nil when it is gone.
func (c *chain) supersede(by *listener) {
	old, ok := c.http.(interface{ Supersede(by any) })
	if !ok {
		return
	}
	if next := by.chain(func(n *chain) bool { return n.cfg.Name == c.cfg.Name && n.http != nil }); next != nil {
		old.Supersede(next.http)
	}
}

// uncounted is for policies that are asked what they would say.
func uncounted(string) access.Counts { return access.Counts{} }
