package upstream

import (
	"cmp"
	"slices"
	"time"
)

// State is an endpoint as its cluster uses it at the moment, for people who look.
type State struct {
	*Endpoint
	Priority              uint32
	Region, Zone, SubZone string
	Weight                uint32 // among those of its priority
	// Gateway tells that it stands for endpoints of another network, which is Network.
	Gateway bool
	Network string
	// Unhealthy tells that discovery marks it so.
	Unhealthy bool
	// EjectedUntil is when one that sits out may be let in again; zero for others.
	EjectedUntil time.Time
	// Doubted tells that requests go elsewhere until one has found out whether it
	// serves; see trial.go.
	Doubted bool
	// Share is its part of the requests that are no retries, as the balancer aims
	// at it, from 0 to 1.
	Share float64
}

// States are all endpoints of the moment, by priority, then address.
func (c *Cluster) States() []State {
	if c.dst != nil {
		var out []State
		for _, e := range c.dst.all() {
			out = append(out, State{Endpoint: e})
		}
		return out
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.load == nil {
		return nil
	}

	shares := c.table.Load().shares()
	var out []State
	seen := map[*Endpoint]bool{}
	for i := range c.load.Localities {
		loc := &c.load.Localities[i]
		for j := range loc.Endpoints {
			cfg := &loc.Endpoints[j]
			e := c.known[keyOf(cfg)]
			if e == nil || seen[e] {
				continue
			}
			seen[e] = true
			out = append(out, State{
				Endpoint: e, Priority: loc.Priority, Region: loc.Region, Zone: loc.Zone, SubZone: loc.SubZone,
				Weight: cfg.Weight, Gateway: cfg.Gateway, Network: cfg.Network, Unhealthy: !cfg.Healthy, Share: shares[e],
				EjectedUntil: e.outUntilLocked(), Doubted: e.health.trial.Load() != 0,
			})
		}
	}

	slices.SortFunc(out, func(a, b State) int { return cmp.Or(cmp.Compare(a.Priority, b.Priority), a.addr.Compare(b.addr)) })
	return out
}

// outUntilLocked is when an endpoint may be let in again, by the cluster's lock.
func (e *Endpoint) outUntilLocked() time.Time {
	if !e.Ejected() {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(e.health.until - e.cluster.set.now()))
}

// shares are the parts of the load that the endpoints of a table get.
func (t *table) shares() map[*Endpoint]float64 {
	out := map[*Endpoint]float64{}
	from := 0
	for i := range t.levels {
		l := &t.levels[i]
		part := float64(l.upTo-from) / 100
		from = l.upTo
		if len(l.places) == 0 {
			l.place.share(part, out)
			continue
		}
		for _, turn := range l.turns {
			l.places[turn].share(part/float64(len(l.turns)), out)
		}
	}
	return out
}

// share adds to out what each endpoint of a place gets of a part of the load: those
// that are in doubt nothing, unless all are.
func (p *place) share(part float64, out map[*Endpoint]float64) {
	weight := func(i int) float64 {
		if p.weights == nil {
			return 1
		}
		return float64(p.weights[i])
	}
	all, calm := 0.0, 0.0
	for i, e := range p.endpoints {
		all += weight(i)
		if e.health.trial.Load() == 0 {
			calm += weight(i)
		}
	}

	for i, e := range p.endpoints {
		switch {
		case calm == 0:
			out[e] += part * weight(i) / all
		case e.health.trial.Load() == 0:
			out[e] += part * weight(i) / calm
		}
	}
}
