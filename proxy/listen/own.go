package listen

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// ownAddresses knows at which addresses the proxy listens. It is read before
// every connection to an endpoint, so it takes no lock.
type ownAddresses struct {
	bound atomic.Pointer[[]netip.AddrPort] // of the sockets
	host  atomic.Pointer[hostAddresses]
}

// hostAddresses is what the network interfaces had for addresses at a time.
type hostAddresses struct {
	all   map[netip.Addr]bool
	until time.Time
}

// hostAddressesFor is how long the addresses of the interfaces are taken as
// known: a pod keeps its own, but a laptop under a test does not.
const hostAddressesFor = 10 * time.Second

// Owns tells whether a connection to the address would arrive at a socket of
// this Manager.
func (m *Manager) Owns(a netip.AddrPort) bool {
	bound := m.own.bound.Load()
	if bound == nil {
		return false
	}

	addr := a.Addr().Unmap()
	for _, b := range *bound {
		if b.Port() != a.Port() {
			continue
		}
		// A socket at 0.0.0.0 or :: takes what comes to any address of the
		// host; :: takes IPv4 too (net.Listen, "tcp").
		if b.Addr() == addr || b.Addr().IsUnspecified() && m.own.isHost(addr) {
			return true
		}
	}
	return false
}

func (o *ownAddresses) isHost(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	h := o.host.Load()
	if now := time.Now(); h == nil || now.After(h.until) {
		h = &hostAddresses{all: interfaceAddresses(), until: now.Add(hostAddressesFor)}
		o.host.Store(h)
	}
	return h.all[a.WithZone("")]
}

// interfaceAddresses lists the addresses of the host; none when the system does
// not tell, for a proxy that cannot tell may still forward.
func interfaceAddresses() map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return all
	}

	for _, a := range list {
		if p, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(p.IP); ok {
				all[addr.Unmap()] = true
			}
		}
	}
	return all
}
