package upstream

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// overprovision is how much more than its share the healthy part of a
// priority may carry before load spills over to the next: a priority keeps
// all the load while 1/1.4 = 72 % of it are healthy (Envoy's factor).
const overprovision = 1.4

// scheduleMax bounds the schedule of a weighted level, in turns: 4 KiB.
const scheduleMax = 2048

// table is a snapshot of the endpoints that may be picked. It is immutable.
type table struct {
	lb     config.LBPolicy
	levels []level
}

// level is the endpoints of one priority.
type level struct {
	// upTo is the bound of a random number below 100 under which this level
	// is taken. The last level has 100.
	upTo      int
	endpoints []*Endpoint
	// schedule holds endpoint indices in weighted turn; nil when all weigh
	// the same.
	schedule []uint16
}

// candidate is an endpoint with what the assignment says of it.
type candidate struct {
	e       *Endpoint
	weight  uint32
	healthy bool
}

// buildTable sorts endpoints into priorities, leaves out those that are
// ejected or marked unhealthy unless there is no other, and shares the load
// between priorities by how much of each is healthy.
func buildTable(la *config.LoadAssignment, known map[endpointKey]*Endpoint, lb config.LBPolicy) *table {
	byPriority := map[uint32][]candidate{}
	seen := make(map[*Endpoint]bool, len(known))
	for i := range la.Localities {
		loc := &la.Localities[i]
		for j := range loc.Endpoints {
			ce := &loc.Endpoints[j]
			e := known[keyOf(ce)]
			if e == nil || seen[e] {
				continue
			}
			seen[e] = true
			byPriority[loc.Priority] = append(byPriority[loc.Priority],
				candidate{e, max(ce.Weight, 1), ce.Healthy && !e.health.ejected.Load()})
		}
	}

	priorities := make([]uint32, 0, len(byPriority))
	for p := range byPriority {
		priorities = append(priorities, p)
	}
	slices.Sort(priorities)

	t := &table{lb: lb}
	t.levels = healthyLevels(priorities, byPriority)
	if len(t.levels) == 0 {
		t.levels = anyLevels(priorities, byPriority)
	}
	return t
}

// healthyLevels shares 100 % out over the priorities, in order. Levels that
// get no share are there for retries.
func healthyLevels(priorities []uint32, by map[uint32][]candidate) []level {
	var levels []level
	left := 100.0
	for _, p := range priorities {
		all := by[p]
		var up []candidate
		for _, c := range all {
			if c.healthy {
				up = append(up, c)
			}
		}
		if len(up) == 0 {
			continue
		}

		share := min(left, 100*overprovision*float64(len(up))/float64(len(all)))
		left -= share
		l := newLevel(up)
		l.upTo = int(100 - left + 0.5)
		levels = append(levels, l)
	}

	if len(levels) > 0 && levels[len(levels)-1].upTo < 100 {
		// Less than everything is healthy in all priorities together: scale
		// up what there is.
		total := levels[len(levels)-1].upTo
		for i := range levels {
			levels[i].upTo = levels[i].upTo * 100 / max(total, 1)
		}
		levels[len(levels)-1].upTo = 100
	}
	return levels
}

// anyLevels is the last resort: nobody is healthy, so the first priority is
// tried as a whole, and the others after it on retries.
func anyLevels(priorities []uint32, by map[uint32][]candidate) []level {
	var levels []level
	for _, p := range priorities {
		l := newLevel(by[p])
		l.upTo = 100
		levels = append(levels, l)
	}
	return levels
}

func newLevel(cs []candidate) level {
	l := level{endpoints: make([]*Endpoint, len(cs))}
	equal := true
	weights := make([]uint32, len(cs))
	for i, c := range cs {
		l.endpoints[i] = c.e
		weights[i] = c.weight
		equal = equal && c.weight == cs[0].weight
	}

	if !equal {
		l.schedule = makeSchedule(weights)
	}
	return l
}

// makeSchedule lays out turns so that each index comes up in proportion to
// its weight and spread evenly: turn k of an endpoint of weight w falls due at
// (k+½)/w. Every endpoint has one turn at least.
func makeSchedule(weights []uint32) []uint16 {
	weights = weights[:min(len(weights), math.MaxUint16)] // an index is a uint16
	sum, div := uint64(0), uint32(0)
	for _, w := range weights {
		sum += uint64(w)
		div = gcd(div, w)
	}

	// Weights of 200 and 100 need no more than 2 and 1 turns; huge ones are
	// rounded to fit.
	scale := 1 / float64(div)
	if total := float64(sum) * scale; total > scheduleMax {
		scale *= scheduleMax / total
	}

	type turn struct {
		at float64
		i  uint16
	}

	var turns []turn
	for i, w := range weights {
		n := max(int(float64(w)*scale+0.5), 1)
		for k := range n {
			turns = append(turns, turn{(float64(k) + 0.5) / float64(n), uint16(i)})
		}
	}

	sort.SliceStable(turns, func(a, b int) bool { return turns[a].at < turns[b].at })
	out := make([]uint16, len(turns))
	for k, t := range turns {
		out[k] = t.i
	}
	return out
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// pick chooses an endpoint that was not tried; nil when all were.
func (t *table) pick(c *Cluster, tried []*Endpoint) *Endpoint {
	li := 0
	if len(t.levels) > 1 && t.levels[0].upTo < 100 {
		r := rand.IntN(100)
		for li < len(t.levels)-1 && r >= t.levels[li].upTo {
			li++
		}
	}

	l := &t.levels[li]
	e := l.choose(t.lb, c)
	if len(tried) == 0 || !slices.Contains(tried, e) {
		return e
	}

	// The policy is asked a few times before order is taken in its place: after
	// one failure most others are still untried.
	for range 2 {
		if e = l.choose(t.lb, c); !slices.Contains(tried, e) {
			return e
		}
	}
	return t.untried(li, tried)
}

// untried looks for any endpoint left, in the level chosen first.
func (t *table) untried(first int, tried []*Endpoint) *Endpoint {
	for k := range t.levels {
		l := &t.levels[(first+k)%len(t.levels)]
		off := rand.IntN(len(l.endpoints))
		for i := range l.endpoints {
			if e := l.endpoints[(off+i)%len(l.endpoints)]; !slices.Contains(tried, e) {
				return e
			}
		}
	}
	return nil
}

// choose applies the load-balancing policy to one level.
func (l *level) choose(lb config.LBPolicy, c *Cluster) *Endpoint {
	n := len(l.endpoints)
	if n == 1 {
		return l.endpoints[0]
	}

	switch lb {
	case config.LBRandom:
		return l.endpoints[l.random()]
	case config.LBLeastRequest:
		// Of two at random the less busy one: as good as a look at all, without
		// sending everyone to the same idle endpoint.
		i, j := l.random(), l.random()
		if i == j {
			j = (i + 1 + rand.IntN(n-1)) % n
			if l.schedule != nil {
				return l.endpoints[i] // its weight came up twice
			}
		}
		if l.endpoints[j].active.Load() < l.endpoints[i].active.Load() {
			return l.endpoints[j]
		}
		return l.endpoints[i]
	default:
		turn := c.cursor.Add(1) - 1
		if l.schedule != nil {
			return l.endpoints[l.schedule[turn%uint64(len(l.schedule))]]
		}
		return l.endpoints[turn%uint64(n)]
	}
}

// random returns an index by weight.
func (l *level) random() int {
	if l.schedule != nil {
		return int(l.schedule[rand.IntN(len(l.schedule))])
	}
	return rand.IntN(len(l.endpoints))
}
