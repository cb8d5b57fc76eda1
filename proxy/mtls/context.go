package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/xds"
)

// Server terminates TLS by one downstream context. It is safe for concurrent
// use and costs nothing per connection beyond the handshake.
type Server struct {
	withALPN *tls.Config
	without  *tls.Config // for callers whose ALPN has nothing of ours
	alpn     []string
	verify   *verifier // nil: peers are not verified
	required bool      // a peer has to show a certificate
}

// NewServer makes a Server. secrets may be nil for a context that names none.
func NewServer(c *config.DownstreamTLS, id Identity, secrets Secrets) (*Server, error) {
	if secrets == nil && len(c.SecretNames()) > 0 {
		return nil, errors.New("downstream TLS: the context names secrets, and none are served here")
	}
	own, err := ownCertificate(c.Cert, c.CertPEM, c.KeyPEM, id)
	if c.Cert == config.CertNamed {
		own, err = namedCertificate(secrets.Secret(c.CertName), c.CertName), nil
	}
	if err != nil {
		return nil, fmt.Errorf("downstream TLS: %w", err)
	}

	v := newVerifier(c.Roots, c.SANs, x509.ExtKeyUsageClientAuth, id)
	if c.Roots.Source == config.CertNamed {
		v = &verifier{sans: c.SANs, usage: x509.ExtKeyUsageClientAuth, now: time.Now, roots: namedRoots(secrets.Secret(c.Roots.Name), c.Roots.Name)}
	}
	base := &tls.Config{
		MinVersion:                  orVersion(c.Params.MinVersion, tls.VersionTLS12),
		MaxVersion:                  c.Params.MaxVersion,
		GetCertificate:              func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own() },
		NextProtos:                  c.ALPN,
		DynamicRecordSizingDisabled: true, // full records from the start: fewer system calls
	}

	// crypto/tls only asks for the certificate: the roots may be others by the
	// next handshake, so VerifyConnection judges it, resumed sessions too.
	switch {
	case c.RequireClientCert:
		base.ClientAuth = tls.RequireAnyClientCert
	case v != nil:
		base.ClientAuth = tls.RequestClientCert
	}

	if v != nil {
		base.VerifyConnection = func(cs tls.ConnectionState) error { return v.verify(&cs, c.RequireClientCert) }
	}

	// One set of ticket keys would need rotation of our own; a client that
	// resumes always offers the same ALPN, so it meets the same config.
	plain := base.Clone()
	plain.NextProtos = nil
	if v != nil {
		v.stampTickets(base)
		v.stampTickets(plain)
	}

	return &Server{withALPN: base, without: plain, alpn: c.ALPN, verify: v, required: c.RequireClientCert}, nil
}

// Recheck judges a peer anew that was let in at some time before, by the roots
// of now. A certificate that has expired since is no reason to refuse it: who
// holds on to a connection does not show the next one.
func (s *Server) Recheck(cs *tls.ConnectionState, letIn time.Time) error {
	if s.verify == nil {
		return nil
	}

	err := s.verify.verify(cs, s.required)
	if err == nil || ReasonOf(err) != ReasonExpired {
		return err
	}

	then := &verifier{
		roots: s.verify.roots,
		sans:  s.verify.sans,
		usage: s.verify.usage,
		now:   func() time.Time { return letIn },
	}
	return then.verify(cs, s.required)
}

// Config returns the configuration for a caller that offers these protocols.
// Where none of them is ours no protocol is agreed on and the handshake goes
// on, as in Envoy; crypto/tls would break it off.
func (s *Server) Config(offered []string) *tls.Config {
	for _, p := range offered {
		if slices.Contains(s.alpn, p) {
			return s.withALPN
		}
	}
	return s.without
}

// Client dials by one upstream context. It is safe for concurrent use.
type Client struct {
	ctx    *config.UpstreamTLS
	own    func() (*tls.Certificate, error)
	verify *verifier
}

// NewClient makes a Client.
func NewClient(c *config.UpstreamTLS, id Identity) (*Client, error) {
	cl := &Client{ctx: c}
	switch c.Cert {
	case config.CertNone:
	case config.CertFile:
		cl.own = fileCertificate(c.CertPath, c.KeyPath)
	default:
		own, err := ownCertificate(c.Cert, c.CertPEM, c.KeyPEM, id)
		if err != nil {
			return nil, fmt.Errorf("upstream TLS: %w", err)
		}
		cl.own = own
	}
	cl.verify = newVerifier(c.Roots, c.SANs, x509.ExtKeyUsageServerAuth, id)
	return cl, nil
}

// Config makes the configuration for one endpoint and protocol. Sessions are
// resumed only within it, so it should be kept as long as the endpoint.
// hostname is used as SNI where the context says so.
func (c *Client) Config(proto config.Protocol, hostname string) *tls.Config {
	t := &tls.Config{
		ServerName:                  c.ctx.SNI,
		NextProtos:                  ALPN(c.ctx, proto),
		MinVersion:                  c.ctx.Params.MinVersion,
		MaxVersion:                  c.ctx.Params.MaxVersion,
		InsecureSkipVerify:          true, // verified below, against the roots of the moment
		DynamicRecordSizingDisabled: true, // full records from the start: fewer system calls
		ClientSessionCache:          &session{own: c.own, verify: c.verify, now: time.Now},
	}

	// Both ends of the mesh's own mutual TLS are ours and speak TLS 1.3; a
	// server of somebody else may be older.
	if t.MinVersion == 0 {
		t.MinVersion = tls.VersionTLS12
		if c.ctx.Mesh() {
			t.MinVersion = tls.VersionTLS13
		}
		if t.MaxVersion != 0 && t.MaxVersion < t.MinVersion {
			t.MinVersion = t.MaxVersion
		}
	}

	if c.ctx.AutoSNI && hostname != "" {
		t.ServerName = hostname
	}
	if c.own != nil {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.own() }
	}
	if v := c.verify; v != nil {
		t.VerifyConnection = func(cs tls.ConnectionState) error { return v.verify(&cs, true) }
	}
	return t
}

// ALPN returns the protocols to offer. Over the mesh's mTLS, HTTP goes by
// names of its own, so that the other sidecar can tell what is inside.
func ALPN(c *config.UpstreamTLS, proto config.Protocol) []string {
	mesh := slices.Contains(c.ALPN, xds.ALPNMesh)
	switch {
	case proto == config.ProtocolHTTP1 && mesh:
		return []string{xds.ALPNHTTP11, xds.ALPNMesh, "http/1.1"}
	case proto == config.ProtocolHTTP2 && mesh:
		return []string{xds.ALPNHTTP2, xds.ALPNMesh, "h2"}
	case proto == config.ProtocolHTTP1:
		return []string{"http/1.1"}
	case proto == config.ProtocolHTTP2:
		return []string{"h2"}
	default:
		return c.ALPN
	}
}

// ownCertificate returns a getter of our certificate.
func ownCertificate(src config.CertSource, certPEM, keyPEM []byte, id Identity) (func() (*tls.Certificate, error), error) {
	if src == config.CertInline {
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			return nil, fmt.Errorf("tls_certificates: %w", err)
		}
		return func() (*tls.Certificate, error) { return &pair, nil }, nil
	}

	if id == nil {
		return nil, errors.New("the certificate comes from the mesh identity, and this proxy has none")
	}

	// It is asked at each handshake, since its certificate is renewed.
	return func() (*tls.Certificate, error) {
		if c := id.Certificate(); c != nil {
			return c, nil
		}
		return nil, errNoCertificate
	}, nil
}

// namedCertificate returns a getter of a certificate that discovery serves. While there
// is none, or it has expired, handshakes end with an alert: a client must not take for a
// server's what it could not verify.
func namedCertificate(slot *config.SecretSlot, name string) func() (*tls.Certificate, error) {
	return func() (*tls.Certificate, error) {
		s := slot.Load()
		switch {
		case s == nil || s.Certificate == nil:
			return nil, fmt.Errorf("%w: secret %q is missing, or is no certificate with its key", errNoSecret, name)
		case time.Now().After(s.Certificate.Leaf.NotAfter):
			return nil, fmt.Errorf("%w: the certificate in secret %q has expired", errNoSecret, name)
		}
		return s.Certificate, nil
	}
}

// namedRoots returns a getter of roots that discovery serves.
func namedRoots(slot *config.SecretSlot, name string) func() (*x509.CertPool, error) {
	return func() (*x509.CertPool, error) {
		if s := slot.Load(); s != nil && s.Roots != nil {
			return s.Roots, nil
		}
		return nil, fmt.Errorf("%w: secret %q is missing, or holds no roots", errNoSecret, name)
	}
}

// newVerifier returns nil for a context that does not verify peers.
func newVerifier(roots config.TrustRoots, sans []config.SANMatch, usage x509.ExtKeyUsage, id Identity) *verifier {
	v := &verifier{sans: sans, usage: usage, now: time.Now}
	switch roots.Source {
	case config.CertMesh:
		v.roots = func() (*x509.CertPool, error) {
			if id != nil {
				if p := id.Roots(); p != nil {
					return p, nil
				}
			}
			return nil, errors.New("no trust bundle yet")
		}
	case config.CertInline:
		v.roots = func() (*x509.CertPool, error) { return roots.Pool, nil }
	case config.CertSystem:
		v.roots = sync.OnceValues(systemRoots)
	case config.CertFile:
		v.roots = fileRoots(roots.Path)
	default:
		return nil
	}

	return v
}

func orVersion(v, def uint16) uint16 {
	if v == 0 {
		return def
	}
	return v
}
