package resources

import (
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	origdstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// Ports of the sidecar, and how long it waits for the client's first bytes.
const (
	outboundPort = 15001
	inboundPort  = 15006
	sniffTimeout = 100 * time.Millisecond
)

// anyAddress is where listeners for all destinations stand.
const anyAddress = "0.0.0.0"

// sniffedHTTP are the protocols that the HTTP inspector reports.
func sniffedHTTP() []string { return []string{"http/1.1", "h2c"} }

// outboundListener is a listener that connections reach by their original
// destination; it has no socket.
func outboundListener(address string, port uint16) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:             listenerName(address, port),
		Address:          socketAddress(address, port),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		BindToPort:       wrapperspb.Bool(false),
	}
}

func listenerName(address string, port uint16) string { return address + "_" + utoa(port) }

func listenerFilter(name string, config proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(config)}}
}

func httpInspector() *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.http_inspector", &httpinspv3.HttpInspector{})
}

func tlsInspector() *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.tls_inspector", &tlsinspv3.TlsInspector{})
}

func originalDst() *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.original_dst", &origdstv3.OriginalDst{})
}

// fallbackCluster is where traffic to unknown destinations goes.
func fallbackCluster(mesh *model.Mesh) string {
	if mesh.RegistryOnly {
		return blackHoleCluster
	}
	return passthroughCluster
}

// virtualOutbound is the one outbound listener with a socket.
func virtualOutbound(mesh *model.Mesh) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:             "virtualOutbound",
		Address:          socketAddress(anyAddress, outboundPort),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		UseOriginalDst:   wrapperspb.Bool(true),
		FilterChains: []*listenerv3.FilterChain{{
			Name:    "default",
			Filters: []*listenerv3.Filter{tcpProxy(mesh, fallbackCluster(mesh))},
		}},
	}
}

// destinations is what the ports of a scope's hosts want of listeners. It is
// immutable.
type destinations struct {
	// claims are those to one address and port, by the name of its listener.
	claims map[string][]claim
	// anywhere is what ports want of the listener at any address.
	anywhere map[uint16]*anywhere
}

// destinationsOf asks for a scope's destinations.
type destinationsOf struct{ scope *scope }

func (q destinationsOf) build(r *reader, _ *destinations) *destinations {
	s := q.scope.source
	rules, root := s.rules.get(r), s.mesh.get(r).RootNamespace
	sight := q.scope.sights.get(r)
	router := connectionRouter{
		namespace: q.scope.key.namespace, root: root, virtuals: s.connections.get(r), rules: rules, sight: sight,
	}
	d := &destinations{claims: map[string][]claim{}, anywhere: map[uint16]*anywhere{}}
	for _, hp := range portsByAge(sight.hosts) {
		if hp.port.Number == outboundPort || hp.port.Number == inboundPort {
			continue
		}
		rule := rules.find(q.scope.key.namespace, root, hp.host)
		if tcpPolicyOf(rule, "", hp.port.Number) == (tcpPolicy{}) {
			// A listener does not depend on anything else of it.
			rule = nil
		}
		routes := router.routes(hp.host, hp.port)
		for _, addr := range s.ownAddresses(r, hp.host, hp.port) {
			name := listenerName(addr, hp.port.Number)
			d.claims[name] = append(d.claims[name], claim{hp.host, hp.port, addr, rule, at(addr, routes)})
		}
		d.wantAnywhere(hp.host, hp.port, rule, routes)
	}
	for _, w := range d.anywhere {
		w.fillIn()
		w.sort()
	}
	return d
}

// listenersOf asks for all outbound listeners of a scope.
type listenersOf struct{ scope *scope }

func (q listenersOf) build(r *reader, _ *resourceSet) *resourceSet {
	sc := q.scope
	d := sc.destinations.get(r)
	out := map[string]*serve.Resource{}
	for name, list := range d.claims {
		c := list[0]
		if tellApart(list) != nil || len(c.routes) > 0 {
			out[name] = sc.shared.get(r, sharedListener{sc, c.address, c.port.Number})
		} else {
			out[name] = c.host.listeners.get(r, addressListener{c.host, c.port.Number, c.address, c.rule})
		}
	}

	// On a port that many share stands the listener at any address, whatever
	// else claims its name.
	for port := range d.anywhere {
		res := sc.wildcards.get(r, wildcardListener{sc, port})
		out[res.Name] = res
	}
	return &resourceSet{out}
}

// portOfHost is one port with its host.
type portOfHost struct {
	host *host
	port *hostPort
}

// portsByAge lists all ports, in the order in which they take an address that
// others want too: Kubernetes services first, then the oldest ServiceEntries, so
// that nobody gets before them by the choice of a name.
func portsByAge(hosts []*host) []portOfHost {
	var services, entries []portOfHost
	for _, h := range hosts {
		for i := range h.ports {
			p := portOfHost{h, &h.ports[i]}
			if p.port.svc.Origin == model.FromKubernetes {
				services = append(services, p)
			} else {
				entries = append(entries, p)
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b portOfHost) int { return a.port.svc.CompareAge(b.port.svc) })
	return slices.Concat(services, entries)
}

// ownAddresses are the addresses at which a port has a listener of its own:
// those of the service, or, when it is headless, those of its endpoints, of all
// clusters, that clients reach by them. HTTP needs none, for there the host header
// tells.
func (s *Source) ownAddresses(r *reader, h *host, p *hostPort) []string {
	if p.Protocol.IsHTTP() {
		return nil
	}

	var out []string
	if p.svc.Headless {
		members := s.members.get(r)
		for _, row := range h.backing(p) {
			if row.Origin != model.FromKubernetes {
				continue
			}
			t := readRow(r, &s.store.Traits, row.Key())
			if t == nil {
				continue
			}
			for i := range t.Members {
				if members.meets(h.vantage.cluster, row.Cluster, &t.Members[i]) {
					out = append(out, t.Members[i].Address)
				}
			}
		}
		// Clusters of one network have no address in common; others may.
		slices.Sort(out)
		return slices.Compact(out)
	}

	for _, a := range p.svc.Addresses {
		if a.IsSingleIP() {
			out = append(out, a.Addr().String())
		}
	}
	if p.svc.Allocated.IsValid() {
		out = append(out, p.svc.Allocated.String())
	}
	return out
}

// addressListener asks for the listener of one address and port of a host.
type addressListener struct {
	host    *host
	port    uint16
	address string
	// rule is the DestinationRule that counts, if it has a say here; else nil.
	rule *model.DestinationRule
}

func (q addressListener) build(r *reader, old *serve.Resource) *serve.Resource {
	mesh, p := q.host.source.mesh.get(r), q.host.port(q.port)
	l := outboundListener(q.address, q.port)
	tcp := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{toHost(q.host, q.port, q.rule).filter(mesh)}}
	if p.Protocol != model.Unknown {
		l.FilterChains = []*listenerv3.FilterChain{tcp}
		return q.host.source.encode(old, l.Name, l)
	}

	sniffHTTP(mesh, l, q.host, q.port)
	l.DefaultFilterChain = tcp
	return q.host.source.encode(old, l.Name, l)
}

// sniffHTTP takes HTTP to a port that declares nothing, which is known by its first bytes.
func sniffHTTP(mesh *model.Mesh, l *listenerv3.Listener, h *host, port uint16) {
	l.ListenerFilters = []*listenerv3.ListenerFilter{httpInspector()}
	l.ListenerFiltersTimeout = durationpb.New(sniffTimeout)
	l.ContinueOnListenerFiltersTimeout = true
	l.FilterChains = []*listenerv3.FilterChain{{
		FilterChainMatch: &listenerv3.FilterChainMatch{ApplicationProtocols: sniffedHTTP()},
		Filters:          []*listenerv3.Filter{outboundHTTP(mesh, h.name+":"+utoa(port))},
	}}
}

// toHost leads to a host, by the DestinationRule that counts for it, or nil.
func toHost(h *host, port uint16, rule *model.DestinationRule) tcpRoute {
	return tcpRoute{cluster: clusterName(port, "", h.name), policy: tcpPolicyOf(rule, "", port)}
}
