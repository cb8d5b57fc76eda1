package serve

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/xds"
)

// TestStep compares the quick difference of neighbours with the general one.
func TestStep(t *testing.T) {
	res := func(versions ...string) map[string]*Resource {
		m := map[string]*Resource{}
		for i, v := range versions {
			if v != "" {
				name := string(rune('a' + i))
				m[name] = &Resource{Name: name, Version: v}
			}
		}
		return m
	}
	for _, c := range []struct{ old, now []string }{
		{[]string{"1", "1", "1"}, []string{"1", "2", "1"}},
		{[]string{"1", "1", "1"}, []string{"1", "", "1"}},
		{[]string{"1", "", "1"}, []string{"1", "1", "1"}},
		{[]string{"1", "1", ""}, []string{"", "2", "3"}},
		{[]string{"1", "1"}, []string{"1", "1"}},
		{nil, []string{"1"}},
		{[]string{"1"}, nil},
	} {
		for _, names := range []*nameSet{allNames(xds.TypeCluster), newNames(newHasher(), xds.TypeCluster, []string{"a", "b", "c", "d"})} {
			old := &snapshot{id: 1, names: names, res: NewSet(res(c.old...))}
			now := &snapshot{id: 2, names: names, res: NewSet(res(c.now...))}
			changed, removed := now.res.since(old.res)
			wantChanged, wantRemoved := now.compare(func(name string) (string, bool) {
				if r := old.res.Get(name); r != nil {
					return r.Version, true
				}
				return "", old.names.has(name)
			}, old.res.names())
			if !slices.Equal(changed, wantChanged) || !slices.Equal(removed, wantRemoved) {
				t.Errorf("%v to %v: changed %v, removed %v; want %v, %v", c.old, c.now, changed, removed, wantChanged, wantRemoved)
			}
		}
	}
}
