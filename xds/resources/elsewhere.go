package resources

import (
	"cmp"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// Clusters may have the same ranges of addresses: what a Service's address is in
// its own cluster means nothing, or something else, in another. To the clients of
// a cluster where a host has no Service it is known by an address that the mesh
// gives it, out of a range where nothing answers (RFC 1112, section 4), so that a
// sidecar catches what is sent there.

// allocation is the addresses of all Kubernetes services of the mesh, by host. It
// is immutable. It follows from the rows alone, and from no order in which they
// came, so that every replica of the control plane gives a host the same one,
// after every start, and in every cluster.
type allocation struct{ byHost map[string]netip.Addr }

// allocationOf asks for the allocation. While there is but one cluster, no host is
// elsewhere, and it has but those that are exported.
type allocationOf struct{ source *Source }

func (q allocationOf) build(r *reader, old *allocation) *allocation {
	s := q.source
	exports := s.exports.get(r)
	clusters := 0
	for range readAll(r, &s.store.Clusters) {
		clusters++
	}

	now := &allocation{}
	if clusters > 1 || len(exports.since) > 0 {
		now = allocate(readAll(r, &s.store.Services), exports, clusters > 1)
	}
	if old != nil && maps.Equal(old.byHost, now.byHost) {
		return old
	}
	return now
}

// allocate gives each host the address that its hash says: those of Services, if
// all are to have one, and those of what is exported. Of several with one hash the
// oldest has it, and the others the next that are free; so has what a ServiceEntry
// gives its own hosts.
func allocate(services func(func(*model.Service) bool), exports *exported, all bool) *allocation {
	type candidate struct {
		host    string
		created time.Time // when the first row of it was
	}
	var hosts []candidate
	offered := map[string]time.Time{}
	taken := map[netip.Addr]bool{}
	for svc := range services {
		if at, ok := exports.sinceOf(svc); ok {
			name := clusterSetName(svc.Namespace, svc.Name)
			if first, known := offered[name]; !known || at.Before(first) {
				offered[name] = at
			}
		}
		switch {
		case svc.Origin != model.FromKubernetes:
			for _, a := range svc.Addresses {
				if a.IsSingleIP() {
					taken[a.Addr()] = true
				}
			}
		case !all:
		case len(hosts) > 0 && hosts[len(hosts)-1].host == svc.Host:
			// Rows of one host are neighbours (model.Service.Key).
			if last := &hosts[len(hosts)-1]; svc.Created.Before(last.created) {
				last.created = svc.Created
			}
		default:
			hosts = append(hosts, candidate{svc.Host, svc.Created})
		}
	}
	for name, at := range offered {
		hosts = append(hosts, candidate{name, at})
	}
	slices.SortFunc(hosts, func(a, b candidate) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.host, b.host))
	})

	out := &allocation{byHost: make(map[string]netip.Addr, len(hosts))}
	for _, h := range hosts {
		addr := freeElsewhere(h.host, taken)
		if !addr.IsValid() {
			break // sixteen million hosts
		}
		taken[addr] = true
		out.byHost[h.host] = addr
	}
	return out
}

// freeElsewhere is the first address that is not taken, from where the host's hash
// says. Those that end in 0 or 255 are left out: some take them for the address
// of a network.
func freeElsewhere(host string, taken map[netip.Addr]bool) netip.Addr {
	const size = 1 << 24
	f := fnv.New32a()
	f.Write([]byte(host))
	slot := f.Sum32() % size
	for range uint32(size) {
		if last := byte(slot); last != 0 && last != 255 {
			first := xds.ElsewhereRange().Addr().As4()[0]
			a := netip.AddrFrom4([4]byte{first, byte(slot >> 16), byte(slot >> 8), last})
			if !taken[a] {
				return a
			}
		}
		slot = (slot + 1) % size
	}
	return netip.Addr{}
}
