package config

import (
	"crypto/tls"
	"crypto/x509"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xds"
)

// The SDS names that the proxy's own identity serves.
const (
	secretOwn   = "default"
	secretRoots = "ROOTCA"
)

// decodeDownstreamSocket reads the transport socket of a filter chain; nil
// means plaintext.
func decodeDownstreamSocket(a at, p *corev3.TransportSocket) (*DownstreamTLS, error) {
	body, ca, err := a.socketBody(p)
	if body == nil || err != nil {
		return nil, err
	}

	m := &tlsv3.DownstreamTlsContext{}
	if err := ca.unpack(body, m); err != nil {
		return nil, err
	}
	if err := ca.only(m, "common_tls_context", "require_client_certificate", "session_timeout",
		"disable_stateful_session_resumption", "prefer_client_ciphers"); err != nil {
		return nil, err
	}

	c, err := decodeCommon(ca.in("common_tls_context"), m.GetCommonTlsContext())
	if err != nil {
		return nil, err
	}

	d := &DownstreamTLS{
		Params: c.params, ALPN: m.GetCommonTlsContext().GetAlpnProtocols(),
		Cert: c.cert, CertName: c.certName, CertPEM: c.certPEM, KeyPEM: c.keyPEM, Roots: c.roots, SANs: c.sans,
		RequireClientCert: m.GetRequireClientCertificate().GetValue(),
	}

	if d.Cert == CertFile || d.Roots.Source == CertFile {
		return nil, ca.in("common_tls_context").errorf("names files, which this proxy reads for clusters alone")
	}
	d.Access = accessOf(m)
	if d.Cert == CertNone {
		return nil, ca.in("common_tls_context").errorf("has no certificate to serve")
	}
	// Any certificate at all would do, also one that its bearer has made.
	if d.RequireClientCert && d.Roots.Source == CertNone {
		return nil, ca.in("require_client_certificate").errorf("is set without roots to verify the certificate against")
	}
	return d, nil
}

// accessOf identifies what a client has to prove. It leaves out what is agreed
// on with it and what is shown to it: a new certificate of ours, or another
// list of protocols, is no reason to break a connection.
func accessOf(m *tlsv3.DownstreamTlsContext) string {
	m = proto.CloneOf(m)
	if c := m.GetCommonTlsContext(); c != nil {
		c.AlpnProtocols, c.TlsParams = nil, nil
		c.TlsCertificates, c.TlsCertificateSdsSecretConfigs, c.TlsCertificateProviderInstance = nil, nil, nil
	}
	return versionOfMessages(m)
}

// decodeUpstreamSocket reads the transport socket of a cluster.
func decodeUpstreamSocket(a at, p *corev3.TransportSocket) (Transport, error) {
	t := Transport{Name: p.GetName()}
	body, ca, err := a.socketBody(p)
	if body == nil || err != nil {
		return t, err
	}

	m := &tlsv3.UpstreamTlsContext{}
	if err := ca.unpack(body, m); err != nil {
		return t, err
	}
	if err := ca.only(m, "common_tls_context", "sni", "auto_host_sni", "max_session_keys",
		"enforce_rsa_key_usage"); err != nil {
		return t, err
	}

	c, err := decodeCommon(ca.in("common_tls_context"), m.GetCommonTlsContext())
	if err != nil {
		return t, err
	}

	t.TLS = &UpstreamTLS{
		Params: c.params, SNI: m.GetSni(), ALPN: m.GetCommonTlsContext().GetAlpnProtocols(),
		Cert: c.cert, CertPEM: c.certPEM, KeyPEM: c.keyPEM, Roots: c.roots, SANs: c.sans,
		CertPath: c.certPath, KeyPath: c.keyPath, AutoSNI: m.GetAutoHostSni(),
	}
	if c.cert == CertNamed || c.roots.Source == CertNamed {
		return t, ca.in("common_tls_context").errorf("names a secret other than %q and %q, which this proxy has for listeners alone", secretOwn, secretRoots)
	}
	// Envoy would connect to anybody, and show it who we are.
	if t.TLS.Cert == CertMesh && t.TLS.Roots.Source == CertNone {
		return t, ca.in("common_tls_context").errorf("presents the mesh certificate without roots to verify the server against")
	}
	return t, nil
}

// socketBody returns the TLS context of a socket, nil for a raw one.
func (a at) socketBody(p *corev3.TransportSocket) (*anypb.Any, at, error) {
	if p == nil {
		return nil, a, nil
	}
	if err := a.only(p, "name", "typed_config"); err != nil {
		return nil, a, err
	}

	ca := a.in("typed_config")
	body := p.GetTypedConfig()
	switch name := body.MessageName(); name {
	case "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer":
		return nil, a, ca.unpack(body, &rawbufferv3.RawBuffer{})
	case "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
		"envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext":
		return body, ca, nil
	case "":
		if p.GetName() == "envoy.transport_sockets.raw_buffer" {
			return nil, a, nil
		}
		return nil, a, ca.errorf("is not set (transport socket %q)", p.GetName())
	default:
		return nil, a, ca.errorf("transport socket %q (%s) is not supported by this proxy", p.GetName(), name)
	}
}

// common is what both directions have in common.
type common struct {
	params          TLSParams
	cert            CertSource
	certName        string
	certPEM, keyPEM []byte
	// certPath and keyPath are those of CertFile.
	certPath, keyPath string
	roots             TrustRoots
	sans              []SANMatch
}

func decodeCommon(a at, p *tlsv3.CommonTlsContext) (c common, err error) {
	if p == nil {
		return c, nil
	}
	if err := a.only(p, "tls_params", "tls_certificates", "tls_certificate_sds_secret_configs",
		"validation_context", "validation_context_sds_secret_config", "combined_validation_context",
		"alpn_protocols"); err != nil {
		return c, err
	}

	if c.params, err = decodeParams(a.in("tls_params"), p.GetTlsParams()); err != nil {
		return c, err
	}
	if err := c.decodeCertificate(a, p); err != nil {
		return c, err
	}

	switch v := p.GetValidationContextType().(type) {
	case *tlsv3.CommonTlsContext_ValidationContext:
		err = c.decodeValidation(a.in("validation_context"), v.ValidationContext)
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		err = c.rootsByName(a.in("validation_context_sds_secret_config"), v.ValidationContextSdsSecretConfig)
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		va := a.in("combined_validation_context")
		m := v.CombinedValidationContext
		if err := va.only(m, "default_validation_context", "validation_context_sds_secret_config"); err != nil {
			return c, err
		}
		if err := c.decodeValidation(va.in("default_validation_context"), m.GetDefaultValidationContext()); err != nil {
			return c, err
		}
		err = c.rootsByName(va.in("validation_context_sds_secret_config"), m.GetValidationContextSdsSecretConfig())
	}

	// A name in a certificate that nobody vouches for proves nothing.
	if err == nil && len(c.sans) > 0 && c.roots.Source == CertNone {
		err = a.errorf("names are to be matched, but no roots are given to verify them against")
	}
	return c, err
}

func (c *common) decodeCertificate(a at, p *tlsv3.CommonTlsContext) error {
	inline, named := p.GetTlsCertificates(), p.GetTlsCertificateSdsSecretConfigs()
	if len(inline)+len(named) > 1 {
		return a.errorf("has %d certificates; this proxy presents one", len(inline)+len(named))
	}

	if len(named) == 1 {
		c.cert = CertMesh
		if n := named[0].GetName(); n != secretOwn {
			if err := a.in("tls_certificate_sds_secret_configs[0]").servedByName(named[0], secretOwn); err != nil {
				return err
			}
			c.cert, c.certName = CertNamed, n
		}
	}

	if len(inline) == 1 {
		ia := a.in("tls_certificates[0]")
		if err := ia.only(inline[0], "certificate_chain", "private_key"); err != nil {
			return err
		}
		c.certPath, c.keyPath = inline[0].GetCertificateChain().GetFilename(), inline[0].GetPrivateKey().GetFilename()
		if c.certPath != "" && c.keyPath != "" {
			// They may come later, and are read at each handshake.
			c.cert = CertFile
			return nil
		}
		c.cert = CertInline
		c.certPEM, c.keyPEM = inlineBytes(inline[0].GetCertificateChain()), inlineBytes(inline[0].GetPrivateKey())
		if _, err := tls.X509KeyPair(c.certPEM, c.keyPEM); err != nil {
			return ia.errorf("%v", err)
		}
	}
	return nil
}

func (c *common) rootsByName(a at, p *tlsv3.SdsSecretConfig) error {
	if p.GetName() == secretRoots {
		c.roots.Source = CertMesh
		return nil
	}
	c.roots = TrustRoots{Source: CertNamed, Name: p.GetName()}
	return a.servedByName(p, secretRoots)
}

// servedByName refuses secrets but those that discovery serves; own is what the proxy
// has itself in such a place.
func (a at) servedByName(p *tlsv3.SdsSecretConfig, own string) error {
	if !strings.HasPrefix(p.GetName(), xds.SecretPrefix) {
		return a.in("name").errorf("secret %q is not served here; the proxy's own is %q, and others begin with %s", p.GetName(), own, xds.SecretPrefix)
	}
	return a.in("sds_config").fromADS(p.GetSdsConfig())
}

func (c *common) decodeValidation(a at, p *tlsv3.CertificateValidationContext) error {
	if p == nil {
		return nil
	}
	if err := a.only(p, "trusted_ca", "system_root_certs", "match_typed_subject_alt_names",
		"match_subject_alt_names", "suppress_client_ca_list"); err != nil {
		return err
	}

	if path := p.GetTrustedCa().GetFilename(); path == xds.SystemRoots {
		c.roots = TrustRoots{Source: CertSystem}
	} else if path != "" {
		c.roots = TrustRoots{Source: CertFile, Path: path}
	} else if ca := p.GetTrustedCa(); ca != nil {
		pem := inlineBytes(ca)
		if len(pem) == 0 {
			return a.in("trusted_ca").errorf("is not inline_bytes, inline_string or filename")
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return a.in("trusted_ca").errorf("holds no certificate in PEM")
		}
		c.roots = TrustRoots{Source: CertInline, Pool: pool}
	} else if p.GetSystemRootCerts() != nil {
		c.roots = TrustRoots{Source: CertSystem}
	}

	for i, s := range p.GetMatchTypedSubjectAltNames() {
		sa := a.index("match_typed_subject_alt_names", i)
		if err := sa.only(s, "san_type", "matcher"); err != nil {
			return err
		}

		types := map[tlsv3.SubjectAltNameMatcher_SanType]SANType{
			tlsv3.SubjectAltNameMatcher_URI: SANURI, tlsv3.SubjectAltNameMatcher_DNS: SANDNS,
			tlsv3.SubjectAltNameMatcher_EMAIL: SANEmail, tlsv3.SubjectAltNameMatcher_IP_ADDRESS: SANIP,
		}
		t, ok := types[s.GetSanType()]
		if !ok {
			return sa.in("san_type").errorf("%v is not supported by this proxy", s.GetSanType())
		}

		m, err := decodeString(sa.in("matcher"), s.GetMatcher())
		if err != nil {
			return err
		}
		c.sans = append(c.sans, SANMatch{t, m})
	}

	for i, s := range p.GetMatchSubjectAltNames() { //nolint:staticcheck // older control planes send it
		m, err := decodeString(a.index("match_subject_alt_names", i), s)
		if err != nil {
			return err
		}
		c.sans = append(c.sans, SANMatch{SANAny, m})
	}
	return nil
}

func decodeParams(a at, p *tlsv3.TlsParameters) (TLSParams, error) {
	var t TLSParams
	if p == nil {
		return t, nil
	}

	// Cipher suites and curves are crypto/tls's choice: all it offers are
	// sound, and those of TLS 1.3 cannot be chosen at all.
	if err := a.only(p, "tls_minimum_protocol_version", "tls_maximum_protocol_version",
		"cipher_suites", "ecdh_curves", "signature_algorithms"); err != nil {
		return t, err
	}

	t.MinVersion = tlsVersion(p.GetTlsMinimumProtocolVersion())
	t.MaxVersion = tlsVersion(p.GetTlsMaximumProtocolVersion())
	if t.MaxVersion != 0 && t.MinVersion > t.MaxVersion {
		return t, a.errorf("the minimum version is above the maximum version")
	}
	return t, nil
}

// tlsVersion maps a version. Older ones than TLS 1.2 count as that.
func tlsVersion(v tlsv3.TlsParameters_TlsProtocol) uint16 {
	switch v {
	case tlsv3.TlsParameters_TLS_AUTO:
		return 0
	case tlsv3.TlsParameters_TLSv1_3:
		return tls.VersionTLS13
	default:
		return tls.VersionTLS12
	}
}

func inlineBytes(p *corev3.DataSource) []byte {
	switch s := p.GetSpecifier().(type) {
	case *corev3.DataSource_InlineBytes:
		return s.InlineBytes
	case *corev3.DataSource_InlineString:
		return []byte(s.InlineString)
	}
	return nil
}
