package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// EntryName names a ServiceEntry.
type EntryName struct{ Namespace, Name string }

// maxNotes bounds what is said of one ServiceEntry, which stands in its status:
// an entry may have a thousand hosts at one address.
const maxNotes = 5

// EntryNotes says of the rows of ServiceEntries, all of a cluster, what of
// their hosts no connection reaches, because nothing in it tells them from
// another's: connections that are neither HTTP nor TLS have an address and a
// port alone, and of several hosts at one address the oldest has it. The
// proxies are configured by the same order (model.Service.CompareAge).
func EntryNotes(services []*model.Service) map[EntryName][]string {
	n := noting{owners: map[way][]*model.Service{}, out: map[EntryName][]string{}, left: map[EntryName]int{}}
	sorted := slices.SortedFunc(slices.Values(services), (*model.Service).CompareAge)
	for _, svc := range sorted {
		if svc.JoinsService {
			continue // clients call the Service's address
		}
		for i := range svc.Ports {
			n.port(svc, &svc.Ports[i])
		}
	}

	for name, more := range n.left {
		n.out[name] = append(n.out[name], fmt.Sprintf("and %d more of the kind", more))
	}
	return n.out
}

// way is what a connection that carries no name is known by. The zero prefix is
// every address.
type way struct {
	to   netip.Prefix
	port uint16
}

func (w way) String() string {
	switch {
	case !w.to.IsValid():
		return fmt.Sprintf("any address at port %d", w.port)
	case w.to.IsSingleIP():
		return netip.AddrPortFrom(w.to.Addr(), w.port).String()
	}
	return fmt.Sprintf("%s at port %d", w.to, w.port)
}

// noting is a run of EntryNotes.
type noting struct {
	// owners are the services that have a way, each in the namespaces that
	// see it, the oldest first.
	owners map[way][]*model.Service
	out    map[EntryName][]string
	left   map[EntryName]int // notes above maxNotes
}

func (n *noting) addf(svc *model.Service, format string, args ...any) {
	name := EntryName{svc.Namespace, svc.Name}
	text := fmt.Sprintf(format, args...)
	switch {
	case slices.Contains(n.out[name], text):
	case len(n.out[name]) == maxNotes:
		n.left[name]++
	default:
		n.out[name] = append(n.out[name], text)
	}
}

// port notes the ways to one port, in the order in which proxies tell
// connections apart: by Host header, by server name, by address, by port alone.
func (n *noting) port(svc *model.Service, p *model.Port) {
	switch {
	case p.Protocol.IsHTTP():
		for _, a := range svc.Addresses {
			if !a.IsSingleIP() {
				n.addf(svc, "spec.addresses: %q changes nothing for port %d: HTTP goes by the Host header, so calls must name the host, not an address", a, p.Number)
			}
		}
	case p.Protocol == model.TLS && !strings.Contains(strings.TrimPrefix(svc.Host, "*."), "*"):
		// Told apart by the server name.
	case svc.Allocated.IsValid():
		n.take(svc, way{netip.PrefixFrom(svc.Allocated, svc.Allocated.BitLen()), p.Number})
	case len(svc.Addresses) > 0:
		for _, a := range svc.Addresses {
			n.take(svc, way{a, p.Number})
		}
	case p.Protocol == model.Unknown:
		n.addf(svc, "spec.ports: port %d gives no protocol, and %q has no address: HTTP reaches it by the Host header and TLS by the server name, other traffic does not; give protocol TCP, or spec.addresses", p.Number, svc.Host)
	default:
		n.take(svc, way{port: p.Number})
	}
}

// take gives a way to a service, or notes who has it. A namesake's endpoints are
// joined: it takes nothing away.
func (n *noting) take(svc *model.Service, w way) {
	for _, o := range n.owners[w] {
		if o.Host == svc.Host || !overlap(o.ExportTo, svc.ExportTo) {
			continue
		}
		n.addf(svc, "spec.hosts: %q gets no connection to %s, where nothing tells it from %q of ServiceEntry %s/%s, which comes first; give it an address of its own, or, if it speaks HTTP or TLS, that protocol",
			svc.Host, w, o.Host, o.Namespace, o.Name)
		if covers(o.ExportTo, svc.ExportTo) {
			return
		}
		break
	}
	n.owners[w] = append(n.owners[w], svc)
}

// overlap tells whether some namespace is in both lists; an empty one is all.
func overlap(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(ns string) bool { return slices.Contains(b, ns) })
}

// covers tells whether every namespace of the second list is in the first.
func covers(a, b []string) bool {
	if len(a) == 0 {
		return true
	}
	return len(b) > 0 && !slices.ContainsFunc(b, func(ns string) bool { return !slices.Contains(a, ns) })
}
