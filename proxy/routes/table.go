package routes

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// Provider hands out the slots in which route configurations (RDS) arrive, by name.
type Provider interface {
	Route(name string) *Slot
}

// Slot holds the table of one name as it changes over time. It is stable: who wants
// routes keeps the slot and loads from it per request. It is safe for concurrent use.
type Slot struct {
	table atomic.Pointer[Table]
}

// Inline returns a slot with the table of a configuration that does not change.
func Inline(rc *config.RouteConfig, clusters *upstream.Set) *Slot {
	s := &Slot{}
	s.Store(Compile(rc, clusters))
	return s
}

// Load returns the current table, nil before the first one came.
func (s *Slot) Load() *Table { return s.table.Load() }

// Store replaces the table. Requests under way keep the one that they began with.
func (s *Slot) Store(t *Table) { s.table.Store(t) }

// Table is a route configuration with its domains indexed. It is immutable.
type Table struct {
	source   *config.RouteConfig
	clusters *upstream.Set
	// domains finds virtual hosts by their domains as they are written, those with
	// a * among them.
	domains  index[*virtualHost]
	suffixes []wildcard // longest first
	prefixes []wildcard // longest first
	any      *virtualHost
	// addresses finds a virtual host by an address among its domains; it is empty
	// unless the configuration says that the destination decides.
	addresses index[*virtualHost]
	// apart are the virtual hosts that came by themselves (VHDS), by name.
	apart index[*virtualHost]
}

// Name returns the name of the configuration.
func (t *Table) Name() string { return t.source.Name }

// Config returns the configuration, without the virtual hosts that came by
// themselves.
func (t *Table) Config() *config.RouteConfig { return t.source }

// Apart lists the virtual hosts that came by themselves, in no order.
func (t *Table) Apart() []*config.VirtualHost {
	out := make([]*config.VirtualHost, 0, t.apart.n)
	for _, v := range t.apart.all {
		out = append(out, v.config)
	}
	return out
}

type wildcard struct {
	part string
	host *virtualHost
}

// virtualHost is one with its routes, which are compiled for the first request: most
// workloads call few of the hosts that they see, and a compiled one takes a kilobyte.
type virtualHost struct {
	config   *config.VirtualHost
	source   *config.RouteConfig
	clusters *upstream.Set
	routes   atomic.Pointer[[]*Route] // nil before the first request
}

// compiled returns the routes. Of several first requests, all get those of one.
func (v *virtualHost) compiled() []*Route {
	if routes := v.routes.Load(); routes != nil {
		return *routes
	}
	routes := make([]*Route, 0, len(v.config.Routes))
	for _, r := range v.config.Routes {
		routes = append(routes, compileRoute(r, v.config, v.source, v.clusters))
	}
	v.routes.CompareAndSwap(nil, &routes)
	return *v.routes.Load()
}

// Route is one compiled config.Route. That of a split is asked for with Choose.
type Route struct {
	*config.Route
	cluster *upstream.Ref // nil for a split, and where nothing is forwarded
	shares  []share       // of a split
	total   uint32        // of their weights
	// Timeout bounds the whole request, 0 for no bound.
	Timeout time.Duration
	// Retries is nil where there is no policy.
	Retries *Retries
	// Request and Response are the edits of all levels, in the order in which
	// they are made.
	Request, Response []Edit
	// Mirrors get copies of the requests.
	Mirrors []Mirror
}

// share is a part of a route's requests, and the route as it is for them.
type share struct {
	route  *Route
	weight uint32
}

// Compile indexes a route configuration.
func Compile(rc *config.RouteConfig, clusters *upstream.Set) *Table {
	n := 0
	for _, v := range rc.VirtualHosts {
		n += len(v.Domains)
	}
	e := (&Table{source: rc, clusters: clusters}).edit(n, 0)
	for _, v := range rc.VirtualHosts {
		host := e.host(v)
		for _, d := range v.Domains {
			e.claim(d, host)
		}
	}
	return e.done()
}

func compileRoute(r *config.Route, v *config.VirtualHost, rc *config.RouteConfig, clusters *upstream.Set) *Route {
	out := &Route{Route: r}
	wider := []*config.HeaderEdits{&r.Headers, &v.Headers, &rc.Headers}
	out.edit(wider)
	a := r.Action
	if a == nil {
		return out
	}

	out.Timeout = a.Timeout
	out.Retries = compileRetries(a.Retry)
	out.Mirrors = compileMirrors(a, clusters)
	if len(a.Weighted) == 0 {
		out.cluster = clusters.Ref(a.Cluster)
		return out
	}
	for i := range a.Weighted {
		w := &a.Weighted[i]
		one := *out
		one.shares, one.cluster = nil, clusters.Ref(w.Cluster)
		if !w.Headers.Empty() {
			one.edit(slices.Insert(slices.Clone(wider), 0, &w.Headers))
		}
		out.shares = append(out.shares, share{&one, w.Weight})
		out.total += w.Weight
	}
	return out
}

// Cluster is where the requests of the route go; nil when it forwards none, or is a split.
func (r *Route) Cluster() *upstream.Ref { return r.cluster }

// Choose returns the route as it is for one request: of a split, that of a share, drawn by weight.
func (r *Route) Choose() *Route {
	if len(r.shares) == 0 {
		return r
	}
	if r.total > 0 {
		at := rand.Uint32N(r.total)
		for i := range r.shares {
			if at < r.shares[i].weight {
				return r.shares[i].route
			}
			at -= r.shares[i].weight
		}
	}
	return r.shares[0].route
}

// Target is what routing looks at in a request, whatever its HTTP version.
type Target struct {
	Method, Authority, Path string // Path with its query
	// Scheme is http or https.
	Scheme string
	GRPC   bool
	// Header looks a field up by its lower-case name; several of the name are one
	// list, with commas between them, so that no condition is met, or evaded, by
	// one of them.
	Header func(lower string) (string, bool)
	// Destination is where the client wanted to connect to.
	Destination netip.Addr
}

// Find returns the route of a request, or nil.
func (t *Table) Find(q *Target) *Route {
	host := t.host(q.Authority)
	if host == t.any && t.source.ByDestination && q.Destination.IsValid() {
		// Nobody is known by this name, but the address may be somebody's:
		// an ingress controller in the mesh connects to a Service and keeps
		// the Host that its own client sent.
		if at := t.addresses.get(addressKey(q.Destination)); at != nil {
			host = at
		}
	}
	if host == nil {
		return nil
	}
	path, query, _ := strings.Cut(q.Path, "?")
	for _, r := range host.compiled() {
		if matches(&r.Match, q, path, query) {
			return r
		}
	}
	return nil
}

func (t *Table) host(authority string) *virtualHost {
	authority = withoutFinalDot(asciiLower(authority))
	if t.source.IgnorePortInHost {
		authority = WithoutPort(authority)
	}
	if h := t.domains.get(authority); h != nil {
		return h
	}
	for _, w := range t.suffixes {
		if len(authority) > len(w.part) && strings.HasSuffix(authority, w.part) {
			return w.host
		}
	}
	for _, w := range t.prefixes {
		if len(authority) > len(w.part) && strings.HasPrefix(authority, w.part) {
			return w.host
		}
	}
	return t.any
}
