package routes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// answering is a virtual host whose one route bears its name.
func answering(name string, domains ...string) *config.VirtualHost {
	return &config.VirtualHost{Name: name, Domains: domains, Routes: []*config.Route{direct(name, config.RouteMatch{Prefix: "/"})}}
}

func clusters(t testing.TB) *upstream.Set {
	set := upstream.NewSet(upstream.Options{})
	t.Cleanup(set.Close)
	return set
}

// TestChangesAgainstWhole changes tables at random, and compares each with one that is
// compiled anew: which host every domain and address leads to. Those before do not
// change.
func TestChangesAgainstWhole(t *testing.T) {
	set := clusters(t)
	base := &config.RouteConfig{Name: "80", ByDestination: true, VirtualHosts: []*config.VirtualHost{answering("any", "*"), answering("own", "own", "*.own")}}
	choice := []string{"a", "b", "c.b", "*.b", "*.c.b", "a.*", "*", "own", "10.0.0.1", "[::1]", "::ffff:10.0.0.2"}
	asked := []string{"a", "b", "c.b", "x.b", "x.c.b", "a.x", "own", "x.own", "10.0.0.1", "[::1]", "zzz"}
	found := func(table *Table) map[string]string {
		out := map[string]string{}
		for _, host := range asked {
			for _, at := range []string{"", "10.0.0.1", "::1", "10.0.0.2"} {
				q := &Target{Authority: host, Path: "/"}
				if at != "" {
					q.Destination = netip.MustParseAddr(at)
				}
				if r := table.Find(q); r != nil {
					out[host+" at "+at] = r.Name
				}
			}
		}
		return out
	}

	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		table, have := Compile(base, set), map[string]*config.VirtualHost{}
		for step := range 20 {
			before, beforeFound := table, found(table)
			var changed []*config.VirtualHost
			var removed []string
			for i := range r.IntN(4) {
				name := fmt.Sprint("80/", (step+i)%6)
				if r.IntN(3) == 0 {
					removed = append(removed, name)
					delete(have, name)
					continue
				}
				domains := slices.Compact(slices.Sorted(slices.Values([]string{choice[r.IntN(len(choice))], choice[r.IntN(len(choice))]})))
				changed = append(changed, answering(name, domains...))
			}
			var refused map[string]error
			table, refused = table.With(changed, removed)

			// What stays of those that were refused is not compared: it is told apart by
			// the tests of package proxy.
			for name := range refused {
				removed = append(removed, name)
				delete(have, name)
			}
			table, _ = table.With(nil, removed)
			for _, v := range changed {
				if refused[v.Name] == nil {
					have[v.Name] = v
				}
			}

			whole := *base
			for _, name := range slices.Sorted(maps.Keys(have)) {
				whole.VirtualHosts = append(whole.VirtualHosts, have[name])
			}
			if got, want := found(table), found(Compile(&whole, set)); !maps.Equal(got, want) {
				t.Fatalf("seed %d, step %d: leads to %v, want %v", seed, step, got, want)
			}
			if !maps.Equal(found(before), beforeFound) {
				t.Fatalf("seed %d, step %d: the table before has changed", seed, step)
			}
			if n := len(table.Apart()); n != len(have) {
				t.Fatalf("seed %d, step %d: %d virtual hosts, want %d", seed, step, n, len(have))
			}
		}
	}
}

// TestFirstRequestsTogether: of requests that are the first to a host at the same time,
// all have the same route.
func TestFirstRequestsTogether(t *testing.T) {
	set := clusters(t)
	for range 50 {
		table, _ := Compile(&config.RouteConfig{Name: "80"}, set).With(many(1), nil)
		found := make([]*Route, 8)
		var requests sync.WaitGroup
		for i := range found {
			requests.Go(func() {
				found[i] = table.Find(&Target{Authority: "svc-0.ns0", Path: "/"})
			})
		}
		requests.Wait()
		for _, r := range found {
			if r == nil || r != found[0] {
				t.Fatalf("routes %p and %p", r, found[0])
			}
		}
	}
}

// TestIndex edits indexes at random, and compares them with maps, over several sizes.
func TestIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var x index[int]
	want := map[string]int{}
	for range 300 {
		before, had := x, maps.Clone(want)
		n := r.IntN(40)
		e := x.edit(r.IntN(n + 1))
		for range n {
			name := fmt.Sprint(r.IntN(2000))
			if r.IntN(4) == 0 {
				e.remove(name)
				delete(want, name)
			} else {
				e.set(name, n)
				want[name] = n
			}
		}
		x = e.index
		for what, pair := range map[string]struct {
			got  index[int]
			want map[string]int
		}{"the index": {x, want}, "the one before": {before, had}} {
			if got := maps.Collect(pair.got.all); !maps.Equal(got, pair.want) || pair.got.n != len(pair.want) {
				t.Fatalf("%s has %d names, and says %d; want %d", what, len(got), pair.got.n, len(pair.want))
			}
			for name, v := range pair.want {
				if pair.got.get(name) != v {
					t.Fatalf("%s: %s is %d, want %d", what, name, pair.got.get(name), v)
				}
			}
		}
	}
	if len(x.shards) < 8 {
		t.Errorf("%d names in %d shards: the test shows nothing", x.n, len(x.shards))
	}
}

// many are virtual hosts with the names that clients of another namespace use.
func many(n int) []*config.VirtualHost {
	out := make([]*config.VirtualHost, n)
	for i := range out {
		full := fmt.Sprintf("svc-%d.ns%d", i, i%10)
		out[i] = answering("80/"+full, full+".svc.cluster.local", full+".svc", full, fmt.Sprintf("10.%d.%d.%d", i/62500, i/250%250, i%250))
	}
	return out
}

// BenchmarkChange replaces one of ten thousand virtual hosts, and, to compare with,
// all of them.
func BenchmarkChange(b *testing.B) {
	hosts, base := many(10_000), &config.RouteConfig{Name: "80", ByDestination: true}
	set := clusters(b)
	b.Run("one", func(b *testing.B) {
		table, _ := Compile(base, set).With(hosts, nil)
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			table, _ = table.With(hosts[i%len(hosts):i%len(hosts)+1], nil)
		}
	})
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			Compile(base, set).With(hosts, nil)
		}
	})
}

// BenchmarkFind finds the route of a request among ten thousand hosts, and among one.
func BenchmarkFind(b *testing.B) {
	set := clusters(b)
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			hosts := many(n)
			table, _ := Compile(&config.RouteConfig{Name: "80", IgnorePortInHost: true}, set).With(hosts, nil)
			q := &Target{Path: "/"}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				q.Authority = hosts[i%n].Domains[0]
				if table.Find(q) == nil {
					b.Fatal("no route")
				}
			}
		})
	}
}
