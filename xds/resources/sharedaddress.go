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

// claimants are the hosts that share an address and port, in the order of their
// filter chains.
type claimants struct{ list []claimant }

type claimant struct {
	host string
	to   tcpRoute
	// tls tells that the host is known by its server name.
	tls bool
}

// claimantsOf asks which hosts share a listener.
type claimantsOf struct {
	scope *scope
	name  string
}

func (q claimantsOf) build(r *reader, old *claimants) *claimants {
	out := &claimants{}
	for _, c := range tellApart(q.scope.destinations.get(r).claims[q.name]) {
		to := tcpRoute{clusterName(c.port.Number, "", c.host.name), tcpTimesOf(c.rule, c.port.Number)}
		out.list = append(out.list, claimant{c.host.name, to, c.byName()})
	}
	if old != nil && slices.Equal(old.list, out.list) {
		return old
	}
	return out
}

// sharedListener asks for the listener of an address and port of several hosts,
// by its name. A connection whose server name is none of theirs goes to the host
// that speaks no TLS, or where those to unknown destinations go: to none of the
// others.
type sharedListener struct {
	scope   *scope
	address string
	port    uint16
}

func (q sharedListener) build(r *reader, old *serve.Resource) *serve.Resource {
	mesh := q.scope.mesh.get(r)
	l := outboundListener(q.address, q.port)
	l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
	// A client of TLS speaks first, however long it takes.
	l.ListenerFiltersTimeout = durationpb.New(0)

	rest := tcpRoute{cluster: fallbackCluster(mesh)}
	for _, c := range q.scope.claimants.get(r, claimantsOf{q.scope, l.Name}).list {
		if !c.tls {
			rest = c.to
			l.ListenerFiltersTimeout = durationpb.New(sniffTimeout)
			l.ContinueOnListenerFiltersTimeout = true
			continue
		}
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: []string{c.host}},
			Filters:          []*listenerv3.Filter{c.to.filter(mesh)},
		})
	}
	l.DefaultFilterChain = &listenerv3.FilterChain{Filters: []*listenerv3.Filter{rest.filter(mesh)}}
	return q.scope.source.encode(old, l.Name, l)
}
