package api

import (
	"hash/fnv"
	"net/netip"
)

// The addresses for hosts without one lie in 240.240.0.0/16: in the range
// reserved for future use (RFC 1112, section 4), so nothing answers there, and
// a sidecar catches it.
const (
	allocateHigh = 240
	allocateLow  = 240
	allocateSize = 1 << 16
)

// AllocationRange is the prefix that the mesh gives addresses from.
func AllocationRange() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{allocateHigh, allocateLow, 0, 0}), 16)
}

// allocatable tells whether the mesh may give the address to a host.
func allocatable(a netip.Addr) bool {
	if !AllocationRange().Contains(a) {
		return false
	}
	last := a.As4()[3]
	return last != 0 && last != 255
}

// freeAddress picks an address for a host that has none yet: the first that is
// not taken, from where the host's hash says. An address that is taken is never
// moved, so a host whose hash is made to meet another's gets the next one. It is
// not valid when the range is full.
func freeAddress(host string, taken func(netip.Addr) bool) netip.Addr {
	f := fnv.New32a()
	f.Write([]byte(host))
	sum := f.Sum32()
	slot := uint16(sum>>16) ^ uint16(sum)
	for range allocateSize {
		a := netip.AddrFrom4([4]byte{allocateHigh, allocateLow, byte(slot >> 8), byte(slot)})
		if allocatable(a) && !taken(a) {
			return a
		}
		slot++
	}
	return netip.Addr{}
}
