package resources

import (
	"cmp"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// ownTLS is TLS as servers outside the mesh speak it (modes SIMPLE and MUTUAL). The
// server's certificate has to lead to roots and to be for a name, unless the rule says
// that it need not. What is agreed on by ALPN is left to the proxy, which knows for each
// connection what it is to speak.
func (b *clusterBuilder) ownTLS(tls *model.ClientTLS) *tlsv3.UpstreamTlsContext {
	common := &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
	}
	if tls.Certificate != "" {
		common.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: file(tls.Certificate), PrivateKey: file(tls.KeyFile)}}
	}
	if !tls.SkipVerify {
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{
				TrustedCa:                 file(cmp.Or(tls.Roots, xds.SystemRoots)),
				MatchTypedSubjectAltNames: b.serverNames(tls),
			},
		}
	}
	return &tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: cmp.Or(tls.SNI, serverNameOf(b.host.name))}
}

// serverNameOf is the server name by which a host is asked for; "" for one that is a
// pattern or an address, which cannot be one (RFC 6066 section 3).
func serverNameOf(host string) string {
	if _, err := netip.ParseAddr(host); err == nil || strings.Contains(host, "*") {
		return ""
	}
	return host
}

// serverNames are those of which the server's certificate must have one: the rule's, else
// the service's, else the server name that it is asked for, else the host.
func (b *clusterBuilder) serverNames(tls *model.ClientTLS) []*tlsv3.SubjectAltNameMatcher {
	names := tls.SubjectAltNames
	if len(names) == 0 {
		names = b.port.svc.SubjectAltNames
	}
	if suffix, wild := strings.CutPrefix(b.host.name, "*."); wild && len(names) == 0 && tls.SNI == "" {
		return []*tlsv3.SubjectAltNameMatcher{{
			SanType: tlsv3.SubjectAltNameMatcher_DNS,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: "." + suffix}},
		}}
	}
	if len(names) == 0 {
		names = []string{cmp.Or(tls.SNI, b.host.name)}
	}

	var out []*tlsv3.SubjectAltNameMatcher
	for _, name := range names {
		out = append(out, exactName(name))
	}
	return out
}

// file is a file in the proxy's container.
func file(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}
