package resources

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	origdstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"time"

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
		Name:             address + "_" + utoa(port),
		Address:          socketAddress(address, port),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		BindToPort:       wrapperspb.Bool(false),
	}
}

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

// listeners returns all outbound listeners of the scope, by name.
func (s *Source) listeners(txn model.ReadTxn, sc *scope) map[string]*serve.Resource {
	out := map[string]*serve.Resource{}
	claims := map[string][]claim{}
	shared := map[uint16]*wildcard{}
	for _, hp := range portsByAge(sc.hosts) {
		if hp.port.Number == outboundPort || hp.port.Number == inboundPort {
			continue
		}
		for _, addr := range s.ownAddresses(txn, hp.port) {
			name := addr + "_" + utoa(hp.port.Number)
			claims[name] = append(claims[name], claim{hp.host, hp.port, addr})
		}
		joinWildcard(shared, hp.host, hp.port)
	}
	for name, list := range claims {
		if told := tellApart(list); told != nil {
			out[name] = s.sharedListener(sc, told)
		} else {
			out[name] = s.addressListener(sc, list[0].host, list[0].port, list[0].address)
		}
	}
	for port, w := range shared {
		res := s.wildcardListener(sc, port, w)
		out[res.Name] = res
	}
	return out
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
// those of the service, or those of its endpoints when it is headless. HTTP
// needs none, for there the host header tells.
func (s *Source) ownAddresses(txn model.ReadTxn, p *hostPort) []string {
	if p.Protocol.IsHTTP() {
		return nil
	}
	var out []string
	if p.svc.Headless {
		if t, _, ok := s.store.Traits.Get(txn, s.store.Traits.ByKey(p.svc.Key())); ok {
			return t.Addresses
		}
		return nil
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

// addressListener is the listener of one address and port of a host.
func (s *Source) addressListener(sc *scope, h *host, p *hostPort, addr string) *serve.Resource {
	l := outboundListener(addr, p.Number)
	inputs := []any{sc.catalog.mesh}
	if e := h.listeners[l.Name]; e.same(inputs) {
		return e.res
	}
	cluster := clusterName(p.Number, "", h.name)
	tcp := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{tcpProxy(sc.catalog.mesh, cluster)}}
	if p.Protocol == model.Unknown {
		l.ListenerFilters = []*listenerv3.ListenerFilter{httpInspector()}
		l.ListenerFiltersTimeout = durationpb.New(sniffTimeout)
		l.ContinueOnListenerFiltersTimeout = true
		l.FilterChains = []*listenerv3.FilterChain{{
			FilterChainMatch: &listenerv3.FilterChainMatch{ApplicationProtocols: sniffedHTTP()},
			Filters:          []*listenerv3.Filter{outboundHTTP(sc.catalog.mesh, h.name+":"+utoa(p.Number))},
		}}
		l.DefaultFilterChain = tcp
	} else {
		l.FilterChains = []*listenerv3.FilterChain{tcp}
	}
	res := s.encode(l.Name, l)
	h.listeners[l.Name] = &entry{res: res, inputs: inputs}
	return res
}

// wildcard describes the listener for a port at any address: what several hosts
// want of it, together.
type wildcard struct {
	http     bool
	names    []nameChain
	prefixes []prefixChain
	// fallback is the cluster of a host that takes the whole port.
	fallback string
}

type nameChain struct {
	name    string // TLS server name, or *.suffix
	cluster string
}

type prefixChain struct {
	prefix  netip.Prefix
	name    string // TLS server name; empty: any connection to the prefix
	cluster string
}

// wildcardEntry is a built listener with its description.
type wildcardEntry struct {
	text string
	mesh *model.Mesh
	res  *serve.Resource
}

// joinWildcard adds what a port wants of the listener at any address.
func joinWildcard(shared map[uint16]*wildcard, h *host, p *hostPort) {
	cluster := clusterName(p.Number, "", h.name)
	at := func() *wildcard {
		w := shared[p.Number]
		if w == nil {
			w = &wildcard{}
			shared[p.Number] = w
		}
		return w
	}
	if sharesPort(p) {
		at().http = true
		if p.Protocol == model.Unknown && isServerName(h.name) {
			// It may speak TLS as well, whose server name tells.
			at().addName(nameChain{h.name, cluster})
		}
		return
	}
	if p.svc.Origin != model.FromServiceEntry {
		return
	}
	for _, a := range p.svc.Addresses {
		if !a.IsSingleIP() {
			chain := prefixChain{prefix: a, cluster: cluster}
			if p.Protocol == model.TLS && isServerName(h.name) {
				chain.name = h.name
			}
			at().addPrefix(chain)
		}
	}
	if len(p.svc.Addresses) > 0 {
		return
	}
	switch p.Protocol {
	case model.TLS:
		if !isServerName(h.name) {
			return
		}
		at().addName(nameChain{h.name, cluster})
	case model.TCP:
		if !p.svc.Allocated.IsValid() {
			if w := at(); w.fallback == "" {
				w.fallback = cluster
			}
		}
	}
}

// addName adds a host that is known by its server name.
func (w *wildcard) addName(c nameChain) {
	if !slices.ContainsFunc(w.names, func(o nameChain) bool { return o.name == c.name }) {
		w.names = append(w.names, c)
	}
}

// wildcardListener builds the listener of a port at any address, unless the one
// there is the same.
func (s *Source) wildcardListener(sc *scope, port uint16, w *wildcard) *serve.Resource {
	text := fmt.Sprint(*w)
	mesh := sc.catalog.mesh
	if e := sc.wildcard[port]; e != nil && e.text == text && e.mesh == mesh {
		return e.res
	}
	l := outboundListener(anyAddress, port)
	slices.SortFunc(w.names, func(a, b nameChain) int { return cmp.Compare(a.name, b.name) })
	slices.SortFunc(w.prefixes, func(a, b prefixChain) int {
		return cmp.Or(a.prefix.Compare(b.prefix), cmp.Compare(a.name, b.name))
	})
	for _, c := range w.prefixes {
		l.FilterChains = append(l.FilterChains, w.prefixChain(mesh, c))
	}
	looksAtNames := len(w.names) > 0 || slices.ContainsFunc(w.prefixes, w.needsName)
	if looksAtNames {
		l.ListenerFilters = append(l.ListenerFilters, tlsInspector())
	}
	for _, c := range w.names {
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: []string{c.name}},
			Filters:          []*listenerv3.Filter{tcpProxy(mesh, c.cluster)},
		})
	}
	if w.http {
		l.ListenerFilters = append(l.ListenerFilters, httpInspector())
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ApplicationProtocols: sniffedHTTP()},
			Filters:          []*listenerv3.Filter{outboundHTTP(mesh, utoa(port))},
		})
		// On a port declared as HTTP the client speaks first, however long
		// it takes.
		l.ListenerFiltersTimeout = durationpb.New(0)
	} else if looksAtNames {
		l.ListenerFiltersTimeout = durationpb.New(sniffTimeout)
		l.ContinueOnListenerFiltersTimeout = true
	}
	l.DefaultFilterChain = &listenerv3.FilterChain{
		Filters: []*listenerv3.Filter{tcpProxy(mesh, cmpOr(w.fallback, fallbackCluster(mesh)))},
	}
	res := s.encode(l.Name, l)
	sc.wildcard[port] = &wildcardEntry{text: text, mesh: mesh, res: res}
	return res
}
