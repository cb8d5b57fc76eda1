package serve

import (
	"hash/maphash"
	"slices"

	"github.com/isthmus-mesh/isthmus/xds"
)

// nameSet is what a stream subscribes to of one type: some names, or all. It is
// never written once made.
type nameSet struct {
	typeURL string
	key     nameKey
	sorted  []string // nil for all
}

// nameKey tells sets apart. sum is the sum of two independent 64-bit hashes of
// each name under seeds drawn per process: it can be kept up when a name comes
// or goes, so that streams that take the same names find their common feed
// without building the set.
type nameKey struct {
	all   bool
	n     int
	bytes int // the length of all names together
	sums  [2]uint64
}

// hasher holds the seeds.
type hasher [2]maphash.Seed

func newHasher() hasher { return hasher{maphash.MakeSeed(), maphash.MakeSeed()} }

func (k nameKey) with(h hasher, name string) nameKey {
	k.n++
	k.bytes += len(name)
	for i := range k.sums {
		k.sums[i] += maphash.String(h[i], name)
	}
	return k
}

func (k nameKey) without(h hasher, name string) nameKey {
	k.n--
	k.bytes -= len(name)
	for i := range k.sums {
		k.sums[i] -= maphash.String(h[i], name)
	}
	return k
}

// allNames is the set of everything of a type.
func allNames(typeURL string) *nameSet { return &nameSet{typeURL: typeURL, key: nameKey{all: true}} }

// keyless makes a set of names, without duplicates, that is not compared.
func keyless(typeURL string, names []string) *nameSet {
	return &nameSet{typeURL: typeURL, sorted: slices.Compact(slices.Sorted(slices.Values(names)))}
}

// newNames makes a set of names, without duplicates.
func newNames(h hasher, typeURL string, names []string) *nameSet {
	s := keyless(typeURL, names)
	if s.sorted == nil {
		s.sorted = []string{}
	}
	for _, n := range s.sorted {
		s.key = s.key.with(h, n)
	}
	return s
}

// has tells whether the set covers a resource.
func (s *nameSet) has(name string) bool {
	return s.key.all || s.lists(xds.SubscribedAs(s.typeURL, name))
}

// lists tells whether the name is one of the set.
func (s *nameSet) lists(name string) bool {
	_, ok := slices.BinarySearch(s.sorted, name)
	return ok
}

// without lists the names of the set for which there is no resource.
func (s *nameSet) without(res Set) []string {
	if s.typeURL != xds.TypeVirtualHost {
		return slices.DeleteFunc(slices.Clone(s.sorted), func(name string) bool { return res.Get(name) != nil })
	}

	found := make(map[string]bool, len(s.sorted))
	for name := range res.All() {
		found[xds.SubscribedAs(s.typeURL, name)] = true
	}
	return slices.DeleteFunc(slices.Clone(s.sorted), func(name string) bool { return found[name] })
}

// change is a set of names with others added and removed, known by its key
// before it is built.
type change struct {
	base     *nameSet
	key      nameKey
	add      []string // not in base, no duplicates
	remove   []string // in base, no duplicates
	existing []string // asked for again
}

// plan works out the change from adding and removing names. A name in both
// stays, as the xDS protocol has it: unsubscribe first, then subscribe.
func (s *nameSet) plan(h hasher, add, remove []string) change {
	c := change{base: s, key: s.key}
	if s.key.all {
		return c
	}

	added := make(map[string]bool, len(add))
	for _, n := range add {
		if added[n] {
			continue
		}
		added[n] = true
		if s.lists(n) {
			c.existing = append(c.existing, n)
			continue
		}
		c.add = append(c.add, n)
		c.key = c.key.with(h, n)
	}

	removed := make(map[string]bool, len(remove))
	for _, n := range remove {
		if added[n] || removed[n] || !s.lists(n) {
			continue
		}
		removed[n] = true
		c.remove = append(c.remove, n)
		c.key = c.key.without(h, n)
	}
	return c
}

// build makes the changed set.
func (c change) build() *nameSet {
	if len(c.add)+len(c.remove) == 0 {
		return c.base
	}
	drop := make(map[string]bool, len(c.remove))
	for _, n := range c.remove {
		drop[n] = true
	}
	out := make([]string, 0, c.key.n)
	for _, n := range c.base.sorted {
		if !drop[n] {
			out = append(out, n)
		}
	}
	out = append(out, c.add...)
	slices.Sort(out)
	return &nameSet{typeURL: c.base.typeURL, key: c.key, sorted: out}
}
