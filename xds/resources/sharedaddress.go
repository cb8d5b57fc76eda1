package resources

import (
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// Several ServiceEntries may have one address and port. Hosts that speak TLS are
// then told apart by the server name; of those that do not, the first has the
// address.

// claim is one host's claim to an address and port.
type claim struct {
	host    *host
	port    *hostPort
	address string
	// rule is the DestinationRule that counts for the host, if it has a say in
	// its listener; else nil.
	rule *model.DestinationRule
	// routes are those of connections to the address that need not go to the host.
	routes []connectionRoute
}

// byName tells whether connections to the host can be known by the server name.
func (c claim) byName() bool { return c.port.Protocol == model.TLS && isServerName(c.host.name) }

// isServerName tells whether a filter chain can match on the name: a full one, or
// one that begins with "*.". Of a name such as *-api.example.com the proxy, like
// Envoy, would refuse the whole listener, with all others on it.
func isServerName(name string) bool { return !strings.Contains(strings.TrimPrefix(name, "*."), "*") }

// tellApart returns those of several claims that can be told apart: all that
// speak TLS, and the first that does not, last. It is nil when the first claim
// has the address for itself, as a Kubernetes service always does.
func tellApart(claims []claim) []claim {
	if len(claims) < 2 || claims[0].port.svc.Origin == model.FromKubernetes {
		return nil
	}
	var told []claim
	for _, c := range claims {
		if c.byName() {
			told = append(told, c)
		}
	}
	if len(told) == 0 {
		return nil
	}
	if i := slices.IndexFunc(claims, func(c claim) bool { return !c.byName() }); i >= 0 {
		told = append(told, claims[i])
	} else if len(told) < 2 {
		return nil
	}
	return told
}

// claimants are the hosts that share an address and port, or one that has it, by the routes
// of connections that there are for them.
type claimants struct {
	// routes are in the order of their filter chains. One without names is the last.
	routes []connectionRoute
	// sniffed has HTTP, which is known by its first bytes; nil: nobody.
	sniffed *host
	// serverFirst tells that clients may wait for the server to speak.
	serverFirst bool
}

// claimantsOf asks for the routes of a listener.
type claimantsOf struct {
	scope *scope
	name  string
}

func (q claimantsOf) build(r *reader, old *claimants) *claimants {
	claims := q.scope.destinations.get(r).claims[q.name]
	out := &claimants{}
	told := tellApart(claims)
	if told == nil && len(claims) > 0 {
		told = claims[:1]
	}

	for _, c := range told {
		own := connectionRoute{to: toHost(c.host, c.port.Number, c.rule)}
		routes := c.routes
		if len(told) > 1 {
			routes = namedLike(c.host.name, routes)
			if c.byName() {
				own.names = []string{c.host.name}
			}
		} else if c.port.Protocol == model.Unknown {
			out.sniffed = c.host
		}
		out.routes = append(append(out.routes, routes...), own)
		out.serverFirst = out.serverFirst || c.port.Protocol != model.TLS
	}
	out.routes = reachable(out.routes)

	if old != nil && slices.EqualFunc(old.routes, out.routes, connectionRoute.equal) &&
		old.sniffed == out.sniffed && old.serverFirst == out.serverFirst {
		return old
	}
	return out
}

// sharedListener asks for the listener of an address and port of several hosts, or of one
// whose connections are routed. Of several, a connection whose server name is none of theirs
// goes to the host that speaks no TLS, or where those to unknown destinations go: to none
// of the others.
type sharedListener struct {
	scope   *scope
	address string
	port    uint16
}

func (q sharedListener) build(r *reader, old *serve.Resource) *serve.Resource {
	mesh := q.scope.mesh.get(r)
	l := outboundListener(q.address, q.port)
	c := q.scope.claimants.get(r, claimantsOf{q.scope, l.Name})
	if c.sniffed != nil {
		sniffHTTP(mesh, l, c.sniffed, q.port)
	}

	rest := tcpRoute{cluster: fallbackCluster(mesh)}
	named := false
	for _, route := range c.routes {
		if len(route.names) == 0 {
			rest = route.to
			continue
		}
		named = true
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: route.names},
			Filters:          []*listenerv3.Filter{route.to.filter(mesh)},
		})
	}
	l.DefaultFilterChain = &listenerv3.FilterChain{Filters: []*listenerv3.Filter{rest.filter(mesh)}}

	if named {
		l.ListenerFilters = append([]*listenerv3.ListenerFilter{tlsInspector()}, l.ListenerFilters...)
		// A client of TLS speaks first, however long it takes.
		l.ListenerFiltersTimeout = durationpb.New(0)
		if c.serverFirst {
			l.ListenerFiltersTimeout = durationpb.New(sniffTimeout)
			l.ContinueOnListenerFiltersTimeout = true
		}
	}
	return q.scope.source.encode(old, l.Name, l)
}
