package serve

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/xds"
)

// TestNameSetsAgainstMaps changes sets at random, and compares them with maps:
// the contents, and that the key is that of a set made anew.
func TestNameSetsAgainstMaps(t *testing.T) {
	h := newHasher()
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func() []string {
		out := make([]string, rng.IntN(4))
		for i := range out {
			out[i] = fmt.Sprint("n", rng.IntN(12))
		}
		return out
	}
	for range 200 {
		set, want := newNames(h, xds.TypeEndpoint, nil), map[string]bool{}
		for range 20 {
			add, remove := pick(), pick()
			c := set.plan(h, add, remove)
			for _, n := range c.existing {
				if !want[n] {
					t.Fatalf("%s counts as asked for again", n)
				}
			}
			for _, n := range remove {
				delete(want, n)
			}
			for _, n := range add {
				want[n] = true
			}
			set = c.build()
			var names []string
			for n := range want {
				names = append(names, n)
			}
			fresh := newNames(h, xds.TypeEndpoint, names)
			if !slices.Equal(set.sorted, fresh.sorted) || set.key != fresh.key {
				t.Fatalf("after +%v -%v: got %v, want %v; keys equal: %v", add, remove, set.sorted, fresh.sorted, set.key == fresh.key)
			}
		}
	}
	all := allNames(xds.TypeEndpoint)
	if c := all.plan(h, []string{"a"}, []string{"b"}); !all.has("x") || c.key != all.key {
		t.Error("the set of everything changes")
	}
}
