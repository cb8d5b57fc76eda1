package upstream

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Hint says what is known when an endpoint is to be picked.
type Hint struct {
	// OriginalDst is where the caller wanted to go (ORIGINAL_DST clusters).
	OriginalDst netip.AddrPort
	// Tried are endpoints that failed for this very request already.
	Tried []*Endpoint
	// Leave asks for a priority that none of Tried is of, if there is one.
	Leave bool
	// Again says that the last of Tried answered, for itself or for others: if it
	// is the gateway of another network, and there is nothing else, it may be
	// asked once more.
	Again bool
	// Try says that the request has been sent to nobody yet, and can be made elsewhere
	// when it fails: it may find out whether an endpoint that is left out is well again.
	Try bool
	// Healthy asks for an endpoint that is not left out: an answer is at hand
	// that would be given up for it.
	Healthy bool
	// Hash has requests with the same one meet at one endpoint, in a cluster that goes
	// by it; 0: there is none.
	Hash uint64
}

// Pick chooses an endpoint. It neither locks nor allocates when it succeeds at
// once.
func (c *Cluster) Pick(h Hint) (*Endpoint, error) {
	if c.dst != nil {
		return c.dst.pick(h)
	}

	t := c.table.Load()
	if len(t.levels) == 0 {
		return nil, &PickError{Cluster: c.name, Msg: "it has no endpoints"}
	}

	if !t.hashes() {
		h.Hash = 0
	}
	if h.Try && t.trying {
		if e := t.try(c, h.Hash); e != nil {
			return e, nil
		}
	}

	l := t.draw(c, h.Hash)
	if e := l.choose(t, c, h.Hash); len(h.Tried) == 0 && e.calm() {
		return e, nil
	} else if e = t.search(c, &h, l, e); e != nil {
		return e, nil
	}
	return nil, &PickError{Cluster: c.name, Msg: "every endpoint was tried"}
}

// draw chooses a level by the shares of each; with a hash, always the same one.
func (t *table) draw(c *Cluster, hash uint64) *level {
	li, last := 0, len(t.levels)-1
	if last > 0 && t.levels[0].upTo < 100 {
		r := rand.IntN(100)
		if hash != 0 {
			r = int(hash % 100)
		}
		for li < last && r >= t.levels[li].upTo {
			li++
		}
	}
	// A level that has come back gets its share little by little; the rest goes
	// where it went before, to the next one.
	for t.warming && li < last && !c.settings.Load().ramp.admits(t.levels[li].back, c.set.now(), hash) {
		li++
	}
	return &t.levels[li]
}

// search looks for an endpoint that was not tried, where the one that was chosen
// first does not do as it is; nil: there is none. What it prefers: what is not in
// doubt, then what is, then what is left out.
func (t *table) search(c *Cluster, h *Hint, first *level, e *Endpoint) *Endpoint {
	now := c.set.now()
	if h.Leave && len(h.Tried) > 0 {
		if e := t.leave(c, h, now); e != nil {
			return e
		}
	}

	if e := first.settle(t, c, h, e, now); e != nil {
		return e
	}
	for i := range t.levels {
		if l := &t.levels[i]; l != first {
			if e := l.settle(t, c, h, l.choose(t, c, h.Hash), now); e != nil {
				return e
			}
		}
	}

	for i := range t.levels {
		if e := t.levels[i].untried(h); e != nil {
			return e
		}
	}
	if !h.Healthy {
		if e := untried(t.rest, h.Tried); e != nil {
			return e
		}
	}
	return h.again()
}

// leave returns an endpoint of a level that no endpoint was tried of, nil if there is
// none. One that is in doubt will do: what is known of it is older than what was
// learned of the levels that are left, and they may have more endpoints that fail than
// a request has tries.
func (t *table) leave(c *Cluster, h *Hint, now int64) *Endpoint {
	var doubted *Endpoint
	for i := range t.levels {
		l := &t.levels[i]
		if slices.ContainsFunc(h.Tried, l.has) {
			continue
		}
		if e := l.settle(t, c, h, l.choose(t, c, h.Hash), now); e != nil {
			return e
		}
		if doubted == nil {
			doubted = l.untried(h)
		}
	}
	return doubted
}

// settle returns an endpoint of the level that was not tried and takes the
// request now, e if it does; nil: there is none.
func (l *level) settle(t *table, c *Cluster, h *Hint, e *Endpoint, now int64) *Endpoint {
	if h.Hash != 0 {
		return l.byHash(h.Hash, func(e *Endpoint) bool { return !slices.Contains(h.Tried, e) && e.admits(now, false) })
	}
	// The policy is asked a few times before order is taken in its place: after
	// one failure most others are still untried.
	for range 4 {
		if !slices.Contains(h.Tried, e) && e.admits(now, true) {
			return e
		}
		e = l.choose(t, c, 0)
	}

	off := rand.IntN(len(l.endpoints))
	for i := range l.endpoints {
		e := l.endpoints[(off+i)%len(l.endpoints)]
		if !slices.Contains(h.Tried, e) && e.admits(now, false) {
			return e
		}
	}
	return nil
}

// has tells whether the endpoint is of the level's priority, though it may be left out
// or gone by now: for who leaves a priority, it was one of those all the same.
func (l *level) has(e *Endpoint) bool { return e.priority.Load() == l.priority }

// untried returns an endpoint of the level that was not tried, be it in doubt.
func (l *level) untried(h *Hint) *Endpoint {
	if h.Hash != 0 {
		return l.byHash(h.Hash, func(e *Endpoint) bool { return !slices.Contains(h.Tried, e) })
	}
	return untried(l.endpoints, h.Tried)
}

// untried returns any endpoint that was not tried.
func untried(list, tried []*Endpoint) *Endpoint {
	if len(list) == 0 {
		return nil
	}
	off := rand.IntN(len(list))
	for i := range list {
		if e := list[(off+i)%len(list)]; !slices.Contains(tried, e) {
			return e
		}
	}
	return nil
}

// again returns the gateway of another network that answered last: it stands for
// many endpoints, of which the next one may do.
func (h *Hint) again() *Endpoint {
	if n := len(h.Tried); h.Again && n > 0 && h.Tried[n-1].cfg.Gateway && !h.Tried[n-1].Retired() {
		return h.Tried[n-1]
	}
	return nil
}

// choose applies the load-balancing policy to the level. Without a hash, a cluster that
// goes by it takes any endpoint.
func (l *level) choose(t *table, c *Cluster, hash uint64) *Endpoint {
	if hash != 0 {
		return l.chooseByHash(hash)
	}

	p := &l.place
	if l.places != nil {
		p = &l.places[l.turns[rand.IntN(len(l.turns))]]
	}

	n := len(p.endpoints)
	switch {
	case n == 1:
		return p.endpoints[0]
	case t.ewma:
		return p.quicker(c)
	}
	switch t.lb {
	case config.LBRandom, config.LBRingHash, config.LBMaglev:
		return p.endpoints[p.random()]
	case config.LBLeastRequest:
		i, j, one := p.two()
		if one {
			return p.endpoints[i]
		}
		return p.endpoints[p.lighter(i, j)]
	default:
		turn := c.cursor.Add(1) - 1
		if p.schedule != nil {
			return p.endpoints[p.schedule[turn%uint64(len(p.schedule))]]
		}
		return p.endpoints[turn%uint64(n)]
	}
}

// two draws two endpoints, of which the better one is taken: that is as good as a
// look at all, without sending everyone to the same idle endpoint. one says that
// the weight of the first came up twice.
func (p *place) two() (i, j int, one bool) {
	i, j = p.random(), p.random()
	if i != j {
		return i, j, false
	}
	if p.schedule != nil {
		return i, j, true
	}
	n := len(p.endpoints)
	return i, (i + 1 + rand.IntN(n-1)) % n, false
}

// lighter returns the one of two with fewer active requests for its weight.
func (p *place) lighter(i, j int) int {
	a, b := p.endpoints[i].Active(), p.endpoints[j].Active()
	if p.weights != nil {
		a, b = (a+1)*int64(p.weights[j]), (b+1)*int64(p.weights[i])
	}
	if b < a {
		return j
	}
	return i
}

// random returns an index by weight.
func (p *place) random() int {
	if p.schedule != nil {
		return int(p.schedule[rand.IntN(len(p.schedule))])
	}
	return rand.IntN(len(p.endpoints))
}
