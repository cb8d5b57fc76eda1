package model

import (
	"cmp"
	"iter"
	"slices"
	"time"
)

// MeshGateway stands among the gateways of a VirtualService for all sidecars.
const MeshGateway = "mesh"

// VirtualService is one object of that kind.
type VirtualService struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	Created   time.Time
	// Hosts are fully qualified, or wildcards such as *.example.com; a delegate has none.
	Hosts []string
	// Gateways are those whose requests it routes, as NAMESPACE/NAME, and
	// MeshGateway; none: MeshGateway alone.
	Gateways []string
	// HTTP are the routes of requests, TLS those of TLS connections that nobody ends
	// before, and TCP those of all others; the first that is satisfied is taken.
	HTTP     []HTTPRoute
	TLS, TCP []ConnectionRoute
	ExportTo []string
	// ExportByDefault tells that the object does not say who sees it.
	ExportByDefault bool
}

// VisibleIn tells whether the object counts for clients of the namespace; byDefault
// is the mesh's word for objects that do not say so.
func (v *VirtualService) VisibleIn(namespace string, byDefault Exports) bool {
	if v.ExportByDefault {
		return byDefault.to(v.Namespace, namespace)
	}
	return len(v.ExportTo) == 0 || slices.Contains(v.ExportTo, namespace)
}

// For tells whether the object routes requests of the gateway.
func (v *VirtualService) For(gateway string) bool {
	if len(v.Gateways) == 0 {
		return gateway == MeshGateway
	}
	return slices.Contains(v.Gateways, gateway)
}

// RoutesConnections tells whether the object routes anything but HTTP requests.
func (v *VirtualService) RoutesConnections() bool { return len(v.TLS)+len(v.TCP) > 0 }

// Destinations are those of all routes, mirrors among them.
func (v *VirtualService) Destinations() iter.Seq[*WeightedDestination] {
	return func(yield func(*WeightedDestination) bool) {
		for i := range v.HTTP {
			for d := range v.HTTP[i].AllDestinations() {
				if !yield(d) {
					return
				}
			}
		}
		for d := range v.ConnectionDestinations() {
			if !yield(d) {
				return
			}
		}
	}
}

// ConnectionDestinations are those of the routes of connections.
func (v *VirtualService) ConnectionDestinations() iter.Seq[*WeightedDestination] {
	return func(yield func(*WeightedDestination) bool) {
		for _, routes := range [][]ConnectionRoute{v.TLS, v.TCP} {
			for i := range routes {
				for j := range routes[i].Destinations {
					if !yield(&routes[i].Destinations[j]) {
						return
					}
				}
			}
		}
	}
}

// CompareAge orders by the object's creation, which nobody can choose, then by key: the
// older has the hosts that two of them name.
func (v *VirtualService) CompareAge(other *VirtualService) int {
	return cmp.Or(v.Created.Compare(other.Created), cmp.Compare(v.Key(), other.Key()))
}

// Key is the primary key.
func (v *VirtualService) Key() string { return key(string(v.Cluster), v.Namespace, v.Name) }

// ReadFrom is the cluster that the row was read from.
func (v *VirtualService) ReadFrom() ClusterID { return v.Cluster }

// HTTPRoute is what becomes of requests that satisfy one of its conditions. Either
// there are Destinations, or one of Redirect and Direct is set.
type HTTPRoute struct {
	Name string
	// Matches are the conditions; none is satisfied by every request.
	Matches []HTTPMatch

	Destinations []WeightedDestination
	Redirect     *HTTPRedirect
	Direct       *DirectResponse
	// Delegate is set in place of those where another object says what becomes of the
	// requests.
	Delegate *Delegate

	Rewrite *HTTPRewrite
	Headers HeaderEdits
	// Timeout bounds the whole request; 0: nothing does.
	Timeout time.Duration
	// Retry is nil where the mesh's holds.
	Retry *RetryPolicy
	// Fault is what clients are made to suffer; nil: nothing.
	Fault *HTTPFault
	// CORS is nil where the proxy has no say in it.
	CORS *CORSPolicy
	// Mirrors are sent copies of the requests.
	Mirrors []HTTPMirror
}

// AllDestinations are those that requests of the route are led to, and those that get copies.
func (r *HTTPRoute) AllDestinations() iter.Seq[*WeightedDestination] {
	return func(yield func(*WeightedDestination) bool) {
		for i := range r.Destinations {
			if !yield(&r.Destinations[i]) {
				return
			}
		}
		for i := range r.Mirrors {
			if !yield(&r.Mirrors[i].To) {
				return
			}
		}
	}
}

// HTTPMirror is sent a copy of a share of a route's requests; what it answers is nobody's
// business.
type HTTPMirror struct {
	// To has neither a weight nor edits.
	To    WeightedDestination
	Share Share
}

// HTTPMatch is a condition on a request, all parts of which must hold.
type HTTPMatch struct {
	Name string
	// URI is about the path without its query; nil: any.
	URI        *StringMatch
	IgnoreCase bool // of the path
	// Port and Namespace are those that the client calls, and is in; zero: any.
	Port      uint16
	Namespace string
	// Labels are those that the client's pod has; none: any.
	Labels map[string]string
	// Gateways are those of the object's for whose requests the condition is made;
	// none: all of them.
	Gateways []string
	// Fields are header fields, and the parts of the request that stand beside
	// them under the names :method, :scheme and :authority.
	Fields []FieldMatch
	Query  []FieldMatch
}

// FieldMatch is a condition on a header field or a parameter of the query.
type FieldMatch struct {
	Name string
	// Value is nil when it is enough that the field is there.
	Value *StringMatch
	// Not turns the condition round.
	Not bool
}

// StringKind is how a StringMatch compares.
type StringKind uint8

// The kinds. A regular expression (RE2) has to match the whole of the text.
const (
	StringExact StringKind = iota
	StringPrefix
	StringRegex
)

// StringMatch is a condition on a text.
type StringMatch struct {
	Kind  StringKind
	Value string
}

// WeightedDestination is one of those that share a route's requests.
type WeightedDestination struct {
	// Namespace is that of the delegate that names it; empty: of the VirtualService.
	Namespace string

	Host   string // fully qualified
	Subset string
	// Port is 0 when the object does not say it.
	Port    uint16
	Weight  uint32
	Headers HeaderEdits
}

// HTTPRewrite changes a request on its way.
type HTTPRewrite struct {
	// URI takes the place of the matched prefix, or, where none was matched, of
	// the path.
	URI string
	// Regex and Substitution change what matches in the path; \1 is the first
	// group.
	Regex, Substitution string
	Authority           string
}

// HTTPRedirect sends the client elsewhere. What is empty stays as it was.
type HTTPRedirect struct {
	Status    int
	URI       string
	Prefix    string // in place of the matched prefix
	Authority string
	Scheme    string
	Port      uint32
	// KeepPort names the port that the client called.
	KeepPort bool
}

// MaxDirectBody is how large the body of a DirectResponse may be, in bytes: package
// api refuses larger ones.
const MaxDirectBody = 1 << 20

// DirectResponse answers without asking anybody.
type DirectResponse struct {
	Status uint32
	Body   []byte // of MaxDirectBody at most
}

// HeaderEdits changes the header fields of requests and answers.
type HeaderEdits struct{ Request, Response HeaderEdit }

// HeaderEdit changes header fields: first some are removed, then others set or
// added to, in the order of their names.
type HeaderEdit struct {
	Remove   []string
	Set, Add []HeaderField
}

// HeaderField is one with its value.
type HeaderField struct{ Name, Value string }
