package routes

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// With returns a table in which virtual hosts that come by themselves have the place
// of those of their names, and the removed are gone. It costs as much as is changed.
//
// One that has a domain of another is refused, with the reason by its name. Its former
// version stays, but for domains that others have now.
func (t *Table) With(changed []*config.VirtualHost, removed []string) (*Table, map[string]error) {
	domains := 0
	for _, v := range changed {
		domains += len(v.Domains)
	}
	e := t.edit(domains, len(changed))

	// First all give up what they have: domains move from one to another.
	for _, name := range removed {
		e.leave(name)
	}
	former := make([]*virtualHost, len(changed))
	for i, v := range changed {
		former[i] = e.leave(v.Name)
	}

	refused := map[string]error{}
	var stay []*virtualHost
	for i, v := range changed {
		err := e.join(v)
		if err == nil {
			continue
		}
		refused[v.Name] = err
		if former[i] != nil {
			stay = append(stay, former[i])
		}
	}
	for _, host := range stay {
		e.joinWhereFree(host)
	}
	return e.done(), refused
}

// edit is a table that is being made.
type edit struct {
	table                     *Table
	domains, addresses, apart *indexEdit[*virtualHost]
	// wildcards tells that the lists of those are this table's own, to be put right
	// when all is done: they would be gone through for each of thousands.
	wildcards bool
}

// edit begins another table, with room for so many more domains and virtual hosts.
func (t *Table) edit(domains, hosts int) *edit {
	out := *t
	e := &edit{table: &out, domains: t.domains.edit(domains), apart: t.apart.edit(hosts)}
	if t.source.ByDestination {
		// One domain of four is an address, about.
		e.addresses = t.addresses.edit(domains / 4)
	}
	return e
}

func (e *edit) done() *Table {
	t := e.table
	t.domains, t.apart = e.domains.index, e.apart.index
	if e.addresses != nil {
		t.addresses = e.addresses.index
	}
	if e.wildcards {
		t.suffixes = inForce(t.suffixes, func(w wildcard) bool { return t.domains.get("*"+w.part) == w.host })
		t.prefixes = inForce(t.prefixes, func(w wildcard) bool { return t.domains.get(w.part+"*") == w.host })
	}
	return t
}

// inForce sorts the wildcards that hold, the longest first.
func inForce(list []wildcard, holds func(wildcard) bool) []wildcard {
	list = slices.DeleteFunc(list, func(w wildcard) bool { return !holds(w) })
	slices.SortFunc(list, func(a, b wildcard) int {
		return cmp.Or(cmp.Compare(len(b.part), len(a.part)), cmp.Compare(a.part, b.part))
	})
	// One that went and came again is there twice.
	return slices.Compact(list)
}

func (e *edit) host(v *config.VirtualHost) *virtualHost {
	return &virtualHost{config: v, source: e.table.source, clusters: e.table.clusters}
}

// join takes in a virtual host that came by itself, unless it has a domain of
// another.
func (e *edit) join(v *config.VirtualHost) error {
	for i, d := range v.Domains {
		if other := e.domains.get(d); other != nil {
			return &config.Error{
				Kind: "virtual host", Name: v.Name, Field: fmt.Sprintf("domains[%d]", i),
				Msg: fmt.Sprintf("%q is a domain of virtual host %q too", d, other.config.Name),
			}
		}
	}
	e.joinWhereFree(e.host(v))
	return nil
}

// joinWhereFree takes one in under those of its domains that nobody has.
func (e *edit) joinWhereFree(host *virtualHost) {
	e.apart.set(host.config.Name, host)
	for _, d := range host.config.Domains {
		if e.domains.get(d) == nil {
			e.claim(d, host)
		}
	}
}

// leave takes one out, and returns it; nil when there is none.
func (e *edit) leave(name string) *virtualHost {
	host := e.apart.get(name)
	if host == nil {
		return nil
	}
	e.apart.remove(name)
	for _, d := range host.config.Domains {
		// Not that of another, when this one has stayed without it.
		if e.domains.get(d) == host {
			e.release(d, host)
		}
	}
	return host
}

// claim gives a virtual host a domain.
func (e *edit) claim(domain string, host *virtualHost) {
	e.domains.set(domain, host)
	switch {
	case domain == "*":
		e.table.any = host
	case strings.HasPrefix(domain, "*"):
		e.ownWildcards()
		e.table.suffixes = append(e.table.suffixes, wildcard{domain[1:], host})
	case strings.HasSuffix(domain, "*"):
		e.ownWildcards()
		e.table.prefixes = append(e.table.prefixes, wildcard{domain[:len(domain)-1], host})
	case e.addresses != nil:
		if key, ok := addressOf(domain); ok {
			e.addresses.set(key, host)
		}
	}
}

// release takes a domain from a virtual host.
func (e *edit) release(domain string, host *virtualHost) {
	e.domains.remove(domain)
	switch {
	case domain == "*":
		e.table.any = nil
	case strings.HasPrefix(domain, "*"), strings.HasSuffix(domain, "*"):
		e.ownWildcards()
	case e.addresses != nil:
		if key, ok := addressOf(domain); ok && e.addresses.get(key) == host {
			e.addresses.remove(key)
		}
	}
}

// ownWildcards copies the lists before they are written for the first time.
func (e *edit) ownWildcards() {
	if !e.wildcards {
		e.wildcards = true
		e.table.suffixes, e.table.prefixes = slices.Clone(e.table.suffixes), slices.Clone(e.table.prefixes)
	}
}

// addressOf is the key of a domain that is an address.
func addressOf(domain string) (key string, ok bool) {
	a, err := netip.ParseAddr(strings.Trim(domain, "[]"))
	if err != nil {
		return "", false
	}
	return addressKey(a), true
}

// addressKey is an address as a name of an index: an IPv4 address is the same as that
// which is mapped into IPv6.
func addressKey(a netip.Addr) string {
	bytes := a.As16()
	return string(bytes[:])
}
