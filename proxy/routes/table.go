package routes

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// Provider hands out the slots in which route configurations (RDS) arrive, by name.
type Provider interface {
	Route(name string) *config.RouteSlot
}

// Source follows one route configuration, inline or by RDS, and compiles it once per change. It is safe for
// concurrent use, and reading it takes no lock.
type Source struct {
	clusters *upstream.Set
	slot     *config.RouteSlot // nil for an inline configuration
	current  atomic.Pointer[Table]
	compile  sync.Mutex // held by the one that compiles, so that it is done once
}

// Inline returns the source of a configuration that does not change.
func Inline(rc *config.RouteConfig, clusters *upstream.Set) *Source {
	s := &Source{}
	s.current.Store(Compile(rc, clusters))
	return s
}

// Follow returns the source of the configuration that arrives in slot.
func Follow(slot *config.RouteSlot, clusters *upstream.Set) *Source {
	return &Source{clusters: clusters, slot: slot}
}

// Table returns the compiled form of the current configuration, or nil before the first has come.
func (r *Source) Table() *Table {
	t := r.current.Load()
	if r.slot == nil {
		return t
	}
	rc := r.slot.Load()
	if rc == nil || t != nil && t.source == rc {
		return t
	}
	r.compile.Lock()
	defer r.compile.Unlock()
	if t = r.current.Load(); t == nil || t.source != rc {
		t = Compile(rc, r.clusters)
		r.current.Store(t)
	}
	return t
}

// Table is a route configuration with its domains indexed and its clusters resolved. It is immutable.
type Table struct {
	source   *config.RouteConfig
	exact    map[string]*virtualHost
	suffixes []wildcard // longest first
	prefixes []wildcard // longest first
	any      *virtualHost
	// byAddress finds a virtual host by an address among its domains; nil
	// unless the configuration says that the destination decides.
	byAddress map[netip.Addr]*virtualHost
}

// Name returns the name of the configuration.
func (t *Table) Name() string { return t.source.Name }

type wildcard struct {
	part string
	host *virtualHost
}

type virtualHost struct {
	name   string
	routes []*Route
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
}

// share is a part of a route's requests, and the route as it is for them.
type share struct {
	route  *Route
	weight uint32
}

// Compile indexes a route configuration and looks its clusters up.
func Compile(rc *config.RouteConfig, clusters *upstream.Set) *Table {
	t := &Table{source: rc, exact: map[string]*virtualHost{}}
	for _, v := range rc.VirtualHosts {
		host := &virtualHost{name: v.Name}
		for _, r := range v.Routes {
			host.routes = append(host.routes, compileRoute(r, v, rc, clusters))
		}
		for _, d := range v.Domains {
			t.addDomain(d, host)
		}
	}
	if rc.ByDestination {
		t.indexAddresses()
	}
	longestFirst := func(w []wildcard) {
		sort.SliceStable(w, func(i, j int) bool { return len(w[i].part) > len(w[j].part) })
	}
	longestFirst(t.suffixes)
	longestFirst(t.prefixes)
	return t
}

func (t *Table) addDomain(d string, host *virtualHost) {
	switch {
	case d == "*":
		t.any = host
	case strings.HasPrefix(d, "*"):
		t.suffixes = append(t.suffixes, wildcard{d[1:], host})
	case strings.HasSuffix(d, "*"):
		t.prefixes = append(t.prefixes, wildcard{d[:len(d)-1], host})
	default:
		t.exact[d] = host
	}
}

// indexAddresses finds the domains that are addresses.
func (t *Table) indexAddresses() {
	t.byAddress = map[netip.Addr]*virtualHost{}
	for d, host := range t.exact {
		if a, err := netip.ParseAddr(strings.Trim(d, "[]")); err == nil {
			t.byAddress[a.Unmap()] = host
		}
	}
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
	if host == t.any && t.byAddress != nil {
		// Nobody is known by this name, but the address may be somebody's:
		// an ingress controller in the mesh connects to a Service and keeps
		// the Host that its own client sent.
		if at := t.byAddress[q.Destination]; at != nil {
			host = at
		}
	}
	if host == nil {
		return nil
	}
	path, query, _ := strings.Cut(q.Path, "?")
	for _, r := range host.routes {
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
	if h := t.exact[authority]; h != nil {
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
