package resources

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

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

// sharedListener is the listener of an address and port of several hosts. A
// connection whose server name is none of theirs goes to the host that speaks no
// TLS, or where those to unknown destinations go: to none of the others.
func (s *Source) sharedListener(sc *scope, claims []claim) *serve.Resource {
	mesh := sc.catalog.mesh
	number := claims[0].port.Number
	l := outboundListener(claims[0].address, number)
	text := ""
	for _, c := range claims {
		text += fmt.Sprintf("%s %d;", c.host.name, c.port.Protocol)
	}
	if e := sc.shared[l.Name]; e != nil && e.text == text && e.mesh == mesh {
		return e.res
	}
	rest := fallbackCluster(mesh)
	l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
	// A client of TLS speaks first, however long it takes.
	l.ListenerFiltersTimeout = durationpb.New(0)
	for _, c := range claims {
		cluster := clusterName(number, "", c.host.name)
		if !c.byName() {
			rest = cluster
			l.ListenerFiltersTimeout = durationpb.New(sniffTimeout)
			l.ContinueOnListenerFiltersTimeout = true
			continue
		}
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: []string{c.host.name}},
			Filters:          []*listenerv3.Filter{tcpProxy(mesh, cluster)},
		})
	}
	l.DefaultFilterChain = &listenerv3.FilterChain{Filters: []*listenerv3.Filter{tcpProxy(mesh, rest)}}
	res := s.encode(l.Name, l)
	sc.shared[l.Name] = &wildcardEntry{text: text, mesh: mesh, res: res}
	return res
}

// addPrefix adds a host's claim to a prefix. Of those that speak no TLS the first
// has it.
func (w *wildcard) addPrefix(c prefixChain) {
	taken := slices.ContainsFunc(w.prefixes, func(o prefixChain) bool { return o.prefix == c.prefix && o.name == c.name })
	if !taken {
		w.prefixes = append(w.prefixes, c)
	}
}

// needsName tells whether the server name has to be looked at for a chain: a host
// that has a prefix for itself has all connections to it.
func (w *wildcard) needsName(c prefixChain) bool {
	return c.name != "" && slices.ContainsFunc(w.prefixes, func(o prefixChain) bool {
		return o.prefix == c.prefix && o.name != c.name
	})
}

func (w *wildcard) prefixChain(mesh *model.Mesh, c prefixChain) *listenerv3.FilterChain {
	fc := &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{PrefixRanges: []*corev3.CidrRange{{
			AddressPrefix: c.prefix.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(c.prefix.Bits())),
		}}},
		Filters: []*listenerv3.Filter{tcpProxy(mesh, c.cluster)},
	}
	if w.needsName(c) {
		fc.FilterChainMatch.ServerNames = []string{c.name}
	}
	return fc
}
