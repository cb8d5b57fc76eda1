package upstream

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Consistent hashing gives each hash a place in a table, and each place an endpoint, so
// that requests that hash alike meet at one endpoint. The table is made of all endpoints
// of a priority, whether they are well or not: one that fails for a while costs nobody
// else his endpoint, and has its own hashes again when it is back. Both tables are laid
// out as Envoy lays them out
// (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers),
// so that proxies of either kind agree.

// maxWalk is how many places are passed over one by one, in search of an endpoint that
// takes a request, before its priority is gone through from end to end.
const maxWalk = 64

// hashTable is the endpoints of a priority by hash. It is immutable.
type hashTable struct {
	shares []hashShare // sorted by key
	kind   config.LBPolicy
	sizes  config.HashTable

	// points are the places of a ring, in order; a Maglev table has none, there a place
	// is the remainder of the hash.
	points []uint64
	owners []uint16 // an index into shares, by place
}

// hashShare is an endpoint and its part of the table.
type hashShare struct {
	e      *Endpoint
	key    string
	weight float64 // of 1
}

// hashLocked gives each level of a new table the means to find endpoints by hash, where
// the cluster asks for that. It builds only what is not as before. The lock is held.
func (c *Cluster) hashLocked(t *table) {
	if !t.hashes() {
		c.hashed = nil
		return
	}
	cfg, before := c.Config(), c.hashed
	c.hashed = map[uint32]*hashTable{}
	for _, m := range c.members {
		if c.hashed[m.priority] != nil {
			continue
		}
		now := &hashTable{kind: cfg.LB, sizes: cfg.Balance.Hash, shares: c.hashShares(m.priority)}
		if old := before[m.priority]; old != nil && old.sameAs(now) {
			now = old
		} else {
			now.build()
		}
		c.hashed[m.priority] = now
	}

	for i := range t.levels {
		l := &t.levels[i]
		in := make(map[*Endpoint]bool, len(l.endpoints))
		for _, e := range l.endpoints {
			in[e] = true
		}
		l.hash = c.hashed[l.priority]
		l.open = make([]bool, len(l.hash.shares))
		for j := range l.hash.shares {
			l.open[j] = in[l.hash.shares[j].e]
		}
	}
}

// hashes tells whether endpoints are found by hash.
func (t *table) hashes() bool { return t.lb == config.LBRingHash || t.lb == config.LBMaglev }

// hashShares are the endpoints of a priority with their shares: by their weights, and
// where those of localities count, by these first.
func (c *Cluster) hashShares(priority uint32) []hashShare {
	var members []member
	for i := range c.members {
		if c.members[i].priority == priority {
			members = append(members, c.members[i])
		}
	}
	members = members[:min(len(members), math.MaxUint16)] // an index is a uint16

	byLocality, sums, total := map[int]float64{}, map[int]float64{}, 0.0
	for _, m := range members {
		if _, known := sums[m.locality]; !known {
			byLocality[m.locality] = float64(c.load.Localities[m.locality].Weight)
			total += byLocality[m.locality]
		}
		sums[m.locality] += float64(m.weight)
	}
	weighted := c.Config().Balance.LocalityWeights && total > 0

	sum := 0.0
	shares := make([]hashShare, 0, len(members))
	for _, m := range members {
		w := float64(m.weight)
		if weighted {
			w *= byLocality[m.locality] / sums[m.locality]
		}
		if w > 0 { // a locality without a weight gets nothing, as in Envoy
			shares = append(shares, hashShare{m.e, m.e.addr.String(), w})
			sum += w
		}
	}
	for i := range shares {
		shares[i].weight /= sum
	}
	slices.SortStableFunc(shares, func(a, b hashShare) int { return cmp.Compare(a.key, b.key) })
	return shares
}

// sameAs tells whether two tables come to the same.
func (h *hashTable) sameAs(o *hashTable) bool {
	return h.kind == o.kind && h.sizes == o.sizes && slices.Equal(h.shares, o.shares)
}

func (h *hashTable) build() {
	switch {
	case len(h.shares) == 0:
	case h.kind == config.LBMaglev:
		h.buildMaglev()
	default:
		h.buildRing()
	}
}

// buildRing gives every endpoint points on the ring in proportion to its share, and the
// least one a whole number of them.
func (h *hashTable) buildRing() {
	least := 1.0
	for i := range h.shares {
		least = min(least, h.shares[i].weight)
	}
	scale := min(math.Ceil(least*float64(h.sizes.MinRing))/least, float64(h.sizes.MaxRing))

	type point struct {
		hash  uint64
		owner uint16
	}
	points := make([]point, 0, int(scale)+1)
	target := 0.0
	for i := range h.shares {
		s := &h.shares[i]
		target += scale * s.weight
		key := append([]byte(s.key), '_')
		for n := 0; float64(len(points)) < target; n++ {
			points = append(points, point{xxhash.Sum64(strconv.AppendInt(key, int64(n), 10)), uint16(i)})
		}
	}

	slices.SortStableFunc(points, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	h.points, h.owners = make([]uint64, len(points)), make([]uint16, len(points))
	for i, p := range points {
		h.points[i], h.owners[i] = p.hash, p.owner
	}
}

// buildMaglev has the endpoints take turns at choosing a place, each by its own order of
// preference, the lighter ones more seldom
// (https://static.googleusercontent.com/media/research.google.com/en//pubs/archive/44824.pdf,
// section 3.4).
func (h *hashTable) buildMaglev() {
	size, heaviest := h.sizes.Maglev, 0.0
	type chooser struct {
		at, skip uint64
		due      float64
	}
	choosers := make([]chooser, len(h.shares))
	for i := range h.shares {
		s := &h.shares[i]
		other := xxhash.NewWithSeed(1)
		_, _ = other.WriteString(s.key) // never fails
		choosers[i] = chooser{at: xxhash.Sum64String(s.key) % size, skip: 1}
		if size > 1 {
			choosers[i].skip = other.Sum64()%(size-1) + 1
		}
		heaviest = max(heaviest, s.weight)
	}

	h.owners = make([]uint16, size)
	taken := make([]bool, size)
	for round, left := 1.0, size; left > 0; round++ {
		for i := range choosers {
			c := &choosers[i]
			if left == 0 || round*h.shares[i].weight < c.due {
				continue
			}
			c.due += heaviest
			for taken[c.at] {
				c.at = (c.at + c.skip) % size
			}
			taken[c.at], h.owners[c.at] = true, uint16(i)
			left--
		}
	}
}

// place is where the hash lies in the table.
func (h *hashTable) place(hash uint64) int {
	if h.points == nil {
		return int(hash % uint64(len(h.owners)))
	}
	i, _ := slices.BinarySearch(h.points, hash)
	if i == len(h.points) {
		return 0
	}
	return i
}

// owner is the endpoint to which a hash belongs, be it well or not; nil: there is none.
func (h *hashTable) owner(hash uint64) *Endpoint {
	if len(h.owners) == 0 {
		return nil
	}
	return h.shares[h.owners[h.place(hash)]].e
}

// byHash returns the first endpoint from the hash's place on that is not left out and for
// which fits; nil: there is none.
func (l *level) byHash(hash uint64, fits func(*Endpoint) bool) *Endpoint {
	h := l.hash
	if len(h.owners) == 0 {
		return nil
	}
	at := h.place(hash)
	last := h.owners[at]
	for n := range min(maxWalk, len(h.owners)) {
		i := h.owners[(at+n)%len(h.owners)]
		if n > 0 && i == last {
			continue // it has just been asked
		}
		last = i
		if l.open[i] && fits(h.shares[i].e) {
			return h.shares[i].e
		}
	}

	for n := range h.shares {
		i := (int(last) + n) % len(h.shares)
		if l.open[i] && fits(h.shares[i].e) {
			return h.shares[i].e
		}
	}
	return nil
}

// chooseByHash returns the endpoint of a hash, or the next one while that is left out.
func (l *level) chooseByHash(hash uint64) *Endpoint {
	if e := l.byHash(hash, func(*Endpoint) bool { return true }); e != nil {
		return e
	}
	// Localities without a weight are all that is left of the priority.
	return l.endpoints[hash%uint64(len(l.endpoints))]
}

// owns tells whether requests with the hash would go to the endpoint if it were not left
// out. Of a priority that is left out as a whole, nobody has any.
func (t *table) owns(e *Endpoint, hash uint64) bool {
	for i := range t.levels {
		if l := &t.levels[i]; l.has(e) {
			return l.hash.owner(hash) == e
		}
	}
	return true
}

// lot makes a number from 0 to 1 of a hash, which says nothing of its place in a table:
// what a priority that has just come back does not take yet is not that of a few endpoints.
func lot(hash uint64) float64 {
	const golden = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio
	hash *= golden
	hash ^= hash >> 32
	hash *= golden
	return float64(hash>>11) / (1 << 53)
}
