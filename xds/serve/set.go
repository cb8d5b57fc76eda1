package serve

import (
	"iter"
	"maps"
	"reflect"
	"slices"
)

// Set is resources by name. It is never changed: With makes another one, which shares
// with it what is the same. So a change of one resource of ten thousand costs neither a
// copy of all, nor a look at each to find what is different. The zero Set is empty. It is
// safe for concurrent use.
type Set struct {
	base map[string]*Resource // shared by Sets that came of one another; never written
	over map[string]*Resource // what is otherwise than in base; nil: there is none. Never written
	size int
}

// NewSet makes a Set of resources by name, which must not be changed from now on.
func NewSet(all map[string]*Resource) Set { return Set{base: all, size: len(all)} }

// Len is the number of resources.
func (s Set) Len() int { return s.size }

// Get returns the resource of a name, nil when there is none.
func (s Set) Get(name string) *Resource {
	if r, ok := s.over[name]; ok {
		return r
	}
	return s.base[name]
}

// All are the resources by their names, in no order.
func (s Set) All() iter.Seq2[string, *Resource] {
	return func(yield func(string, *Resource) bool) {
		for name, r := range s.base {
			if _, otherwise := s.over[name]; !otherwise && !yield(name, r) {
				return
			}
		}
		for name, r := range s.over {
			if r != nil && !yield(name, r) {
				return
			}
		}
	}
}

// Map is a copy of the Set as a map.
func (s Set) Map() map[string]*Resource {
	out := make(map[string]*Resource, s.size)
	maps.Insert(out, s.All())
	return out
}

const (
	// mostOver is how much may be otherwise than in the base before there is a new one:
	// one in overShare, and leastOver in any case. Each change copies what is otherwise.
	overShare = 32
	leastOver = 16
)

// With is the Set with some resources changed: those that are nil are gone.
func (s Set) With(changed map[string]*Resource) Set {
	if len(changed) == 0 {
		return s
	}

	next := Set{base: s.base, over: make(map[string]*Resource, len(s.over)+len(changed)), size: s.size}
	maps.Copy(next.over, s.over)
	for name, r := range changed {
		was := s.Get(name)
		switch {
		case was == nil && r != nil:
			next.size++
		case was != nil && r == nil:
			next.size--
		}
		next.over[name] = r
	}
	if len(next.over) > max(leastOver, len(s.base)/overShare) {
		return NewSet(next.Map())
	}
	return next
}

// since is the difference to another Set: which resources that one has not or not in this
// version, and the names of those that only that one has. Both are sorted by name. Of
// Sets that came of one another it looks at little more than what is different; of others,
// at each resource once.
func (s Set) since(old Set) (changed []*Resource, removed []string) {
	look := func(name string) {
		now, was := s.Get(name), old.Get(name)
		switch {
		case now == was:
		case now == nil:
			removed = append(removed, name)
		case was == nil || was.Version != now.Version:
			changed = append(changed, now)
		}
	}

	if same(s.base, old.base) {
		if same(s.over, old.over) {
			return nil, nil // a View that has nothing new gives the Set that it gave before
		}
		for name := range s.over {
			look(name)
		}
		for name := range old.over {
			if _, done := s.over[name]; !done {
				look(name)
			}
		}
	} else {
		for name := range s.All() {
			look(name)
		}
		for name := range old.All() {
			if s.Get(name) == nil {
				removed = append(removed, name)
			}
		}
	}
	sortByName(changed)
	slices.Sort(removed)
	return changed, removed
}

// same tells whether two maps are one and the same.
func same(a, b map[string]*Resource) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// names are those of the resources, in no order.
func (s Set) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range s.All() {
			if !yield(name) {
				return
			}
		}
	}
}
