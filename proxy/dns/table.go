package dns

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/xds/nds"
)

// registryKubernetes is the registry of names that answer in short forms too.
const registryKubernetes = "Kubernetes"

// Home is where the names of a pod begin: what is added to short ones.
type Home struct {
	// Namespace is the pod's.
	Namespace string
	// Domain is the cluster's, for example cluster.local.
	Domain string
	// Search is the first domain of the pod's search path, which its resolver
	// adds to names before it asks for them as they are; empty for none.
	Search string
}

// Table is which names have which addresses. It is immutable.
type Table struct {
	// names and wildcards are in lower case without a trailing dot; of a
	// wildcard it is what follows "*.".
	names     map[string]*record
	wildcards map[string]*record
	// shortOf are the suffixes, with a leading dot, that make a full name out of
	// the short forms of a Kubernetes one: NAME, NAME.NAMESPACE,
	// NAME.NAMESPACE.svc.
	shortOf [3]string
	// search is the domain of the search path with a leading dot, or empty.
	search string
}

// record is what a name has.
type record struct {
	v4, v6     []netip.Addr
	kubernetes bool
}

// NewTable checks a table of names and makes it ready to be asked.
func NewTable(in *nds.NameTable, home Home) (*Table, error) {
	domain := strings.ToLower(strings.Trim(home.Domain, "."))
	t := &Table{
		names: make(map[string]*record, len(in.GetTable())), wildcards: map[string]*record{},
		shortOf: [3]string{"." + strings.ToLower(home.Namespace) + ".svc." + domain, ".svc." + domain, "." + domain},
	}
	if search := strings.ToLower(strings.Trim(home.Search, ".")); search != "" {
		t.search = "." + search
	}

	// In order, so that of two spellings of one name the same one counts each
	// time.
	for _, name := range slices.Sorted(maps.Keys(in.GetTable())) {
		if err := t.add(name, in.GetTable()[name]); err != nil {
			return nil, fmt.Errorf("name %q: %w", name, err)
		}
	}
	return t, nil
}

func (t *Table) add(name string, info *nds.NameTable_NameInfo) error {
	key := strings.ToLower(strings.TrimSuffix(name, "."))
	into := t.names
	if rest, ok := strings.CutPrefix(key, "*."); ok {
		key, into = rest, t.wildcards
	}
	if err := checkName(key); err != nil {
		return err
	}

	rec := &record{kubernetes: info.GetRegistry() == registryKubernetes}
	for _, text := range info.GetIps() {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" {
			return fmt.Errorf("%q is not an address", text)
		}
		if ip = ip.Unmap(); ip.Is4() {
			rec.v4 = append(rec.v4, ip)
		} else {
			rec.v6 = append(rec.v6, ip)
		}
	}

	// A name without an address is not known here: its resolver may know it.
	if into[key] == nil && len(rec.v4)+len(rec.v6) > 0 {
		into[key] = rec
	}
	return nil
}

// checkName wants a name that fits into a question (RFC 1035, section 2.3.4), and
// no wildcard but a leading one, which is taken off before.
func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("it is longer than %d characters", maxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return fmt.Errorf("it has an empty label")
		case len(label) > maxLabel:
			return fmt.Errorf("label %q is longer than %d characters", label, maxLabel)
		case strings.Contains(label, "*"):
			return fmt.Errorf("only the first label may be *")
		}
	}
	return nil
}

// Len is the number of names.
func (t *Table) Len() int { return len(t.names) + len(t.wildcards) }

// lookup finds a name in lower case without a trailing dot. When the name is that
// of a record with the search path behind it, target is the record's own; else it
// is nil.
//
// Resolvers try the search path first: for httpbin.bar.global they ask for
// httpbin.bar.global.foo.svc.cluster.local. To answer that at once saves up to
// three questions, and a wildcard at the resolver, or in the table, for the search
// domain does not hide the name that is meant.
func (t *Table) lookup(name []byte) (rec *record, target []byte) {
	if rec := t.exact(name); rec != nil {
		return rec, nil
	}
	if rest, ok := bytes.CutSuffix(name, []byte(t.search)); ok && t.search != "" && len(rest) > 0 {
		if rec := t.exact(rest); rec != nil {
			return rec, rest
		}
		if rec := t.wildcard(rest); rec != nil {
			return rec, rest
		}
	}
	return t.wildcard(name), nil
}

// exact finds a name, or the short form of one.
func (t *Table) exact(name []byte) *record {
	if rec := t.names[string(name)]; rec != nil {
		return rec
	}

	var space [maxName * 2]byte
	for _, suffix := range t.shortOf {
		if len(name)+len(suffix) > maxName {
			continue
		}
		full := append(append(space[:0], name...), suffix...)
		if rec := t.names[string(full)]; rec != nil && rec.kubernetes {
			return rec
		}
	}
	return nil
}

// wildcard finds the nearest wildcard above a name. It stands for any number of
// labels (RFC 4592, section 2.1.1), as in the hosts of a route.
func (t *Table) wildcard(name []byte) *record {
	if len(t.wildcards) == 0 {
		return nil
	}
	for {
		dot := bytes.IndexByte(name, '.')
		if dot < 0 {
			return nil
		}
		name = name[dot+1:]
		if rec := t.wildcards[string(name)]; rec != nil {
			return rec
		}
	}
}

// Names lists the table as it would be read: names with their addresses, sorted by
// name.
func (t *Table) Names() []Name {
	out := make([]Name, 0, t.Len())
	for name, rec := range t.names {
		out = append(out, Name{Name: name, Addresses: slices.Concat(rec.v4, rec.v6), Short: rec.kubernetes})
	}
	for name, rec := range t.wildcards {
		out = append(out, Name{Name: "*." + name, Addresses: slices.Concat(rec.v4, rec.v6)})
	}
	slices.SortFunc(out, func(a, b Name) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Name is one name of a table, for people.
type Name struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	// Short tells that the short forms are answered too.
	Short bool `json:"short,omitempty"`
}
