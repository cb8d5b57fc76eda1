package resources

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
)

// inboundWait is how long a sidecar waits for the first bytes of a client that
// may be plaintext and may let the server speak first. It outlasts one
// retransmission, so that a TLS client on a lossy link is not taken for such.
const inboundWait = 500 * time.Millisecond

// inbound is what a sidecar accepts: its ports and their policy. It is
// immutable, and equal texts mean equal values.
type inbound struct {
	ports []inboundPortSpec // sorted by number
	// mode holds for all other ports.
	mode model.MTLSMode
	// access are the AuthorizationPolicies that hold for the workload.
	access []*accessPolicy
	// tokens are the RequestAuthentications that do.
	tokens []*authentication
}

type inboundPortSpec struct {
	number   uint16 // of the workload
	protocol model.Protocol
	mode     model.MTLSMode
	// services are those behind the port; none for a port that only a
	// policy names.
	services []*model.Service
}

// newInbound finds the ports of a workload: those that services select.
func newInbound(w *model.Workload, services []*model.Service, peers *peerPolicy) *inbound {
	in := &inbound{mode: peers.mode(0)}
	byPort := map[uint16]*inboundPortSpec{}
	for _, svc := range services {
		if len(svc.Selector) == 0 || !matchLabels(svc.Selector, w.Labels) {
			continue
		}
		for i := range svc.Ports {
			p := &svc.Ports[i]
			number := p.Target
			if p.TargetName != "" {
				number = w.Ports[p.TargetName]
			}
			if number == 0 {
				// The pod has no port of that name.
				continue
			}

			spec := byPort[number]
			if spec == nil {
				spec = &inboundPortSpec{number: number, protocol: p.Protocol, mode: peers.mode(number)}
				byPort[number] = spec
			}
			if spec.protocol == model.Unknown {
				// Who declares something knows better than who does not.
				spec.protocol = p.Protocol
			}
			if !slices.Contains(spec.services, svc) {
				spec.services = append(spec.services, svc)
			}
		}
	}

	for _, number := range peers.ports() {
		if byPort[number] == nil {
			byPort[number] = &inboundPortSpec{number: number, protocol: model.Unknown, mode: peers.mode(number)}
		}
	}

	for _, spec := range byPort {
		in.ports = append(in.ports, *spec)
	}
	slices.SortFunc(in.ports, func(a, b inboundPortSpec) int { return cmp.Compare(a.number, b.number) })
	return in
}

// text describes the value completely.
func (in *inbound) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", in.mode)
	for _, p := range in.ports {
		fmt.Fprintf(&b, ";%d,%s,%d", p.number, p.protocol, p.mode)
		for _, svc := range p.services {
			fmt.Fprintf(&b, ",%s/%s/%s", svc.Host, svc.Namespace, svc.Name)
		}
	}
	b.WriteString(accessText(in.access))
	b.WriteString(authenticationText(in.tokens))
	return b.String()
}

func inboundClusterName(port uint16) string { return "inbound|" + utoa(port) + "||" }

// clusters are the ways to the application: to the address that was called,
// from an address that marks the traffic as delivered.
func (in *inbound) clusters(mesh *model.Mesh) []*clusterv3.Cluster {
	out := []*clusterv3.Cluster{inboundCluster(mesh, inboundPassthroughCluster, model.Unknown, nil)}
	for _, p := range in.ports {
		out = append(out, inboundCluster(mesh, inboundClusterName(p.number), p.protocol, p.services))
	}
	return out
}

func inboundCluster(mesh *model.Mesh, name string, protocol model.Protocol, services []*model.Service) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                          name,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:                      clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:                durationpb.New(connectTimeout(mesh)),
		TypedExtensionProtocolOptions: httpOptions(protocol, nil, false),
		UpstreamBindConfig: &corev3.BindConfig{SourceAddress: &corev3.SocketAddress{
			Address: "127.0.0.6", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 0},
		}},
	}
	if len(services) > 0 {
		c.Metadata = serviceMetadata(services, "")
	}
	return c
}

// listener is the one inbound listener, with a group of filter chains per port.
func (in *inbound) listener(mesh *model.Mesh) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:             "virtualInbound",
		Address:          socketAddress(anyAddress, inboundPort),
		TrafficDirection: corev3.TrafficDirection_INBOUND,
		ListenerFilters:  []*listenerv3.ListenerFilter{originalDst(), tlsInspector(), httpInspector()},
	}

	access := newAccessFilters(mesh, in.tokens, in.access)
	strict := in.mode == model.MTLSStrict
	for _, p := range in.ports {
		strict = strict && p.mode == model.MTLSStrict
		cluster := inboundClusterName(p.number)
		g := chainGroup{mesh: mesh, port: p.number, protocol: p.protocol, mode: p.mode, cluster: cluster, access: access}
		l.FilterChains = append(l.FilterChains, g.chains()...)
	}

	rest := chainGroup{mesh: mesh, protocol: model.TCP, mode: in.mode, cluster: inboundPassthroughCluster, access: access}
	l.FilterChains = append(l.FilterChains, rest.chains()...)

	if strict {
		// Every client speaks first, with TLS, however long it takes.
		l.ListenerFiltersTimeout = durationpb.New(0)
	} else {
		l.ListenerFiltersTimeout = durationpb.New(inboundWait)
		l.ContinueOnListenerFiltersTimeout = true
	}
	return l
}

// chainGroup makes the filter chains of one port, or, with port 0, of all
// ports that have none.
type chainGroup struct {
	mesh     *model.Mesh
	port     uint16
	protocol model.Protocol
	mode     model.MTLSMode
	cluster  string
	access   accessFilters
}

func (g *chainGroup) chains() []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	if g.mode != model.MTLSDisable {
		out = append(out, g.mutual()...)
	}
	if g.mode != model.MTLSStrict {
		out = append(out, g.plaintext()...)
	}
	return out
}

// mutual takes mutual TLS. Where plaintext is taken too, TLS of the application
// itself must be left alone, so the mesh's is told by its protocol names; where
// it is not, all TLS is the mesh's.
func (g *chainGroup) mutual() []*listenerv3.FilterChain {
	last := append(alpnMeshTCP(), alpnMeshHTTP()...)
	if g.mode == model.MTLSStrict {
		last = nil
	}
	switch {
	case g.protocol.IsHTTP():
		return []*listenerv3.FilterChain{g.chain("mtls", "tls", last, true, true)}
	case g.protocol == model.Unknown:
		if g.mode != model.MTLSStrict {
			last = alpnMeshTCP()
		}
		return []*listenerv3.FilterChain{
			g.chain("mtls-http", "tls", alpnMeshHTTP(), true, true),
			g.chain("mtls", "tls", last, true, false),
		}
	}
	return []*listenerv3.FilterChain{g.chain("mtls", "tls", last, true, false)}
}

func (g *chainGroup) plaintext() []*listenerv3.FilterChain {
	if g.mode == model.MTLSDisable && !g.protocol.IsHTTP() && g.protocol != model.Unknown {
		// Whatever comes is passed on: one chain that looks at nothing, so that
		// a server that speaks first is heard at once.
		return []*listenerv3.FilterChain{g.chain("plaintext", "", nil, false, false)}
	}
	foreign := g.chain("tls", "tls", nil, false, false)
	switch {
	case g.protocol.IsHTTP():
		return []*listenerv3.FilterChain{g.chain("plaintext", "raw_buffer", nil, false, true), foreign}
	case g.protocol == model.Unknown:
		return []*listenerv3.FilterChain{
			g.chain("plaintext-http", "raw_buffer", sniffedHTTP(), false, true),
			g.chain("plaintext", "raw_buffer", nil, false, false),
			foreign,
		}
	}
	return []*listenerv3.FilterChain{g.chain("plaintext", "raw_buffer", nil, false, false), foreign}
}

func (g *chainGroup) chain(kind, transport string, alpn []string, mutual, http bool) *listenerv3.FilterChain {
	fc := &listenerv3.FilterChain{
		Name:             "any-" + kind,
		FilterChainMatch: &listenerv3.FilterChainMatch{TransportProtocol: transport, ApplicationProtocols: alpn},
	}
	if g.port != 0 {
		fc.Name = utoa(g.port) + "-" + kind
		fc.FilterChainMatch.DestinationPort = wrapperspb.UInt32(uint32(g.port))
	}
	answer := alpnTCP()
	if http {
		fc.Filters = []*listenerv3.Filter{inboundHTTP(g.mesh, g.port, g.cluster, g.access.http)}
		answer = []string{"h2", "http/1.1"}
	} else {
		fc.Filters = slices.Concat(g.access.tcp, []*listenerv3.Filter{tcpProxy(g.mesh, g.cluster)})
	}
	if mutual {
		fc.TransportSocket = downstreamTLS(g.mesh, answer)
	}
	return fc
}
