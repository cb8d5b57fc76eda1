package api

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// Estate is what a cluster holds beside its ServiceEntries, and what they may
// not take from it.
type Estate struct {
	// RootNamespace is exempt: what it declares, the mesh's administrators
	// declare.
	RootNamespace string
	// ClusterDomain is the DNS suffix of Kubernetes Services, GlobalSuffix
	// the one under which clusters know each other's.
	ClusterDomain, GlobalSuffix string
	// Services are the addresses of Services, with the namespace/name of
	// each.
	Services map[netip.Addr]string
	// Ranges are the prefixes that Services are given addresses from, by
	// Kubernetes or, where another cluster has them, by the mesh.
	Ranges []netip.Prefix
}

// complete fills in what Istio's installations use.
func (in *Estate) complete() {
	in.RootNamespace = cmp.Or(in.RootNamespace, DefaultNamespace)
	in.ClusterDomain = cmp.Or(in.ClusterDomain, DefaultClusterDomain)
	in.GlobalSuffix = cmp.Or(in.GlobalSuffix, DefaultGlobalDomain)
}

// Settlement is what becomes of one ServiceEntry beside all others.
type Settlement struct {
	// Refused says why the entry is not in force; nil when it is.
	Refused error
	// Notes say what of it is not, because another has it.
	Notes []string
	// Allocated are the addresses that the mesh gives to its hosts.
	Allocated map[string]netip.Addr
}

// Settle decides between all ServiceEntries of a cluster: who may take which
// host and address. It is pure, and the same everywhere: the proxies and the DNS
// server agree by it without talking.
//
// An address belongs to the Service that has it, then to the oldest entry; an
// address that the mesh gave to a host stays with it, by the entry's status. A
// newcomer never moves what is there, whatever names it chooses.
func Settle(entries []*Object, in Estate) map[*Object]*Settlement {
	in.complete()
	s := settling{
		in: in, out: make(map[*Object]*Settlement, len(entries)),
		order:     slices.SortedFunc(slices.Values(entries), byAge),
		addresses: map[netip.Addr]*Object{}, given: map[netip.Addr]string{}, allocated: map[string]netip.Addr{},
	}
	for _, o := range s.order {
		s.out[o] = &Settlement{}
		if se, ok := o.Spec.(*networking.ServiceEntry); ok {
			s.out[o].Refused = s.judge(o, se)
		}
	}
	s.allocate()
	s.noteHosts()
	return s.out
}

// settling is a run of Settle.
type settling struct {
	in    Estate
	order []*Object // the oldest first
	out   map[*Object]*Settlement

	// addresses and prefixes are those that entries list, with who did
	// first. Entries that count in their own namespace only are not in it.
	addresses map[netip.Addr]*Object
	prefixes  []claimedPrefix
	// given are the addresses that the mesh gave, with the host of each;
	// allocated is the same the other way round.
	given     map[netip.Addr]string
	allocated map[string]netip.Addr
}

type claimedPrefix struct {
	prefix netip.Prefix
	owner  *Object
}

// judge says why an entry cannot be in force beside Services and older entries;
// an entry that can takes its addresses.
func (s *settling) judge(o *Object, se *networking.ServiceEntry) error {
	if err := checkOwnHosts(o, se, s.in); err != nil {
		return err
	}

	var p problems
	own := private(se, o.Namespace)
	for i, text := range se.Addresses {
		prefix, err := ParseAddress(text)
		if err != nil {
			continue // Validate said so
		}

		at := indexed("spec.addresses", i)
		if o.Namespace != s.in.RootNamespace {
			if what := s.in.taken(prefix); what != "" {
				p.addf(at, "%s: only ServiceEntries of namespace %q may take it; give an address that nothing has, for instance of 240.0.0.0/16", what, s.in.RootNamespace)
				continue
			}
		}

		if other := s.holder(prefix); other != nil && !own && other.Namespace != o.Namespace &&
			o.Namespace != s.in.RootNamespace && !sameHosts(se, other) {
			p.addf(at, "%q belongs to %s, which is older; give an address of your own", text, label(other))
		}
	}

	if len(p) > 0 {
		return p.err()
	}

	s.keepGiven(o, se)
	s.noteNames(o, se)
	if own {
		return nil
	}

	for _, text := range se.Addresses {
		if prefix, err := ParseAddress(text); err == nil {
			s.claim(prefix, o)
		}
	}
	return nil
}

// noteNames tells an entry that is to join a Service which of its endpoints
// cannot: the Service's are addresses, and nobody resolves a name among them.
func (s *settling) noteNames(o *Object, se *networking.ServiceEntry) {
	if !slices.ContainsFunc(EntryHosts(se), s.in.NamesService) || !byName(se) {
		return
	}
	for i, ep := range se.Endpoints {
		if _, err := netip.ParseAddr(ep.Address); err != nil {
			s.out[o].Notes = append(s.out[o].Notes, fmt.Sprintf(
				"%s.address: %q is a name, and cannot stand among a Service's endpoints; give an IP address", indexed("spec.endpoints", i), ep.Address))
		}
	}
}

// taken says which Service has an address of the prefix; it is empty when none
// has.
func (in *Estate) taken(prefix netip.Prefix) string {
	if prefix.IsSingleIP() {
		if svc, ok := in.Services[prefix.Addr()]; ok {
			return fmt.Sprintf("%q is the address of Service %s", prefix.Addr(), svc)
		}
	}
	if prefix.Bits() == 0 {
		return fmt.Sprintf("%q takes every address", prefix)
	}
	for _, r := range in.Ranges {
		if r.Overlaps(prefix) {
			return fmt.Sprintf("%q reaches into %s, a range of Services' addresses", prefix, r)
		}
	}
	if prefix.IsSingleIP() {
		return ""
	}
	// The lowest one is named, so that the message stays the same.
	found, name := netip.Addr{}, ""
	for addr, svc := range in.Services {
		if prefix.Contains(addr) && (!found.IsValid() || addr.Less(found)) {
			found, name = addr, svc
		}
	}
	if !found.IsValid() {
		return ""
	}
	return fmt.Sprintf("%q holds %s, the address of Service %s", prefix, found, name)
}

// holder is the older entry that listed an address of the prefix, or was given
// it.
func (s *settling) holder(prefix netip.Prefix) *Object {
	if prefix.IsSingleIP() {
		if o := s.addresses[prefix.Addr()]; o != nil {
			return o
		}
	} else {
		// Of several, who has the lowest, so that the message stays the same.
		var lowest netip.Addr
		for addr := range s.addresses {
			if prefix.Contains(addr) && (!lowest.IsValid() || addr.Less(lowest)) {
				lowest = addr
			}
		}
		if lowest.IsValid() {
			return s.addresses[lowest]
		}
	}
	for _, c := range s.prefixes {
		if c.prefix.Overlaps(prefix) {
			return c.owner
		}
	}
	return nil
}

func (s *settling) claim(prefix netip.Prefix, o *Object) {
	if !prefix.IsSingleIP() {
		s.prefixes = append(s.prefixes, claimedPrefix{prefix, o})
		return
	}
	if s.addresses[prefix.Addr()] == nil {
		s.addresses[prefix.Addr()] = o
	}
}

// sameHosts tells whether an entry declares no host but those of another: then
// it may give the same address, for it adds nothing to either.
func sameHosts(a *networking.ServiceEntry, b *Object) bool {
	other := EntryHosts(b.Spec.(*networking.ServiceEntry))
	return !slices.ContainsFunc(EntryHosts(a), func(h string) bool { return !slices.Contains(other, h) })
}

// keepGiven keeps the addresses that an entry's status says its hosts were
// given, unless an older entry has them.
func (s *settling) keepGiven(o *Object, se *networking.ServiceEntry) {
	for _, host := range s.needy(o, se) {
		addr, ok := o.Status.Addresses[host]
		if !ok || !allocatable(addr) || s.allocated[host].IsValid() || s.isTaken(addr) {
			continue
		}
		s.give(host, addr, o)
	}
}

func (s *settling) give(host string, addr netip.Addr, o *Object) {
	s.given[addr] = host
	s.allocated[host] = addr
	s.claim(netip.PrefixFrom(addr, addr.BitLen()), o)
}

func (s *settling) isTaken(addr netip.Addr) bool {
	return s.given[addr] != "" || s.holder(netip.PrefixFrom(addr, addr.BitLen())) != nil ||
		s.in.taken(netip.PrefixFrom(addr, addr.BitLen())) != ""
}

// needy are the hosts of an entry that the mesh gives addresses to. Those of
// Services have the Service's.
func (s *settling) needy(o *Object, se *networking.ServiceEntry) []string {
	if strings.EqualFold(o.Labels[LabelAllocate], "false") {
		return nil
	}
	return slices.DeleteFunc(NeedsAddress(se), s.in.NamesService)
}

// allocate gives an address to each host that needs one, the oldest entry's
// first.
func (s *settling) allocate() {
	for _, o := range s.order {
		se, ok := o.Spec.(*networking.ServiceEntry)
		if !ok || s.out[o].Refused != nil {
			continue
		}
		for _, host := range s.needy(o, se) {
			addr := s.allocated[host]
			if !addr.IsValid() {
				if addr = freeAddress(host, s.isTaken); !addr.IsValid() {
					s.out[o].Notes = append(s.out[o].Notes, fmt.Sprintf("%s has no address: all of %s are given away", host, AllocationRange()))
					continue
				}
				s.give(host, addr, o)
			}
			if s.out[o].Allocated == nil {
				s.out[o].Allocated = map[string]netip.Addr{}
			}
			s.out[o].Allocated[host] = addr
		}
	}
}

// noteHosts tells the entries whose hosts another namespace has that they add
// nothing to it.
func (s *settling) noteHosts() {
	owners := map[string]*Object{}
	s.eachHost(func(o *Object, se *networking.ServiceEntry, host string) {
		if !Public(se) {
			return
		}
		if first := owners[host]; first == nil || s.before(o, first, host) {
			owners[host] = o
		}
	})
	s.eachHost(func(o *Object, _ *networking.ServiceEntry, host string) {
		first := owners[host]
		if first == nil || first == o || first.Namespace == o.Namespace || s.before(o, first, host) {
			return
		}
		s.out[o].Notes = append(s.out[o].Notes, fmt.Sprintf(
			"spec.hosts: %q is declared by %s already; this entry adds nothing to it, neither ports nor endpoints nor addresses", host, label(first)))
	})
}

// eachHost calls do for each host of each entry in force, the oldest first.
func (s *settling) eachHost(do func(*Object, *networking.ServiceEntry, string)) {
	for _, o := range s.order {
		se, ok := o.Spec.(*networking.ServiceEntry)
		if !ok || s.out[o].Refused != nil {
			continue
		}
		for _, host := range EntryHosts(se) {
			do(o, se, host)
		}
	}
}

// before tells whether a comes before b where both declare the host: the
// namespace that the name speaks of first, then the older.
func (s *settling) before(a, b *Object, host string) bool {
	named := NamedNamespace(host, s.in.ClusterDomain, s.in.GlobalSuffix)
	if (a.Namespace == named) != (b.Namespace == named) {
		return a.Namespace == named
	}
	return byAge(a, b) < 0
}
