package resources

import (
	"crypto/tls"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// apart is a server without the hosts that one before it has: by a server name a client
// gets one certificate, or one place to which its bytes are passed on, and its requests the
// rules of one Gateway. Those of a namespace that pass TLS on share their hosts, of which
// VirtualServices take their parts. The name of a Service that it may not open is none of a
// server's hosts, either.
func (p *gatewayPort) apart(s edgeServer) edgeServer {
	server := *s.server
	s.server = &server
	server.Hosts = slices.DeleteFunc(slices.Clone(server.Hosts), func(h string) bool {
		_, pattern := splitGatewayHost(h)
		if of := serviceNamespace(pattern); of != "" && of != s.namespace && !s.opensServices {
			return true
		}
		owner := p.owners[pattern]
		shared := owner != nil && owner.server.Mode == model.PassTLS && server.Mode == model.PassTLS && owner.namespace == s.namespace
		return owner != nil && !shared
	})

	if p.owners == nil {
		p.owners = map[string]*edgeServer{}
	}
	for _, h := range server.Hosts {
		_, pattern := splitGatewayHost(h)
		if p.owners[pattern] == nil {
			p.owners[pattern] = &s
		}
	}
	return s
}

// patterns are the server's hosts, without the namespaces for which they are.
func (s *edgeServer) patterns() []string {
	var out []string
	for _, h := range s.server.Hosts {
		_, pattern := splitGatewayHost(h)
		out = append(out, pattern)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// routes is the name of the route configuration of a server that ends TLS.
func (s *edgeServer) routes() string {
	return "https." + utoa(s.server.Port) + "." + s.server.Name + "." + s.gateway
}

// otherHosts are those of the other servers that end TLS on the port.
func (p *gatewayPort) otherHosts(i int) []string {
	var out []string
	for j := range p.https {
		if j == i {
			continue
		}
		for _, h := range p.https[j].patterns() {
			if h != "*" {
				out = append(out, h)
			}
		}
	}
	return out
}

// tlsChains end TLS, a chain for each server. before are chains for TLS that pass it on,
// whose server names they leave alone; access are the filters that judge requests.
func (p *gatewayPort) tlsChains(mesh *model.Mesh, before []*listenerv3.FilterChain, access []*hcmv3.HttpFilter) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for i := range p.https {
		s := &p.https[i]
		match := &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
		names := namesLeft(s.patterns(), before)
		if len(names) == 0 {
			continue
		}
		if !slices.Contains(names, "*") {
			// Without names it takes what nobody else does, clients without a
			// server name too.
			match.ServerNames = names
		}
		out = append(out, &listenerv3.FilterChain{
			Name: s.routes(), FilterChainMatch: match, TransportSocket: s.transport(mesh),
			Filters: []*listenerv3.Filter{edgeHTTP(mesh, s.routes(), slices.Concat(s.strangers(mesh).http, access))},
		})
	}
	return out
}

// transport ends TLS with the server's Secret, or that of the mesh.
func (s *edgeServer) transport(mesh *model.Mesh) *corev3.TransportSocket {
	t := &s.server.TLS
	alpn := []string{"h2", "http/1.1"}
	clients := anyPeer(mesh, "")
	if len(t.Names) > 0 {
		clients = peerNames{exact: t.Names}
	}
	switch {
	case t.Mesh && s.server.Mode == model.ServeTLS:
		return downstreamTLSFrom(clients, alpnTCP())
	case t.Mesh:
		return downstreamTLSFrom(clients, alpn)
	case s.server.Mode == model.ServeTLS:
		alpn = nil // what is spoken inside is not known
	}

	common := &tlsv3.CommonTlsContext{
		TlsParams:                      &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsVersion(max(t.MinVersion, tls.VersionTLS12)), TlsMaximumProtocolVersion: tlsVersion(t.MaxVersion)},
		AlpnProtocols:                  alpn,
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{servedSecret(xds.SecretPrefix + t.Credential)},
	}
	if t.Client != model.ClientCertNone {
		roots := servedSecret(xds.SecretPrefix + t.Credential + xds.CACertSuffix)
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{ValidationContextSdsSecretConfig: roots}
		if len(t.Names) > 0 {
			common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
				CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
					DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: exactNames(t.Names)},
					ValidationContextSdsSecretConfig: roots,
				},
			}
		}
	}
	return tlsSocket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext:         common,
		RequireClientCertificate: wrapperspb.Bool(t.Client == model.ClientCertRequired),
	})
}

// strangers are the filters that come before policies where clients show certificates that
// another authority than the mesh's signs.
func (s *edgeServer) strangers(mesh *model.Mesh) accessFilters {
	if s.server.TLS.Mesh || s.server.TLS.Client == model.ClientCertNone {
		return accessFilters{}
	}
	return noMeshIdentities(mesh)
}

func tlsVersion(v uint16) tlsv3.TlsParameters_TlsProtocol {
	switch v {
	case tls.VersionTLS12:
		return tlsv3.TlsParameters_TLSv1_2
	case tls.VersionTLS13:
		return tlsv3.TlsParameters_TLSv1_3
	}
	return tlsv3.TlsParameters_TLS_AUTO
}

// servedSecret is a Secret that the proxy asks discovery for.
func servedSecret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: adsSource()}
}

// secretNames are the Secrets that the gateway's servers name.
func (g *gateway) secretNames() []string {
	var out []string
	for i := range g.ports {
		for _, s := range slices.Concat(g.ports[i].https, g.ports[i].ending) {
			if s.server.TLS.Mesh {
				continue
			}
			out = append(out, xds.SecretPrefix+s.server.TLS.Credential)
			if s.server.TLS.Client != model.ClientCertNone {
				out = append(out, xds.SecretPrefix+s.server.TLS.Credential+xds.CACertSuffix)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mayHaveSecrets tells whether a proxy is given Secrets: it is a gateway's pod of this
// cluster, and has proved to have that pod's account. What it says of itself counts for
// nothing here.
func (s *Source) mayHaveSecrets(r *reader, p *proxy) bool {
	w, _, ok := s.store.Workloads.Get(r.txn, s.store.Workloads.ByKey(model.WorkloadKey(p.cluster, p.namespace, p.name)))
	return ok && p.proven && w.Router && w.Account == p.account && p.cluster == s.cfg.Cluster
}

// secrets are the Secrets of the names that the gateway's servers name, too; all of those
// when names is nil.
func (v *view) secrets(r *reader, names []string) map[string]*serve.Resource {
	if v.gateway == nil || !v.hasSecrets {
		return map[string]*serve.Resource{}
	}
	named := v.gateway.secretNames()
	if names == nil {
		names = named
	}
	return pick(names, func(name string) *serve.Resource {
		if !slices.Contains(named, name) {
			return nil
		}
		return v.secretConfigs.get(r, secretKey{v, name})
	})
}

// secretKey asks for a Secret by the name under which proxies do; nil: there is none that
// is of use.
type secretKey struct {
	view *view
	name string
}

func (q secretKey) build(r *reader, old *serve.Resource) *serve.Resource {
	s := q.view.source
	read := func(name string) *model.Credential {
		return readRow(r, &s.store.Credentials, model.CredentialKey(s.cfg.Cluster, q.view.scope.key.namespace, name))
	}
	name := strings.TrimPrefix(q.name, xds.SecretPrefix)

	secret := &tlsv3.Secret{Name: q.name}
	if of, isRoots := strings.CutSuffix(name, xds.CACertSuffix); isRoots {
		// A Secret of its own stands above what is beside the certificate.
		for _, c := range []*model.Credential{read(name), read(of)} {
			if c != nil && len(c.Roots) > 0 {
				secret.Type = &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inlineBytes(c.Roots)}}
				return s.encode(old, q.name, secret)
			}
		}
		return nil
	}

	c := read(name)
	if c == nil || len(c.Certificate) == 0 {
		return nil
	}
	secret.Type = &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inlineBytes(c.Certificate), PrivateKey: inlineBytes(c.PrivateKey),
	}}
	return s.encode(old, q.name, secret)
}

func inlineBytes(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}
