// Package upstream is the way out of the proxy: clusters, their endpoints,
// which of them is chosen, how it is dialled, and which is left out for a
// while because it fails.
//
// A [Set] holds the clusters. A [Cluster] picks an [Endpoint]; an Endpoint
// dials. What is read per connection or per request (Ref.Load, Pick, Begin,
// End, Report) takes no locks: it works on snapshots that updates replace.
//
// The package moves no bytes and knows no HTTP; pools of HTTP connections
// hang on the endpoints as an [Attachment].
package upstream

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/lookup"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
)

// Options configure a [Set].
type Options struct {
	Identity mtls.Identity // nil: contexts that need it are refused
	Logger   *slog.Logger  // nil: nothing is logged
	Resolver Resolver      // nil: the system's, by /etc/resolv.conf
	// Own tells whether an address is one at which this very proxy listens.
	// Such an endpoint is never dialled: what is forwarded there comes back,
	// and goes round for ever. It is asked before each connection. Nil: none
	// is.
	Own func(netip.AddrPort) bool
	// OwnRefused is told of each connection that Own prevented; nil: nobody
	// is.
	OwnRefused func(cluster string)
	// Event is told what happens at clusters; nil: nobody is. It is called from
	// many goroutines and must not block or call back.
	Event func(cluster string, e Event, n int)
	// HandshakeFailed is told of each TLS handshake with an endpoint that
	// failed; nil: nobody is. It is called from many goroutines.
	HandshakeFailed func(mtls.Reason)
}

// Set is all clusters of a proxy. It is safe for concurrent use.
type Set struct {
	id       mtls.Identity
	log      *slog.Logger
	resolver Resolver
	refused  func(mtls.Reason)
	own      func(netip.AddrPort) bool
	ownTold  func(cluster string)
	event    func(cluster string, e Event, n int)
	refs     sync.Map                             // cluster name → *Ref
	failed   atomic.Pointer[func(*Endpoint) bool] // see Fail

	mu      sync.Mutex // serialises updates; taken before that of a Cluster
	load    map[string]*config.LoadAssignment
	users   map[string]map[string]*Cluster // EDS name → clusters, by name
	closed  bool
	sweeper *sweeper
	knocker *knocker
	// clock returns the nanoseconds since the Set was made; tests set it.
	clock func() int64
}

// NewSet makes an empty Set. Close releases what it holds.
func NewSet(o Options) *Set {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HandshakeFailed == nil {
		o.HandshakeFailed = func(mtls.Reason) {}
	}
	if o.Own == nil {
		o.Own = func(netip.AddrPort) bool { return false }
	}
	if o.OwnRefused == nil {
		o.OwnRefused = func(string) {}
	}
	if o.Event == nil {
		o.Event = func(string, Event, int) {}
	}
	if o.Resolver == nil {
		o.Resolver = lookup.NewSystem()
	}

	made := time.Now()
	s := &Set{
		id: o.Identity, log: o.Logger, resolver: o.Resolver, refused: o.HandshakeFailed,
		own: o.Own, ownTold: o.OwnRefused, event: o.Event,
		load:    map[string]*config.LoadAssignment{},
		users:   map[string]map[string]*Cluster{},
		sweeper: newSweeper(time.Minute),
		clock:   func() int64 { return int64(time.Since(made)) },
	}
	s.knocker = newKnocker(s)
	return s
}

// now is the time by which doubts and slow starts are counted.
func (s *Set) now() int64 { return s.clock() }

// Ref is a lasting handle on the cluster of a name, whether it exists or not.
type Ref struct {
	name string
	p    atomic.Pointer[Cluster]
}

// Load returns the cluster as it is now, nil while there is none.
func (r *Ref) Load() *Cluster { return r.p.Load() }

// Name returns the cluster's name.
func (r *Ref) Name() string { return r.name }

// Get returns the cluster of a name, nil if there is none.
func (s *Set) Get(name string) *Cluster {
	if r, ok := s.refs.Load(name); ok {
		return r.(*Ref).Load()
	}
	return nil
}

// Ref returns the handle of a name. It is for names that come from
// configuration: handles are never dropped.
func (s *Set) Ref(name string) *Ref {
	if r, ok := s.refs.Load(name); ok {
		return r.(*Ref)
	}
	r, _ := s.refs.LoadOrStore(name, &Ref{name: name})
	return r.(*Ref)
}

// Apply adds a cluster or changes the one of that name, which keeps its endpoints
// and what is known of them. One that did not change is left alone. An error leaves
// everything as it was.
func (s *Set) Apply(c *config.Cluster) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	ref := s.Ref(c.Name)
	old := ref.Load()
	if s.closed || (old != nil && old.Config().Version == c.Version && c.Version != "") {
		return nil
	}

	if old != nil && old.kind == c.Type {
		next, err := newSettings(s, c)
		if err != nil {
			return err
		}
		s.forget(old)
		old.change(next)
		s.use(old)
		return nil
	}

	nc, err := newCluster(s, c)
	if err != nil {
		return err
	}
	s.forget(old)
	s.use(nc)

	// The new one takes over before the old one stops, so that at no time there
	// is none.
	nc.start()
	ref.p.Store(nc)
	if old != nil {
		old.stop()
	}
	return nil
}

// use enters a cluster as a user of its load assignment, and gives it that as far as
// it has come; else it keeps what it has.
func (s *Set) use(c *Cluster) {
	if c.kind != config.ClusterEDS {
		return
	}
	name := c.Config().EDSName
	if s.users[name] == nil {
		s.users[name] = map[string]*Cluster{}
	}
	s.users[name][c.name] = c
	if la := s.load[name]; la != nil {
		c.setLoad(la)
	}
}

// Remove takes a cluster away. Connections in use live on.
func (s *Set) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.refs.Load(name)
	if !ok {
		return
	}
	if old := r.(*Ref).p.Swap(nil); old != nil {
		s.forget(old)
		old.stop()
		s.event(name, EventGone, 0)
	}
}

// forget drops a cluster from the users of its load assignment. The assignment
// stays, for a cluster that takes the old one's place; DropEndpoints drops it.
func (s *Set) forget(c *Cluster) {
	if c == nil || c.kind != config.ClusterEDS {
		return
	}
	users := s.users[c.Config().EDSName]
	delete(users, c.name)
	if len(users) == 0 {
		delete(s.users, c.Config().EDSName)
	}
}

// ApplyEndpoints replaces the endpoints of the clusters that take this load
// assignment; no other cluster is touched.
func (s *Set) ApplyEndpoints(la *config.LoadAssignment) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.closed {
		return
	}

	if old := s.load[la.Name]; old != nil && old.Version == la.Version && la.Version != "" {
		return
	}

	s.load[la.Name] = la
	for _, c := range s.users[la.Name] {
		c.setLoad(la)
	}
}

// RemoveEndpoints leaves the clusters of a load assignment without endpoints.
func (s *Set) RemoveEndpoints(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.load, name)
	for _, c := range s.users[name] {
		c.setLoad(&config.LoadAssignment{Name: name})
	}
}

// DropEndpoints forgets load assignments that no cluster takes any more;
// discovery does not remove them once they are unsubscribed.
func (s *Set) DropEndpoints() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.load {
		if len(s.users[name]) == 0 {
			delete(s.load, name)
		}
	}
}

// EDSNames returns the load assignments that clusters take, in no order.
func (s *Set) EDSNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.users))
	for n := range s.users {
		names = append(names, n)
	}
	return names
}

// All calls f for every cluster, in no order.
func (s *Set) All(f func(*Cluster)) {
	s.refs.Range(func(_, r any) bool {
		if c := r.(*Ref).Load(); c != nil {
			f(c)
		}
		return true
	})
}

// Close removes all clusters and waits for their goroutines.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.All(func(c *Cluster) { s.Remove(c.name) })
	s.sweeper.stop()
	s.knocker.close()
}
