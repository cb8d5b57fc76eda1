package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
)

// Host is a name and the addresses that it resolves to. The name is in lower
// case without a final dot; it may start with "*.", which stands for one or
// more labels.
type Host struct {
	Name  string
	Addrs []netip.Addr
}

// Hosts lists the names of the ServiceEntries among objects, which are valid.
// An entry's own addresses are used where it has any, allocated ones (the same
// that the proxies are told) where it needs them. Prefixes wider than one
// address name a network, not a host, and are left out. A host that several
// entries name has the addresses of all, the oldest entry's first.
func Hosts(objects []*api.Object) []Host {
	sorted := slices.SortedFunc(slices.Values(objects), func(a, b *api.Object) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	var needy []string
	for _, o := range sorted {
		if se, ok := o.Spec.(*networking.ServiceEntry); ok {
			needy = append(needy, api.NeedsAddress(se)...)
		}
	}
	allocated := api.AutoAllocate(needy)
	byName := map[string][]netip.Addr{}
	for _, o := range sorted {
		se, ok := o.Spec.(*networking.ServiceEntry)
		if !ok {
			continue
		}
		addrs := ownAddresses(se)
		allocate := len(api.NeedsAddress(se)) > 0
		for _, name := range api.EntryHosts(se) {
			have := append(byName[name], addrs...)
			if a, ok := allocated[name]; ok && allocate {
				have = append(have, a)
			}
			byName[name] = have
		}
	}
	hosts := make([]Host, 0, len(byName))
	for name, addrs := range byName {
		hosts = append(hosts, Host{Name: name, Addrs: unique(addrs)})
	}
	slices.SortFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Name, b.Name) })
	return hosts
}

func ownAddresses(se *networking.ServiceEntry) []netip.Addr {
	var out []netip.Addr
	for _, s := range se.Addresses {
		if p, err := api.ParseAddress(s); err == nil && p.IsSingleIP() {
			out = append(out, p.Addr())
		}
	}
	return out
}

// unique drops repeated addresses and keeps the order.
func unique(addrs []netip.Addr) []netip.Addr {
	seen := make(map[netip.Addr]bool, len(addrs))
	var out []netip.Addr
	for _, a := range addrs {
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

// Table is an immutable set of hosts.
type Table struct {
	exact map[string][]netip.Addr
	// wild maps the part behind "*." to addresses.
	wild map[string][]netip.Addr
	// inner are the names that have names below them, without being hosts.
	inner map[string]bool
}

// NewTable builds the table of hosts.
func NewTable(hosts []Host) *Table {
	t := &Table{exact: map[string][]netip.Addr{}, wild: map[string][]netip.Addr{}, inner: map[string]bool{}}
	for _, h := range hosts {
		name := h.Name
		if suffix, ok := strings.CutPrefix(name, "*."); ok {
			t.wild[suffix] = h.Addrs
			t.inner[suffix] = true
			name = suffix
		} else {
			t.exact[name] = h.Addrs
		}
		for parent := above(name); parent != ""; parent = above(parent) {
			t.inner[parent] = true
		}
	}
	return t
}

// Len returns the number of hosts.
func (t *Table) Len() int { return len(t.exact) + len(t.wild) }

// above returns the name one label up, "" above a single label.
func above(name string) string {
	_, parent, _ := strings.Cut(name, ".")
	return parent
}

// Lookup finds a name, in lower case without a final dot. host is whether a
// ServiceEntry names it, itself or by the longest wildcard that covers it;
// exists is whether it has a place in the tree at all (RFC 8020): a name with
// hosts below it exists even when it is none.
func (t *Table) Lookup(name string) (addrs []netip.Addr, host, exists bool) {
	if a, ok := t.exact[name]; ok {
		return a, true, true
	}
	for parent := above(name); parent != ""; parent = above(parent) {
		if a, ok := t.wild[parent]; ok {
			return a, true, true
		}
	}
	return nil, false, t.inner[name]
}

// Names holds the current Table. Its zero value has none. It is safe for
// concurrent use.
type Names struct {
	current atomic.Pointer[Table]
}

// Set replaces the table.
func (n *Names) Set(t *Table) { n.current.Store(t) }

// Table returns the current table; nil before the first Set.
func (n *Names) Table() *Table { return n.current.Load() }
