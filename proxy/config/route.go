package config

import (
	"regexp"
	"time"
)

// RouteConfig is envoy.config.route.v3.RouteConfiguration.
type RouteConfig struct {
	Name         string
	VirtualHosts []*VirtualHost
	// HostsApart tells that there are more virtual hosts, which come as resources
	// of their own (vhds).
	HostsApart bool
	// IgnorePortInHost drops the port of the Host header before matching.
	IgnorePortInHost bool
	// ByDestination sends a request whose Host only the domain "*" covers to
	// the virtual host that lists the address that the client connected to,
	// if there is one (metadata isthmus: {unknown_host: original_destination}).
	ByDestination bool
	Headers       HeaderEdits
	Version       string
}

// VirtualHost is envoy.config.route.v3.VirtualHost. As a resource of its own it is named
// ROUTECONFIG/HOST. Domains are lower case
// and of the forms "host", "*.suffix", "prefix.*" and "*".
type VirtualHost struct {
	Name    string
	Domains []string
	Routes  []*Route
	Headers HeaderEdits
}

// Route is one match and what follows. Exactly one of Action, Direct and
// Redirect is set.
type Route struct {
	Name     string
	Match    RouteMatch
	Action   *RouteAction
	Direct   *DirectResponse
	Redirect *Redirect
	Headers  HeaderEdits
	// Fault is what some of its requests suffer; nil: nothing.
	Fault *Fault
	// CORS is nil where the proxy has no say in it.
	CORS *CORS
}

// RouteMatch is envoy.config.route.v3.RouteMatch. Exactly one of Prefix,
// Path, SeparatedPrefix and Regex is set; Prefix "/" matches everything.
type RouteMatch struct {
	Prefix          string
	Path            string
	SeparatedPrefix string // path_separated_prefix: /a matches /a and /a/b, not /ab
	Regex           *regexp.Regexp
	IgnoreCase      bool
	GRPC            bool // only gRPC requests
	Headers         []HeaderMatch
	Query           []QueryMatch
}

// QueryMatch is envoy.config.route.v3.QueryParameterMatcher. Parameters are compared
// as they stand, percent-encoded or not; with Present set only that there is one.
type QueryMatch struct {
	Name    string
	Present bool
	Value   StringMatch
}

// HeaderMatch is envoy.config.route.v3.HeaderMatcher. Name is lower case
// (":authority", ":method", ":path" and ":scheme" are names too). With Present set only
// the presence is checked.
type HeaderMatch struct {
	Name    string
	Present bool
	Value   StringMatch
	// Invert turns the result round; MissingIsEmpty treats an absent header
	// as an empty one.
	Invert         bool
	MissingIsEmpty bool
}

// RouteAction sends the request to a cluster.
type RouteAction struct {
	Cluster  string
	Weighted []RouteShare // instead of Cluster
	// NotFoundStatus is sent when the cluster does not exist (default 503).
	NotFoundStatus int
	// Timeout bounds the time from the end of the request to the end of the
	// response. Zero: none; not set it is 15 s, as in Envoy.
	Timeout       time.Duration
	IdleTimeout   time.Duration
	IdleSet       bool
	PrefixRewrite string
	RegexRewrite  *RegexRewrite
	HostRewrite   string
	AutoHost      bool // rewrite Host to the endpoint's name (DNS clusters)
	Retry         *RetryPolicy
	// Hash is what of a request decides which endpoint it goes to, where the cluster goes
	// by that.
	Hash []HashPolicy
	// Mirrors get copies of the requests.
	Mirrors []Mirror
}

// RouteShare is envoy.config.route.v3.WeightedCluster.ClusterWeight: the cluster of a
// share of a route's requests, and what is changed in those.
type RouteShare struct {
	Cluster string
	Weight  uint32
	Headers HeaderEdits
}

// RegexRewrite is envoy.type.matcher.v3.RegexMatchAndSubstitute: every match of the
// pattern in the path becomes the substitution, which is in the syntax of Go's
// regexp.Expand.
type RegexRewrite struct {
	Pattern      *regexp.Regexp
	Substitution string
}

// RetryPolicy is envoy.config.route.v3.RetryPolicy as far as it is honoured.
type RetryPolicy struct {
	On            []string // retry_on, split: connect-failure, refused-stream, unavailable, 5xx, ...
	Statuses      []int
	Attempts      uint32
	PerTryTimeout time.Duration
	// BackOff bounds the pause before the first retry, which doubles with each
	// further one up to MaxBackOff; 0: the proxy's defaults.
	BackOff, MaxBackOff time.Duration
	// LeavePriorities is after how many tries the priorities of those are left
	// alone (retry_priority previous_priorities); 0: the proxy's default.
	LeavePriorities uint32
}

// DirectResponse answers without an upstream.
type DirectResponse struct {
	Status int
	Body   string
}

// Redirect is envoy.config.route.v3.RedirectAction.
type Redirect struct {
	Status int
	HTTPS  bool
	Scheme string
	Host   string
	Port   uint32
	Path   string
	Prefix string
	Strip  bool // drop the query
}

// HeaderEdits adds and removes headers at one level: first it removes. As in Envoy,
// that of the share comes first, then those of the route, the virtual host and the
// configuration, so that the widest has the last word.
type HeaderEdits struct {
	RequestAdd     []HeaderEdit
	RequestRemove  []string
	ResponseAdd    []HeaderEdit
	ResponseRemove []string
}

// Empty tells whether there is nothing to do.
func (h *HeaderEdits) Empty() bool {
	return len(h.RequestAdd)+len(h.RequestRemove)+len(h.ResponseAdd)+len(h.ResponseRemove) == 0
}

// HeaderEdit is one envoy.config.core.v3.HeaderValueOption with a literal
// value.
type HeaderEdit struct {
	Name   string
	Value  string
	Append bool // append to, rather than replace, what is there
	// IfAbsent adds only when the header is missing.
	IfAbsent bool
}
