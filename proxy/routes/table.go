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

// Route is one compiled config.Route.
type Route struct {
	*config.Route
	refs  []weightedRef
	total uint32
	// Timeout bounds the whole request, 0 for no bound.
	Timeout time.Duration
	// Retries is nil where there is no policy.
	Retries *Retries
	// Request and Response are the edits of all levels, in the order in which
	// they are made; DropRequest and DropResponse come before them, in lower case.
	Request, Response         []config.HeaderEdit
	DropRequest, DropResponse []string
}

type weightedRef struct {
	ref    *upstream.Ref
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
	// The most specific level is applied last, so that its values win.
	for _, level := range []*config.HeaderEdits{&rc.Headers, &v.Headers, &r.Headers} {
		out.Request = mergeEdits(out.Request, level.RequestAdd)
		out.Response = mergeEdits(out.Response, level.ResponseAdd)
		out.DropRequest = append(out.DropRequest, lower(level.RequestRemove)...)
		out.DropResponse = append(out.DropResponse, lower(level.ResponseRemove)...)
	}
	a := r.Action
	if a == nil {
		return out
	}
	out.Timeout = a.Timeout
	out.Retries = compileRetries(a.Retry)
	if len(a.Weighted) == 0 {
		out.refs = []weightedRef{{clusters.Ref(a.Cluster), 1}}
		out.total = 1
	}
	for _, w := range a.Weighted {
		out.refs = append(out.refs, weightedRef{clusters.Ref(w.Cluster), w.Weight})
		out.total += w.Weight
	}
	return out
}

// mergeEdits appends the edits of a more specific level, whose values replace those before them unless they say
// otherwise.
func mergeEdits(edits, more []config.HeaderEdit) []config.HeaderEdit {
	for _, e := range more {
		same := func(o config.HeaderEdit) bool { return strings.EqualFold(o.Name, e.Name) }
		switch {
		case e.IfAbsent && slices.ContainsFunc(edits, same):
			continue
		case !e.Append && !e.IfAbsent:
			edits = slices.DeleteFunc(edits, same)
		}
		edits = append(edits, e)
	}
	return edits
}

func lower(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(n)
	}
	return out
}

// Cluster picks the cluster reference for one request.
func (r *Route) Cluster() *upstream.Ref {
	if len(r.refs) == 1 {
		return r.refs[0].ref
	}
	if r.total == 0 {
		return r.refs[0].ref
	}
	at := rand.Uint32N(r.total)
	for i := range r.refs {
		if at < r.refs[i].weight {
			return r.refs[i].ref
		}
		at -= r.refs[i].weight
	}
	return r.refs[len(r.refs)-1].ref
}

// Target is what routing looks at in a request, whatever its HTTP version.
type Target struct {
	Method, Authority, Path string // Path with its query
	GRPC                    bool
	// Header looks a field up by its lower-case name.
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
	path := q.Path
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	for _, r := range host.routes {
		if matches(&r.Match, q, path) {
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
