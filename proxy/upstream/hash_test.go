package upstream

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// hashing makes a cluster whose endpoints are found by hash.
func hashing(lb config.LBPolicy, ls ...config.LocalityEndpoints) *config.Cluster {
	return &config.Cluster{
		Name: "c", Type: config.ClusterStatic, LB: lb, Endpoints: eds("c", ls...),
		Balance: config.Balance{Hash: config.HashTable{MinRing: 1024, MaxRing: 8 << 20, Maglev: 65537}},
	}
}

// policies are the two tables.
var policies = map[string]config.LBPolicy{"ring": config.LBRingHash, "maglev": config.LBMaglev}

// endpointsUpTo are 10.0.0.1 to 10.0.0.n.
func endpointsUpTo(n byte) []config.Endpoint {
	var out []config.Endpoint
	for i := byte(1); i <= n; i++ {
		out = append(out, at(i))
	}
	return out
}

// placed picks an endpoint for each of n hashes.
func placed(t *testing.T, c *Cluster, n int) map[uint64]*Endpoint {
	t.Helper()
	out := make(map[uint64]*Endpoint, n)
	for i := range n {
		hash := xxhash.Sum64String(fmt.Sprint("user-", i))
		e, err := c.Pick(Hint{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		out[hash] = e
	}
	return out
}

// TestSameHashSameEndpoint: requests that hash alike meet at one endpoint, others are
// spread by weight, and those without a hash go anywhere.
func TestSameHashSameEndpoint(t *testing.T) {
	for name, lb := range policies {
		t.Run(name, func(t *testing.T) {
			heavy := at(3)
			heavy.Weight = 2
			c := apply(t, newTestSet(t, Options{}), hashing(lb, locality(0, at(1), at(2), heavy)))

			const n = 4000
			first, got := placed(t, c, n), map[byte]int{}
			for hash, e := range first {
				if again, _ := c.Pick(Hint{Hash: hash}); again != e {
					t.Fatalf("hash %d goes to %v, and then to %v", hash, e.Addr(), again.Addr())
				}
				got[e.Addr().Addr().As4()[3]]++
			}
			if !near(got, map[byte]int{1: n / 4, 2: n / 4, 3: n / 2}, n) {
				t.Errorf("hashes are shared out as %v, want 1:1:2", got)
			}
			if got := picks(t, c, n); !near(got, map[byte]int{1: n / 4, 2: n / 4, 3: n / 2}, n) {
				t.Errorf("requests without a hash are shared out as %v, want 1:1:2", got)
			}
		})
	}
}

// TestFewHashesMove: an endpoint that comes takes hashes for itself alone, one that goes
// leaves the others theirs, in whatever order they are listed.
func TestFewHashesMove(t *testing.T) {
	for name, lb := range policies {
		t.Run(name, func(t *testing.T) {
			set := newTestSet(t, Options{})
			c := apply(t, set, hashing(lb, locality(0, endpointsUpTo(10)...)))
			const n = 3000
			before := placed(t, c, n)

			shuffled := endpointsUpTo(11)
			rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			apply(t, set, hashing(lb, locality(0, shuffled...)))
			taken, astray := 0, 0
			for hash, e := range placed(t, c, n) {
				switch {
				case e == before[hash]:
				case e.Addr().Addr() == at(11).Addr:
					taken++
				default:
					astray++
				}
			}
			if taken < n/11/2 || taken > 2*n/11 {
				t.Errorf("the new endpoint has %d of %d hashes, want about an eleventh", taken, n)
			}
			// A ring of as many places has fewer of each, and of Maglev's table, which is
			// built anew, a few change.
			if astray > n/10 {
				t.Errorf("%d of %d hashes moved between endpoints that stayed, want a tenth at most", astray, n)
			}

			apply(t, set, hashing(lb, locality(0, endpointsUpTo(10)...)))
			for hash, e := range placed(t, c, n) {
				if e != before[hash] {
					t.Fatalf("hash %d is at %v and not where it was, %v", hash, e.Addr(), before[hash].Addr())
				}
			}
		})
	}
}

// TestHashesOfTheEjected: while an endpoint is left out, its hashes go to others, each
// always to the same one; no other hash moves, the table is not built again, and it has
// its own again when it is back.
func TestHashesOfTheEjected(t *testing.T) {
	for name, lb := range policies {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, hashing(lb), locality(0, endpointsUpTo(8)...))
			const n = 2000
			before, table := placed(t, m.Cluster, n), m.table.Load().levels[0].hash
			out := m.endpoint(3)
			report(out, OutcomeGatewayError, 6)
			if !out.Ejected() {
				t.Fatal("the endpoint that fails is not left out")
			}

			while, to := placed(t, m.Cluster, n), map[*Endpoint]int{}
			for hash, e := range while {
				switch was := before[hash]; {
				case was == out:
					to[e]++
				case e != was:
					t.Fatalf("hash %d of a healthy endpoint moved", hash)
				}
			}
			if len(to) < 4 || to[out] > 0 {
				t.Errorf("the hashes of the one that is left out went to %d endpoints, want several, without it", len(to))
			}
			if m.table.Load().levels[0].hash != table {
				t.Error("the table was built again")
			}

			m.readmit(out, out.health.until)
			out.Report(OutcomeOK) // the one request that finds out
			for hash, e := range placed(t, m.Cluster, n) {
				if e != before[hash] {
					t.Fatalf("hash %d is not back at its endpoint", hash)
				}
			}
		})
	}
}

// TestHashRetries: a request that failed goes to the next endpoint of its hash, which is
// the same for all of them, and at last to every one.
func TestHashRetries(t *testing.T) {
	for name, lb := range policies {
		t.Run(name, func(t *testing.T) {
			c := apply(t, newTestSet(t, Options{}), hashing(lb, locality(0, endpointsUpTo(5)...), locality(1, at(9))))
			order := func() (out []*Endpoint) {
				for {
					e, err := c.Pick(Hint{Hash: 77, Tried: out})
					if err != nil {
						return out
					}
					out = append(out, e)
				}
			}
			first := order()
			if len(first) != 6 || first[5].Addr().Addr() != at(9).Addr {
				t.Fatalf("%d endpoints were tried, want five, and the one of the next priority last", len(first))
			}
			if again := order(); fmt.Sprint(again) != fmt.Sprint(first) {
				t.Error("the same request goes another way the second time")
			}
		})
	}
}

// TestHashDoubt: an endpoint in doubt is passed over, though it is not left out.
func TestHashDoubt(t *testing.T) {
	for name, lb := range policies {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, hashing(lb), locality(0, endpointsUpTo(4)...))
			before := placed(t, m.Cluster, 400)
			m.endpoint(2).doubt(false)
			for hash, e := range placed(t, m.Cluster, 400) {
				if e == m.endpoint(2) || before[hash] != m.endpoint(2) && e != before[hash] {
					t.Fatalf("hash %d goes to %v, and went to %v", hash, e.Addr(), before[hash].Addr())
				}
			}
		})
	}
}

// TestHashProbation: an endpoint that is left out is tried by requests of its own hashes
// alone.
func TestHashProbation(t *testing.T) {
	m := newMesh(t, hashing(config.LBRingHash), locality(0, endpointsUpTo(4)...))
	before := placed(t, m.Cluster, 400)
	out := m.endpoint(3)
	report(out, OutcomeGatewayError, 6)
	tried := false
	for range 20 {
		m.later(firstTry)
		for hash, owner := range before {
			e, err := m.Pick(Hint{Hash: hash, Try: true})
			if err != nil {
				t.Fatal(err)
			}
			tried = tried || e == out
			if e == out && owner != out {
				t.Fatal("a request whose endpoint is well tried another one")
			}
		}
	}
	if !tried {
		t.Error("nobody tried the endpoint that is left out")
	}
}

// TestHashPriorities: of a priority that is well in part, the same hashes stay and the
// same go on to the next.
func TestHashPriorities(t *testing.T) {
	m := newMesh(t, hashing(config.LBRingHash), locality(0, endpointsUpTo(4)...), locality(1, at(8), at(9)))
	for _, n := range []byte{1, 2} {
		report(m.endpoint(n), OutcomeGatewayError, 6)
	}
	const n = 2000
	first, far := placed(t, m.Cluster, n), 0
	for hash, e := range placed(t, m.Cluster, n) {
		if e != first[hash] {
			t.Fatalf("hash %d moves between endpoints while nothing changes", hash)
		}
		if e.priority.Load() == 1 {
			far++
		}
	}
	// Two of four are healthy: 2/4 of 140 % of the load stay.
	if far < n/5 || far > 2*n/5 {
		t.Errorf("%d of %d hashes go on to the next priority, want about 30 %%", far, n)
	}
}

// TestHashLocalityWeights: where localities have weights, each has that part of the
// hashes, however many endpoints it has; without one it has none.
func TestHashLocalityWeights(t *testing.T) {
	cfg := hashing(config.LBRingHash, locality(0, at(1)), locality(0, at(2), at(3), at(4)), locality(0, at(5)))
	cfg.Balance.LocalityWeights = true
	cfg.Balance.Hash.MinRing = 1 << 14
	cfg.Endpoints.Localities[0].Weight, cfg.Endpoints.Localities[1].Weight = 50, 50
	c := apply(t, newTestSet(t, Options{}), cfg)
	got := map[byte]int{}
	for _, e := range placed(t, c, 3000) {
		got[e.Addr().Addr().As4()[3]]++
	}
	if !near(got, map[byte]int{1: 1500, 2: 500, 3: 500, 4: 500}, 3000) {
		t.Errorf("hashes are shared out as %v, want half for the first", got)
	}
}

// TestHashesAreNothingToOthers: a cluster that does not go by hashes heeds none.
func TestHashesAreNothingToOthers(t *testing.T) {
	cfg := hashing(config.LBRoundRobin, locality(0, at(1), at(2)))
	c := apply(t, newTestSet(t, Options{}), cfg)
	seen := map[*Endpoint]bool{}
	for range 4 {
		e, err := c.Pick(Hint{Hash: 5})
		if err != nil {
			t.Fatal(err)
		}
		seen[e] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d endpoints were picked, want both in turn", len(seen))
	}
}

func BenchmarkPickByHash(b *testing.B) {
	for name, lb := range policies {
		b.Run(name, func(b *testing.B) {
			c := apply(b, newTestSet(b, Options{}), hashing(lb, locality(0, endpointsUpTo(100)...)))
			hash := uint64(1)
			b.ReportAllocs()
			for b.Loop() {
				hash = hash*0x9e3779b97f4a7c15 + 1
				if _, err := c.Pick(Hint{Hash: hash}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
