package serve

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
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
		set, want := newNames(h, nil), map[string]bool{}
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
			fresh := newNames(h, names)
			if !slices.Equal(set.sorted, fresh.sorted) || set.key != fresh.key {
				t.Fatalf("after +%v -%v: got %v, want %v; keys equal: %v", add, remove, set.sorted, fresh.sorted, set.key == fresh.key)
			}
		}
	}
	all := allNames()
	if c := all.plan(h, []string{"a"}, []string{"b"}); !all.has("x") || c.key != all.key {
		t.Error("the set of everything changes")
	}
}

func TestParseNodeID(t *testing.T) {
	for _, good := range []string{
		"sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local",
		"router~fd00::1~gw.istio-system~istio-system.svc.example.org",
		"sidecar~10.0.0.1~web.with.dots.shop~shop.svc.cluster.local",
	} {
		n, err := ParseNodeID(good)
		if err != nil || n.String() != good {
			t.Errorf("ParseNodeID(%q) = %+v, %v", good, n, err)
		}
	}
	for _, bad := range []string{
		"", "~~~", "ztunnel~10.0.0.1~a.b~b.svc.c", "sidecar~x~a.b~b.svc.c", "sidecar~10.0.0.1~a~a.svc.c",
		"sidecar~10.0.0.1~a.b~c.svc.d", "sidecar~10.0.0.1~a.b~b.svc.", "sidecar~10.0.0.1~.b~b.svc.c",
		"sidecar~10.0.0.1~a.~.svc.c", "sidecar~fe80::1%eth0~a.b~b.svc.c", "sidecar~10.0.0.1~a.b~b.svc.c~x",
	} {
		if n, err := ParseNodeID(bad); err == nil {
			t.Errorf("ParseNodeID(%q) = %+v", bad, n)
		}
	}
}

func FuzzParseNodeID(f *testing.F) {
	f.Add("sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNodeID(s)
		if err == nil && (n.Namespace == "" || n.Pod == "" || !n.IP.IsValid() || strings.Contains(n.Namespace, "~")) {
			t.Errorf("accepted %q as %+v", s, n)
		}
	})
}
