package upstream

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
)

// Cluster is one cluster in one version of its configuration. When the
// configuration changes another Cluster takes its place and its endpoints
// retire. It is safe for concurrent use.
type Cluster struct {
	cfg        *config.Cluster
	set        *Set
	transports []transport
	fallback   transport
	outlier    ejectPolicy
	slow, ramp ramp // of endpoints that are new or back, and of priorities
	spending   spending

	table  atomic.Pointer[table]
	cursor atomic.Uint64 // round robin
	ready  chan struct{}
	isSet  sync.Once // guards the close of ready

	mu      sync.Mutex // guards what follows, and changes of table
	load    *config.LoadAssignment
	known   map[endpointKey]*Endpoint
	members []member
	stopped bool
	dst     *originalDst // ORIGINAL_DST only
	names   *dnsWatch    // DNS types only
}

// transport is a decoded transport socket made ready to dial with.
type transport struct {
	match map[string]string
	tls   *mtls.Client // nil: plaintext
	ctx   *config.UpstreamTLS
}

// PickError says why no endpoint could be picked.
type PickError struct {
	Cluster string
	Msg     string
}

// Error implements error.
func (e *PickError) Error() string { return fmt.Sprintf("cluster %s: %s", e.Cluster, e.Msg) }

func newCluster(s *Set, cfg *config.Cluster) (*Cluster, error) {
	c := &Cluster{
		cfg: cfg, set: s, outlier: policyOf(cfg),
		ready: make(chan struct{}),
		known: map[endpointKey]*Endpoint{},
	}
	c.table.Store(&table{})
	c.slow, c.ramp = slowOf(cfg)
	c.spending.freed = make(chan struct{}, 1)
	c.spending.budget = budget{store: budgetStore, at: s.now()}

	var err error
	for _, m := range cfg.Matches {
		t, err := newTransport(s, m.Transport)
		if err != nil {
			return nil, fmt.Errorf("cluster %q: transport_socket_matches %q: %w", cfg.Name, m.Transport.Name, err)
		}
		t.match = m.Match
		c.transports = append(c.transports, t)
	}

	if c.fallback, err = newTransport(s, cfg.Transport); err != nil {
		return nil, fmt.Errorf("cluster %q: transport_socket: %w", cfg.Name, err)
	}
	return c, nil
}

func newTransport(s *Set, t config.Transport) (transport, error) {
	if t.TLS == nil {
		return transport{}, nil
	}
	cl, err := mtls.NewClient(t.TLS, s.id)
	return transport{tls: cl, ctx: t.TLS}, err
}

// start sets the cluster going, by its type.
func (c *Cluster) start() {
	switch c.cfg.Type {
	case config.ClusterStatic:
		la := c.cfg.Endpoints
		if la == nil {
			la = &config.LoadAssignment{Name: c.cfg.Name}
		}
		c.setLoad(la)
	case config.ClusterOriginalDst:
		c.dst = newOriginalDst(c)
		c.markReady()
	case config.ClusterStrictDNS, config.ClusterLogicalDNS:
		c.names = watchNames(c)
	}
}

// stop retires all endpoints and ends the cluster's goroutine, if it has one.
func (c *Cluster) stop() {
	if c.names != nil {
		c.names.stop()
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
func (c *Cluster) Name() string { return c.cfg.Name }

// Config returns the configuration. It must not be changed.
func (c *Cluster) Config() *config.Cluster { return c.cfg }

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

// setLoad replaces the endpoints. Those that did not change stay the same
// *Endpoint; those that are gone retire.
func (c *Cluster) setLoad(la *config.LoadAssignment) {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return
	}

	next := make(map[endpointKey]*Endpoint, countEndpoints(la))
	for i := range la.Localities {
		eps := la.Localities[i].Endpoints
		for j := range eps {
			key := keyOf(&eps[j])
			if next[key] != nil {
				continue // the same address twice, in two localities
			}
			if old := c.known[key]; old != nil && old.same(&eps[j]) {
				next[key] = old
				continue
			}
			e := newEndpoint(c, &eps[j])
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

	c.known, c.load = next, la
	c.members = membersOf(la, next)
	if slices.ContainsFunc(gone, (*Endpoint).Ejected) {
		c.tellEjectedLocked()
	}
	c.rebuildLocked()
	c.mu.Unlock()

	// Without the lock: an attachment that retires closes connections.
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
	t := buildTable(c.cfg, c.load, c.members)
	c.warmUpLocked(t)
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
	old, now := c.table.Load(), max(c.set.now(), 1)
	if len(old.levels) == 0 {
		return
	}
	for i := range max(len(t.levels)-1, 0) { // the last one has none to share with
		l := &t.levels[i]
		k := slices.IndexFunc(old.levels, func(o level) bool { return o.priority == l.priority })
		switch {
		case k >= 0 && !c.ramp.over(old.levels[k].back, now):
			l.back = old.levels[k].back
		case k < 0 && old.levels[0].priority > l.priority:
			l.back = now
			time.AfterFunc(c.ramp.window, c.coolDown)
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

func (c *Cluster) transportFor(meta map[string]string) *transport {
	for i := range c.transports {
		if fits(c.transports[i].match, meta) {
			return &c.transports[i]
		}
	}
	return &c.fallback
}

// fits tells whether metadata has every entry of match.
func fits(match, meta map[string]string) bool {
	for k, v := range match {
		if got, ok := meta[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func countEndpoints(la *config.LoadAssignment) int {
	n := 0
	for i := range la.Localities {
		n += len(la.Localities[i].Endpoints)
	}
	return n
}
