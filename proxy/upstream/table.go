package upstream

import (
	"math"
	"slices"
	"sort"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// overprovision is how much more than its share the healthy part of a
// priority may carry before load spills over to the next, in percent: a
// priority keeps all the load while 1/1.4 = 72 % of it are healthy (Envoy's
// factor).
const overprovision = 140

// scheduleMax bounds the schedule of a weighted level, in turns: 4 KiB.
const scheduleMax = 2048

// table is a snapshot of the endpoints that may be picked. It is immutable.
type table struct {
	lb     config.LBPolicy
	ewma   bool
	levels []level
	// warming says that a level has come back a short time ago.
	warming bool
	// panic says that some level is used whole.
	panic bool
	// rest are endpoints that are left out, for who has nothing else, and trying says
	// that requests may try some of them.
	rest   []*Endpoint
	trying bool
}

// level is the endpoints of one priority.
type level struct {
	place
	priority uint32
	// upTo is the bound of a random number below 100 under which this level
	// is taken. The last level has 100.
	upTo int
	// places are its localities where their weights count, drawn by turns; else
	// the level is one place.
	places []place
	turns  []uint16
	// hash finds endpoints by hash, where the cluster goes by that, and open says which
	// of its shares the level has.
	hash *hashTable
	open []bool
	// back is when the level came back, by Set.now; 0: it does not matter.
	back int64
}

// place is endpoints that share the load by their own weights.
type place struct {
	endpoints []*Endpoint
	// schedule holds endpoint indices in weighted turn, and weights the weight
	// of each; nil when all weigh the same.
	schedule []uint16
	weights  []uint32
}

// member is an endpoint with what the assignment says of it.
type member struct {
	e        *Endpoint
	priority uint32
	locality int // index in the assignment
	weight   uint32
	healthy  bool
}

// up tells whether load goes to the endpoint.
func (m *member) up() bool { return m.healthy && !m.e.health.ejected.Load() }

// membersOf are the endpoints of an assignment, each once.
func membersOf(la *config.LoadAssignment, known map[endpointKey]*Endpoint) []member {
	members := make([]member, 0, len(known))
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
			members = append(members, member{e, loc.Priority, i, max(ce.Weight, 1), ce.Healthy})
		}
	}
	slices.SortStableFunc(members, func(a, b member) int { return int(int64(a.priority) - int64(b.priority)) })
	return members
}

// buildTable sorts endpoints into priorities, leaves out those that are
// ejected or marked unhealthy unless there is no other, and shares the load
// between priorities by how much of each is healthy
// (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority).
func buildTable(c *config.Cluster, la *config.LoadAssignment, members []member) *table {
	t := &table{lb: c.LB, ewma: c.Balance.PeakEWMA}
	b := tableBuilder{balance: &c.Balance, assignment: la, factor: overprovision}
	if la.Overprovision > 0 {
		b.factor = float64(la.Overprovision)
	}
	for i := 0; i < len(members); {
		j := i
		for j < len(members) && members[j].priority == members[i].priority {
			j++
		}
		b.add(members[i:j])
		i = j
	}

	t.levels, t.panic = b.levels()
	used := make(map[*Endpoint]bool, len(members))
	for i := range t.levels {
		for _, e := range t.levels[i].endpoints {
			used[e] = true
		}
	}
	for i := range members {
		if e := members[i].e; !used[e] {
			t.rest = append(t.rest, e)
			t.trying = t.trying || e.health.tryAt.Load() != 0
		}
	}
	return t
}

// tableBuilder shares load out between priorities.
type tableBuilder struct {
	balance    *config.Balance
	assignment *config.LoadAssignment
	factor     float64 // overprovisioning, in percent
	priorities []priority
	all        int
	normalized float64 // what all can carry together, at most 100
}

// priority is the members of one.
type priority struct {
	all, up []member
	health  float64 // how much of the load it can carry, in percent
}

func (b *tableBuilder) add(all []member) {
	p := priority{all: all}
	for _, m := range all {
		if m.up() {
			p.up = append(p.up, m)
		}
	}
	p.health = min(100, b.factor*float64(len(p.up))/float64(len(all)))
	b.normalized = min(100, b.normalized+p.health)
	b.all += len(all)
	b.priorities = append(b.priorities, p)
}

// panics tells whether a priority is used whole because too little of it is
// healthy. As long as the priorities together carry all the load, none is.
func (b *tableBuilder) panics(p *priority) bool {
	return b.normalized < 100 && float64(len(p.up))*100 < b.balance.PanicPercent*float64(len(p.all))
}

// levels are the priorities that may be picked from, in order. Those that get no
// share are there for retries.
func (b *tableBuilder) levels() (levels []level, panics bool) {
	allPanic := len(b.priorities) > 0
	for i := range b.priorities {
		allPanic = allPanic && b.panics(&b.priorities[i])
	}
	switch {
	case allPanic:
		return b.byNumber(), true
	case b.normalized == 0:
		return b.lastResort(), false
	}

	left := 100.0
	for i := range b.priorities {
		p := &b.priorities[i]
		if len(p.up) == 0 {
			continue
		}
		list := p.up
		if b.panics(p) {
			list, panics = p.all, true
		}
		share := min(left, p.health*100/b.normalized)
		left -= share
		l := b.level(list)
		l.upTo = int(100 - left + 0.5)
		levels = append(levels, l)
	}
	levels[len(levels)-1].upTo = 100 // but for rounding, it is
	return levels, panics
}

// byNumber is how load is shared when every priority is in panic: by how many
// endpoints each has.
func (b *tableBuilder) byNumber() []level {
	var levels []level
	n := 0
	for i := range b.priorities {
		p := &b.priorities[i]
		n += len(p.all)
		l := b.level(p.all)
		l.upTo = int(100*float64(n)/float64(b.all) + 0.5)
		levels = append(levels, l)
	}
	return levels
}

// lastResort is for when nobody is healthy: the first priority is tried as a
// whole, and the others after it on retries.
func (b *tableBuilder) lastResort() []level {
	var levels []level
	for i := range b.priorities {
		l := b.level(b.priorities[i].all)
		l.upTo = 100
		levels = append(levels, l)
	}
	return levels
}

// level makes the level of some members of a priority.
func (b *tableBuilder) level(list []member) level {
	l := level{place: newPlace(list), priority: list[0].priority}
	if !b.balance.LocalityWeights {
		return l
	}

	// Localities without a weight get nothing, as in Envoy. What of one is
	// healthy counts as in a priority: one keeps its share while 72 % of it are.
	var weights []uint32
	for i := range b.assignment.Localities {
		loc := &b.assignment.Localities[i]
		var here []member
		for _, m := range list {
			if m.locality == i {
				here = append(here, m)
			}
		}
		if len(here) == 0 || loc.Weight == 0 {
			continue
		}
		carries := min(100, b.factor*float64(len(here))/float64(len(loc.Endpoints)))
		l.places = append(l.places, newPlace(here))
		weights = append(weights, max(uint32(float64(loc.Weight)*carries/100), 1))
	}
	if len(l.places) > 0 {
		l.turns = makeSchedule(weights)
	}
	return l
}

func newPlace(list []member) place {
	p := place{endpoints: make([]*Endpoint, len(list))}
	equal := true
	weights := make([]uint32, len(list))
	for i, m := range list {
		p.endpoints[i] = m.e
		weights[i] = m.weight
		equal = equal && m.weight == list[0].weight
	}
	if !equal {
		p.schedule, p.weights = makeSchedule(weights), weights
	}
	return p
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
