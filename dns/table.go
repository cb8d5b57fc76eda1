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
// address name a network, not a host, and are left out.
//
// A host has the addresses of one namespace's entries: those of the namespace
// that the name speaks of, else of the namespace with the oldest; never of two.
// The server cannot tell who asks, so an entry that is not exported to every
// namespace gives a name only where no public one covers it, no wildcard, and
// only addresses that lead nowhere outside of the mesh.
func Hosts(objects []*api.Object, in api.Estate) []Host {
	sorted := slices.SortedFunc(slices.Values(inForce(objects)), func(a, b *api.Object) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	settled := api.Settle(sorted, in)

	public, private := map[string]*answer{}, map[string]*answer{}
	for _, o := range sorted {
		se, ok := o.Spec.(*networking.ServiceEntry)
		if !ok || settled[o].Refused != nil {
			continue
		}

		own := ownAddresses(se)
		for _, name := range api.EntryHosts(se) {
			addrs := own
			if a, ok := settled[o].Allocated[name]; ok {
				addrs = append(slices.Clone(own), a)
			}

			into := public
			if !api.Public(se) {
				if strings.HasPrefix(name, "*") {
					continue
				}
				into, addrs = private, unroutable(addrs)
			}
			add(into, name, o.Namespace, addrs, in.Names(name, o.Namespace))
		}
	}

	return list(public, private)
}

// answer is what a name resolves to, and whose it is.
type answer struct {
	namespace string
	// named tells that the name speaks of the namespace.
	named bool
	addrs []netip.Addr
}

// inForce leaves out what discovery refused.
func inForce(objects []*api.Object) []*api.Object {
	return slices.DeleteFunc(slices.Clone(objects), func(o *api.Object) bool { return o.Status.Refused })
}

// add gives a name addresses, if the namespace has it. Entries come by age.
func add(into map[string]*answer, name, namespace string, addrs []netip.Addr, named bool) {
	have := into[name]
	switch {
	case have == nil, named && !have.named:
		into[name] = &answer{namespace: namespace, named: named, addrs: slices.Clone(addrs)}
	case have.namespace == namespace:
		have.addrs = append(have.addrs, addrs...)
	}
}

// unroutable keeps the addresses that only sidecars of the mesh know what to do
// with: 240.0.0.0/4, reserved for future use (RFC 1112, section 4).
func unroutable(addrs []netip.Addr) []netip.Addr {
	reserved := netip.PrefixFrom(netip.AddrFrom4([4]byte{240}), 4)
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !reserved.Contains(a) })
}

// list sorts the public names, and the private ones that none of them covers.
func list(public, private map[string]*answer) []Host {
	hosts := make([]Host, 0, len(public)+len(private))
	for name, a := range public {
		hosts = append(hosts, Host{Name: name, Addrs: unique(a.addrs)})
	}

	// What everybody may see goes before what one namespace has to itself.
	covers := NewTable(hosts)
	for name, a := range private {
		if _, covered, _ := covers.Lookup(name); !covered && len(a.addrs) > 0 {
			hosts = append(hosts, Host{Name: name, Addrs: unique(a.addrs)})
		}
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
		if strings.HasPrefix(name, "*") && !strings.HasPrefix(name, "*.") {
			// Wildcards of DNS stand for whole labels (RFC 4592): what
			// *-api.foo.com covers is resolved elsewhere.
			continue
		}

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
