package upstream

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Cluster is one cluster. When its configuration changes it stays, and so do its
// endpoints with what is known of them: what fails goes on failing under other
// settings, and a failover must not begin anew because somebody tunes it. It is
// safe for concurrent use.
type Cluster struct {
	name     string
	kind     config.ClusterType // a cluster of another type is another Cluster
	set      *Set
	settings atomic.Pointer[settings] // in force; change replaces them
	spending spending

	table  atomic.Pointer[table]
	cursor atomic.Uint64 // round robin
	turns  atomic.Uint64 // of requests that might try an endpoint that is left out
	ready  chan struct{}
	isSet  sync.Once // guards the close of ready

	dst   *originalDst             // ORIGINAL_DST only
	names atomic.Pointer[dnsWatch] // DNS types only; replaced under the lock of the Set

	mu      sync.Mutex // guards what follows, and changes of settings and table
	load    *config.LoadAssignment
	known   map[endpointKey]*Endpoint
	members []member
	hashed  map[uint32]*hashTable // by priority, where endpoints are found by hash
	habits  map[spot]*habits
	stopped bool
}

// spot is where endpoints stand to which connections take about as long.
type spot struct {
	region, zone, subZone string
	gateway               bool // of another network
}

// PickError says why no endpoint could be picked.
type PickError struct {
	Cluster string
	Msg     string
}

// Error implements error.
func (e *PickError) Error() string { return fmt.Sprintf("cluster %s: %s", e.Cluster, e.Msg) }

func newCluster(s *Set, cfg *config.Cluster) (*Cluster, error) {
	now, err := newSettings(s, cfg)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		name: cfg.Name, kind: cfg.Type, set: s,
		ready: make(chan struct{}),
		known: map[endpointKey]*Endpoint{}, habits: map[spot]*habits{},
	}
	c.settings.Store(now)
	c.table.Store(&table{})
	c.spending.freed = make(chan struct{}, 1)
	c.spending.budget = budget{store: budgetStore, at: s.now()}
	return c, nil
}

// start sets the cluster going, by its type.
func (c *Cluster) start() {
	if c.kind == config.ClusterOriginalDst {
		c.dst = newOriginalDst(c)
		c.markReady()
		return
	}
	c.takeInline()
}

// takeInline takes the endpoints that stand in the configuration itself. Names among
// them are resolved first; until then those of before stay.
func (c *Cluster) takeInline() {
	switch c.kind {
	case config.ClusterStatic:
		la := c.Config().Endpoints
		if la == nil {
			la = &config.LoadAssignment{Name: c.name}
		}
		c.setLoad(la)
	case config.ClusterStrictDNS, config.ClusterLogicalDNS:
		last := map[string][]netip.Addr{}
		if old := c.names.Load(); old != nil {
			old.stop()
			last = old.last
		}
		c.names.Store(watchNames(c, last))
	}
}

// change puts other settings in force. Endpoints stay as they are known; new
// connections are made only where those that are there would not have been made so.
func (c *Cluster) change(next *settings) {
	c.mu.Lock()
	was := c.settings.Swap(next)
	renew := !sameConnections(was.cfg, next.cfg)
	var old []Attachment
	for _, e := range c.endpointsLocked() {
		old = append(old, e.adaptLocked(next, renew)...)
		c.reviewLocked(e)
	}
	c.tellEjectedLocked()
	c.rebuildLocked()
	c.mu.Unlock()

	// Without the lock: an attachment that retires closes connections.
	for _, a := range old {
		a.Retire()
	}
	c.takeInline()
}

// endpointsLocked returns all endpoints, in no order.
func (c *Cluster) endpointsLocked() []*Endpoint {
	if c.dst != nil {
		return c.dst.all()
	}
	return slices.Collect(maps.Values(c.known))
}

// stop retires all endpoints and ends the cluster's goroutine, if it has one.
func (c *Cluster) stop() {
	if names := c.names.Load(); names != nil {
		names.stop()
	}

	c.mu.Lock()
	c.stopped = true
	gone := c.known
	c.known = map[endpointKey]*Endpoint{}
	c.mu.Unlock()

	for _, e := range gone {
		e.retire()
	}
	if c.dst != nil {
		c.dst.stop()
	}
}

// Name returns the cluster's name.
func (c *Cluster) Name() string { return c.name }

// Config returns the configuration in force. It must not be changed.
func (c *Cluster) Config() *config.Cluster { return c.settings.Load().cfg }

// Ready is closed once the first endpoint list arrived, even an empty one.
func (c *Cluster) Ready() <-chan struct{} { return c.ready }

func (c *Cluster) markReady() { c.isSet.Do(func() { close(c.ready) }) }

// readyTimeout bounds WaitReady. The endpoints of a cluster that is new come right
// behind it, but from discovery, or from a name server, and not from a peer: the
// time to connect, half a second inside the mesh, says nothing of them.
const readyTimeout = 10 * time.Second

// WaitReady waits until the cluster is ready, for readyTimeout at most, and tells
// whether it is.
func (c *Cluster) WaitReady(ctx context.Context) bool {
	select {
	case <-c.ready:
		return true
	default:
	}

	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case <-c.ready:
		return true
	case <-ctx.Done():
		return false
	}
}

// setLoad replaces the endpoints. Those behind which the same workload stands stay the
// same *Endpoint, though they may have to be reached in another way; those that are
// gone retire.
func (c *Cluster) setLoad(la *config.LoadAssignment) {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return
	}

	next := make(map[endpointKey]*Endpoint, countEndpoints(la))
	var old []Attachment
	known := map[spot]*habits{}
	for i := range la.Localities {
		loc := &la.Localities[i]
		eps := loc.Endpoints
		for j := range eps {
			key := keyOf(&eps[j])
			if next[key] != nil {
				continue // the same address twice, in two localities
			}
			at := spot{loc.Region, loc.Zone, loc.SubZone, eps[j].Gateway}
			if known[at] == nil {
				known[at] = cmp.Or(c.habits[at], &habits{})
			}
			if e := c.known[key]; e != nil && e.same(&eps[j]) {
				e.habits.Store(known[at])
				e.priority.Store(loc.Priority)
				if !maps.Equal(e.cfg.TransportMatch, eps[j].TransportMatch) {
					e.cfg.TransportMatch = eps[j].TransportMatch
					old = append(old, e.adaptLocked(c.settings.Load(), false)...)
				}
				next[key] = e
				continue
			}
			e := newEndpoint(c, &eps[j])
			e.habits.Store(known[at])
			e.priority.Store(loc.Priority)
			e.begin()
			if e.cfg.Gateway {
				c.set.knocker.watch(e)
			}
			next[key] = e
		}
	}

	var gone []*Endpoint
	for key, e := range c.known {
		if next[key] != e {
			gone = append(gone, e)
		}
	}

	c.known, c.load, c.habits = next, la, known
	c.members = membersOf(la, next)
	if len(old) > 0 || slices.ContainsFunc(gone, (*Endpoint).Ejected) {
		c.tellEjectedLocked()
	}
	c.rebuildLocked()
	c.mu.Unlock()

	// Without the lock: an attachment that retires closes connections.
	for _, a := range old {
		a.Retire()
	}
	for _, e := range gone {
		e.retire()
	}
	c.markReady()
}

// rebuildLocked makes the table anew from load and the state of the endpoints.
func (c *Cluster) rebuildLocked() {
	if c.load == nil {
		return
	}
	t := buildTable(c.Config(), c.load, c.members)
	c.warmUpLocked(t)
	c.hashLocked(t)
	if was := c.table.Swap(t); was.panic != t.panic {
		n := 0
		if t.panic {
			n = 1
		}
		c.tell(EventPanic, n)
	}
}

// warmUpLocked finds the priorities to which load goes again after it went
// farther, as when a whole cluster was away: they get it back little by little.
func (c *Cluster) warmUpLocked(t *table) {
	old, now, ramp := c.table.Load(), max(c.set.now(), 1), c.settings.Load().ramp
	if len(old.levels) == 0 {
		return
	}
	for i := range max(len(t.levels)-1, 0) { // the last one has none to share with
		l := &t.levels[i]
		k := slices.IndexFunc(old.levels, func(o level) bool { return o.priority == l.priority })
		switch {
		case k >= 0 && !ramp.over(old.levels[k].back, now):
			l.back = old.levels[k].back
		case k < 0 && old.levels[0].priority > l.priority:
			l.back = now
			time.AfterFunc(ramp.window, c.coolDown)
		}
		t.warming = t.warming || l.back != 0
	}
}

// coolDown ends the time in which a priority was warming up.
func (c *Cluster) coolDown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.rebuildLocked()
	}
}

// Endpoints returns all endpoints of the moment.
func (c *Cluster) Endpoints() []*Endpoint {
	if c.dst != nil {
		return c.dst.all()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Endpoint, 0, len(c.known))
	for _, e := range c.known {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *Endpoint) int { return a.addr.Compare(b.addr) })
	return out
}

func countEndpoints(la *config.LoadAssignment) int {
	n := 0
	for i := range la.Localities {
		n += len(la.Localities[i].Endpoints)
	}
	return n
}
