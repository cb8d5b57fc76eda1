package httpproxy

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

// RouteProvider hands out the slots in which route configurations (RDS) arrive, by name.
type RouteProvider interface {
	Route(name string) *config.RouteSlot
}

// routes follows one route configuration, inline or by RDS, and compiles it once per change. Reading it takes
// no lock.
type routes struct {
	clusters *upstream.Set
	slot     *config.RouteSlot // nil for an inline configuration
	current  atomic.Pointer[routeTable]
	compile  sync.Mutex
}

// table returns the compiled form of the current configuration, or nil before the first has come.
func (r *routes) table() *routeTable {
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
		t = compileRoutes(rc, r.clusters)
		r.current.Store(t)
	}
	return t
}

// routeTable is a route configuration with its domains indexed and its clusters resolved. It is immutable.
type routeTable struct {
	source   *config.RouteConfig
	exact    map[string]*virtualHost
	suffixes []wildcard // longest first
	prefixes []wildcard // longest first
	any      *virtualHost
	// byAddress finds a virtual host by an address among its domains; nil
	// unless the configuration says that the destination decides.
	byAddress map[netip.Addr]*virtualHost
}

type wildcard struct {
	part string
	host *virtualHost
}

type virtualHost struct {
	name   string
	routes []*route
}

// route is one compiled config.Route.
type route struct {
	*config.Route
	refs                      []weightedRef
	total                     uint32
	timeout                   time.Duration
	retries                   *retries // nil: no policy
	request, response         []config.HeaderEdit
	dropRequest, dropResponse []string
}

type weightedRef struct {
	ref    *upstream.Ref
	weight uint32
}

func compileRoutes(rc *config.RouteConfig, clusters *upstream.Set) *routeTable {
	t := &routeTable{source: rc, exact: map[string]*virtualHost{}}
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

func (t *routeTable) addDomain(d string, host *virtualHost) {
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
func (t *routeTable) indexAddresses() {
	t.byAddress = map[netip.Addr]*virtualHost{}
	for d, host := range t.exact {
		if a, err := netip.ParseAddr(strings.Trim(d, "[]")); err == nil {
			t.byAddress[a.Unmap()] = host
		}
	}
}

func compileRoute(r *config.Route, v *config.VirtualHost, rc *config.RouteConfig, clusters *upstream.Set) *route {
	out := &route{Route: r}
	// The most specific level is applied last, so that its values win.
	for _, level := range []*config.HeaderEdits{&rc.Headers, &v.Headers, &r.Headers} {
		out.request = mergeEdits(out.request, level.RequestAdd)
		out.response = mergeEdits(out.response, level.ResponseAdd)
		out.dropRequest = append(out.dropRequest, lower(level.RequestRemove)...)
		out.dropResponse = append(out.dropResponse, lower(level.ResponseRemove)...)
	}
	a := r.Action
	if a == nil {
		return out
	}
	out.timeout = a.Timeout
	out.retries = compileRetries(a.Retry)
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

// cluster picks the cluster reference for one request.
func (r *route) cluster() *upstream.Ref {
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

// target is what routing looks at in a request, whatever its HTTP version.
type target struct {
	method, authority, path string // path with its query
	grpc                    bool
	header                  func(lower string) (string, bool)
	// destination is where the client wanted to connect to.
	destination netip.Addr
}

// find returns the route of a request, or nil.
func (t *routeTable) find(q *target) *route {
	host := t.host(q.authority)
	if host == t.any && t.byAddress != nil {
		// Nobody is known by this name, but the address may be somebody's:
		// an ingress controller in the mesh connects to a Service and keeps
		// the Host that its own client sent.
		if at := t.byAddress[q.destination]; at != nil {
			host = at
		}
	}
	if host == nil {
		return nil
	}
	path := q.path
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

func (t *routeTable) host(authority string) *virtualHost {
	authority = withoutFinalDot(asciiLower(authority))
	if t.source.IgnorePortInHost {
		authority = withoutPort(authority)
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

// asciiLower allocates only when there is an upper-case letter.
func asciiLower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}

func withoutPort(authority string) string {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || strings.IndexByte(authority[i:], ']') >= 0 {
		return authority
	}
	return authority[:i]
}

func matches(m *config.RouteMatch, q *target, path string) bool {
	if m.GRPC && !q.grpc {
		return false
	}
	switch {
	case m.Regex != nil:
		if !m.Regex.MatchString(path) {
			return false
		}
	case m.Path != "":
		if !equalPath(path, m.Path, m.IgnoreCase) {
			return false
		}
	case m.SeparatedPrefix != "":
		n := len(m.SeparatedPrefix)
		if !hasPrefix(path, m.SeparatedPrefix, m.IgnoreCase) || len(path) > n && path[n] != '/' {
			return false
		}
	case m.Prefix != "" && m.Prefix != "/":
		if !hasPrefix(path, m.Prefix, m.IgnoreCase) {
			return false
		}
	}
	for i := range m.Headers {
		if !matchHeader(&m.Headers[i], q) {
			return false
		}
	}
	return true
}

func equalPath(path, want string, ignoreCase bool) bool {
	return path == want || ignoreCase && strings.EqualFold(path, want)
}

func hasPrefix(path, prefix string, ignoreCase bool) bool {
	return len(path) >= len(prefix) && equalPath(path[:len(prefix)], prefix, ignoreCase)
}

func matchHeader(m *config.HeaderMatch, q *target) bool {
	var value string
	ok := true
	switch m.Name {
	case ":method":
		value = q.method
	case ":path":
		value = q.path
	case ":authority", "host":
		value = q.authority
	default:
		value, ok = q.header(m.Name)
	}
	var match bool
	switch {
	case m.Present:
		match = ok
	case !ok && !m.MissingIsEmpty:
		return false // as in Envoy, inverted or not
	default:
		match = m.Value.Match(value)
	}
	return match != m.Invert
}
