package resources

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// Names under which a proxy finds its certificate and the trust bundle (SDS).
const (
	sdsCertificate = "default"
	sdsRoots       = "ROOTCA"
	sdsCluster     = "sds-grpc"
)

// Transport sockets, and the metadata that chooses between them.
const (
	transportTLS       = "envoy.transport_sockets.tls"
	transportRaw       = "envoy.transport_sockets.raw_buffer"
	transportMatchKey  = "envoy.transport_socket_match"
	tlsModeLabel       = "tlsMode"
	tlsModeMutual      = "istio"
	matchNameMutual    = "tlsMode-istio"
	matchNamePlaintext = "tlsMode-disabled"
)

// What a sidecar offers (ALPN) for what it carries.
func alpnTCP() []string   { return []string{xds.ALPNPeerExchange, xds.ALPNMesh} }
func alpnHTTP1() []string { return []string{xds.ALPNHTTP11, xds.ALPNMesh} }
func alpnHTTP2() []string { return []string{xds.ALPNHTTP2, xds.ALPNMesh, "h2"} }

// The names by which a server knows HTTP inside mutual TLS, and everything
// else.
func alpnMeshHTTP() []string { return []string{xds.ALPNHTTP10, xds.ALPNHTTP11, xds.ALPNHTTP2} }
func alpnMeshTCP() []string  { return []string{xds.ALPNMesh, xds.ALPNPeerExchange} }

// clientMode is how connections to a host's port are secured: as the rule says,
// else, as Auto, by what each endpoint takes.
func clientMode(mesh *model.Mesh, h *host, p *hostPort, pol model.TrafficPolicy) model.ClientTLSMode {
	switch {
	case pol.TLS != nil && pol.TLS.Mode != model.ClientTLSAuto:
		return pol.TLS.Mode
	case remoteNamespace(h) != "":
		// Another cluster's gateway takes nothing but mutual TLS, whatever
		// the entry says of where its endpoints are.
		return model.ClientTLSMutualMesh
	case p.svc.External || !mesh.AutoMTLS:
		return model.ClientTLSDisable
	}
	return model.ClientTLSAuto
}

// transport sets how connections to the endpoints are secured: as the rule
// says, else by what each endpoint takes.
func (b *clusterBuilder) transport(c *clusterv3.Cluster, pol model.TrafficPolicy) {
	svc := b.port.svc
	mode := clientMode(b.mesh, b.host, b.port, pol)
	if mode == model.ClientTLSAuto && b.resolution() == model.ByDestination {
		// The proxy knows nothing of the single address: what holds for
		// all of them counts.
		mode = model.ClientTLSDisable
		if svc.Headless && b.allMutual() {
			mode = model.ClientTLSMutualMesh
		}
	}

	switch mode {
	case model.ClientTLSMutualMesh:
		c.TransportSocket = tlsSocket(b.upstreamTLS(pol.TLS))
	case model.ClientTLSOwn:
		c.TransportSocket = tlsSocket(b.ownTLS(pol.TLS))
	case model.ClientTLSAuto:
		c.TransportSocketMatches = []*clusterv3.Cluster_TransportSocketMatch{
			{
				Name: matchNameMutual,
				Match: &structpb.Struct{Fields: map[string]*structpb.Value{
					tlsModeLabel: structpb.NewStringValue(tlsModeMutual),
				}},
				TransportSocket: tlsSocket(b.upstreamTLS(nil)),
			},
			{
				Name:  matchNamePlaintext,
				Match: &structpb.Struct{},
				TransportSocket: &corev3.TransportSocket{
					Name:       transportRaw,
					ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&rawv3.RawBuffer{})},
				},
			},
		}
	}
}

// allMutual tells that a headless service has endpoints that clients reach and
// each takes mutual TLS on the port. Clients connect to the service's port at the endpoint's
// address, whatever the targetPort: there is nothing between that translates.
func (b *clusterBuilder) allMutual() bool {
	any := false
	for _, t := range b.traits {
		for i := range t.Members {
			if !b.members.meets(b.host.vantage.cluster, t.Cluster, &t.Members[i]) {
				continue
			}
			if !b.policy.mutual(&t.Members[i], b.port.Number) {
				return false
			}
			any = true
		}
	}
	return any
}

func (b *clusterBuilder) upstreamTLS(tls *model.ClientTLS) *tlsv3.UpstreamTlsContext {
	alpn := alpnTCP()
	switch {
	case b.http2:
		alpn = alpnHTTP2()
	case b.port.Protocol.IsHTTP():
		alpn = alpnHTTP1()
	}
	sni := sniName(b.key.port, b.key.subset, b.host.name)
	names := b.identities()
	if tls != nil {
		sni = cmp.Or(tls.SNI, sni)
		if len(tls.SubjectAltNames) > 0 {
			names = peerNames{exact: tls.SubjectAltNames}
		}
	}
	if remote := remoteNamespace(b.host); remote != "" && len(names.exact) > 0 {
		names = names.within(remote)
	}
	return &tlsv3.UpstreamTlsContext{CommonTlsContext: meshTLS(alpn, names), Sni: sni}
}

// identities are the names that a server of the host may have: those that it
// declares, else those of its endpoints' accounts, else any of the mesh, or of
// the namespace that the host's name speaks of.
func (b *clusterBuilder) identities() peerNames {
	if len(b.port.svc.SubjectAltNames) > 0 {
		return peerNames{exact: b.port.svc.SubjectAltNames}
	}
	remote := remoteNamespace(b.host)
	var out []string
	for _, t := range b.traits {
		for _, account := range t.Accounts {
			ns, sa, _ := strings.Cut(account, "/")
			for _, domain := range trustDomains(b.mesh) {
				out = append(out, "spiffe://"+domain+"/ns/"+cmp.Or(remote, ns)+"/sa/"+sa)
			}
		}
	}
	if len(out) == 0 {
		return anyPeer(b.mesh, remote)
	}
	slices.Sort(out)
	return peerNames{exact: slices.Compact(out)}
}

// meshTLS is the part that both sides of mutual TLS in the mesh share. names are
// those accepted of the peer.
func meshTLS(alpn []string, names peerNames) *tlsv3.CommonTlsContext {
	matchers := exactNames(names.exact)
	for _, prefix := range names.prefixes {
		matchers = append(matchers, &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_URI,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}},
		})
	}

	return &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
		AlpnProtocols:                  alpn,
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sdsSecret(sdsCertificate)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: matchers},
				ValidationContextSdsSecretConfig: sdsSecret(sdsRoots),
			},
		},
	}
}

// exactName matches one name of a certificate: a URI, an address, or one of DNS.
func exactName(san string) *tlsv3.SubjectAltNameMatcher {
	m := &tlsv3.SubjectAltNameMatcher{
		SanType: tlsv3.SubjectAltNameMatcher_DNS,
		Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: san}},
	}
	if strings.Contains(san, "://") {
		m.SanType = tlsv3.SubjectAltNameMatcher_URI
	} else if _, err := netip.ParseAddr(san); err == nil {
		m.SanType = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
	}
	return m
}

// exactNames match certificates that have one of the names.
func exactNames(names []string) []*tlsv3.SubjectAltNameMatcher {
	var out []*tlsv3.SubjectAltNameMatcher
	for _, san := range names {
		out = append(out, exactName(san))
	}
	return out
}

func sdsSecret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: sdsCluster},
			}}},
		}},
	}}
}

func tlsSocket(ctx proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       transportTLS,
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(ctx)},
	}
}

// downstreamTLS takes mutual TLS from any identity of the trust domain.
func downstreamTLS(mesh *model.Mesh, alpn []string) *corev3.TransportSocket {
	return downstreamTLSFrom(anyPeer(mesh, ""), alpn)
}

// downstreamTLSFrom takes mutual TLS from some identities. alpn is what the server answers;
// a client that offers none of it is served without.
func downstreamTLSFrom(names peerNames, alpn []string) *corev3.TransportSocket {
	return tlsSocket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext:         meshTLS(alpn, names),
		RequireClientCertificate: wrapperspb.Bool(true),
	})
}
