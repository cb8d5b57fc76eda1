package xds

import "net/netip"

// The addresses that the mesh gives to hosts lie in the range reserved for future
// use (RFC 1112, section 4): nothing answers there but a sidecar, which has to catch
// all that is sent to them.

// EntryRange is where those of ServiceEntries without addresses lie.
func EntryRange() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{240, 240}), 16) }

// ElsewhereRange is where those of services lie that only other clusters have.
func ElsewhereRange() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{242}), 8) }
