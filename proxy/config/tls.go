package config

import "crypto/x509"

// CertSource names where a certificate or a trust bundle comes from.
type CertSource uint8

// Sources. The mesh ones are the SDS names "default" and "ROOTCA", served by
// the proxy's own identity.
const (
	CertNone   CertSource = iota
	CertMesh              // SDS "default" or "ROOTCA"
	CertInline            // carried in the resource
	CertSystem            // the system's roots (system_root_certs)
	CertNamed             // a Secret that discovery serves under a name
	CertFile              // a file of the proxy's container
)

// TLSParams bounds the protocol versions, as crypto/tls constants; 0 leaves
// the default.
type TLSParams struct {
	MinVersion uint16
	MaxVersion uint16
}

// TrustRoots says which roots a peer's certificate has to lead to. CertNone:
// the peer is not verified, as in Envoy without a validation context.
type TrustRoots struct {
	Source CertSource
	Pool   *x509.CertPool // CertInline
	Name   string         // CertNamed
	Path   string         // CertFile
}

// DownstreamTLS is envoy.extensions.transport_sockets.tls.v3
// .DownstreamTlsContext.
type DownstreamTLS struct {
	Params            TLSParams
	ALPN              []string
	Cert              CertSource // CertMesh, CertInline or CertNamed
	CertName          string     // CertNamed
	CertPEM           []byte     // CertInline
	KeyPEM            []byte     `json:"-"`
	Roots             TrustRoots
	SANs              []SANMatch // empty: any identity under Roots
	RequireClientCert bool
	// Access identifies what a client has to prove.
	Access string
}

// SecretNames are the Secrets that the context needs.
func (d *DownstreamTLS) SecretNames() []string {
	var out []string
	if d.Cert == CertNamed {
		out = append(out, d.CertName)
	}
	if d.Roots.Source == CertNamed {
		out = append(out, d.Roots.Name)
	}
	return out
}

// UpstreamTLS is envoy.extensions.transport_sockets.tls.v3
// .UpstreamTlsContext.
type UpstreamTLS struct {
	Params  TLSParams
	SNI     string
	ALPN    []string
	Cert    CertSource // CertNone, CertMesh, CertInline or CertFile
	CertPEM []byte     // CertInline
	KeyPEM  []byte     `json:"-"`
	// CertPath and KeyPath are those of CertFile.
	CertPath, KeyPath string
	Roots             TrustRoots
	SANs              []SANMatch // empty: any identity under Roots
	AutoSNI           bool       // auto_host_sni: the endpoint's host name
}

// Mesh tells whether the context is the mesh's own mTLS (auto-mTLS or
// ISTIO_MUTUAL), in which ALPN carries the mesh's protocol names.
func (u *UpstreamTLS) Mesh() bool { return u != nil && u.Cert == CertMesh }

// SANType restricts a [SANMatch] to one kind of name.
type SANType uint8

// Kinds of subject alternative name.
const (
	SANAny SANType = iota
	SANURI
	SANDNS
	SANEmail
	SANIP
)

// SANMatch is envoy.extensions.transport_sockets.tls.v3
// .SubjectAltNameMatcher.
type SANMatch struct {
	Type  SANType
	Match StringMatch
}
