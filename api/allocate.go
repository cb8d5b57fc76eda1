package api

import (
	"hash/fnv"
	"net/netip"
	"slices"
)

// The addresses for hosts without one lie in 240.240.0.0/16: in the range
// reserved for future use (RFC 1112, section 4), so nothing answers there, and
// a sidecar catches it.
const (
	allocateHigh = 240
	allocateLow  = 240
	allocateSize = 1 << 16
)

// AutoAllocate gives each host an address of 240.240.0.0/16, so that the DNS
// server and the proxies agree on it without talking. Give it the hosts that
// NeedsAddress names, over all ServiceEntries of the cluster; order and
// duplicates do not matter.
//
// The address follows from the host's hash, so it stays the same while others
// come and go; only a host whose hash collides with that of a host before it in
// the alphabet moves on to the next free address. When the range is full, the
// last hosts get none.
func AutoAllocate(hosts []string) map[string]netip.Addr {
	sorted := slices.Clone(hosts)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	taken := make(map[uint16]bool, len(sorted))
	out := make(map[string]netip.Addr, len(sorted))
	for _, h := range sorted {
		f := fnv.New32a()
		f.Write([]byte(h))
		sum := f.Sum32()
		slot := uint16(sum>>16) ^ uint16(sum)
		for range allocateSize {
			if last := byte(slot); last != 0 && last != 255 && !taken[slot] {
				taken[slot] = true
				out[h] = netip.AddrFrom4([4]byte{allocateHigh, allocateLow, byte(slot >> 8), last})
				break
			}
			slot++
		}
	}
	return out
}
