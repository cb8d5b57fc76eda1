package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"net/url"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
)

// maxRequest is the size in bytes of the largest certificate request that is
// read. One with an RSA key of 8192 bits has 4 KiB.
const maxRequest = 64 << 10

// parseRequest reads a PEM certificate request and checks that its key is of a
// kind and size that may be used, that the key signed it, and that it asks for
// no name but id.
func parseRequest(csrPEM []byte, id identity.ID) (*x509.CertificateRequest, error) {
	if len(csrPEM) > maxRequest {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(csrPEM), maxRequest)
	}

	block, rest := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, errors.New("no PEM certificate request")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("there is something after the PEM certificate request")
	}

	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}

	// The key before the signature: what checking the signature costs is up to
	// the key. An RSA key of a million bits keeps a processor busy for minutes.
	if err := checkRequestKey(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("its signature: %w", err)
	}

	// Names that the caller was not proven to have are refused rather than left
	// out: the caller would believe that it has them.
	if len(csr.DNSNames)+len(csr.EmailAddresses)+len(csr.IPAddresses) > 0 {
		return nil, errors.New("it asks for DNS, IP or e-mail names: a workload's only name is its SPIFFE ID")
	}
	if len(csr.URIs) > 1 {
		return nil, fmt.Errorf("it asks for %d URI names, want one SPIFFE ID", len(csr.URIs))
	}
	if len(csr.URIs) == 1 && csr.URIs[0].String() != id.String() {
		return nil, fmt.Errorf("it asks for the name %q, but the caller is %s", csr.URIs[0], id)
	}
	return csr, nil
}

// checkRequestKey refuses a workload's key that is too weak, or that costs too
// much to check.
func checkRequestKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Errorf("RSA key of %d bits, want 2048 to 8192", n)
		}
		if k.E < 3 || k.E%2 == 0 || int64(k.E) > math.MaxUint32 {
			return fmt.Errorf("RSA key with the exponent %d, want an odd one from 3 to 2^32-1", k.E)
		}
		return nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("ECDSA key on curve %s, want P-256, P-384 or P-521", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("key of type %T, want RSA, ECDSA or Ed25519", pub)
}

// leaf signs a certificate for pub that is valid for ttl, but not longer than
// the signing CA is.
func (m *Material) leaf(pub crypto.PublicKey, uris []*url.URL, dns []string, ttl time.Duration, now time.Time) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}

	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(ttl),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:         uris,
		DNSNames:     dns,

		BasicConstraintsValid: true,
	}

	// TLS 1.2 may encrypt the session key with an RSA key (RFC 5246, section
	// 7.4.2).
	if _, ok := pub.(*rsa.PublicKey); ok {
		tmpl.KeyUsage |= x509.KeyUsageKeyEncipherment
	}

	for _, c := range append([]*x509.Certificate{m.Cert, m.Root}, m.Intermediates...) {
		if tmpl.NotAfter.After(c.NotAfter) {
			tmpl.NotAfter = c.NotAfter
		}
	}
	if !tmpl.NotAfter.After(now) {
		return nil, fmt.Errorf("the signing certificate %q (%s) expired on %s: replace it", m.Cert.Subject, m.Origin, tmpl.NotAfter.UTC().Format(time.RFC3339))
	}

	der, err := x509.CreateCertificate(rand.Reader, tmpl, m.Cert, pub, m.Key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return x509.ParseCertificate(der)
}
