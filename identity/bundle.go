package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Bundle is a set of root certificates. It is never written once made.
type Bundle struct {
	// Certs are the roots in the order of the file, without duplicates.
	Certs []*x509.Certificate
	// Pool holds the same roots.
	Pool *x509.CertPool
}

// ParseBundle reads a trust bundle: one or more PEM blocks of type CERTIFICATE,
// each a CA. Text between blocks is allowed, as openssl writes it. Anything
// else is refused, so that a damaged file never shrinks the bundle silently.
func ParseBundle(data []byte) (*Bundle, error) {
	certs, err := ParseCertificates(data)
	if err != nil {
		return nil, err
	}

	b := &Bundle{Pool: x509.NewCertPool()}
	for _, c := range certs {
		if !c.IsCA {
			return nil, fmt.Errorf("certificate %q is not a CA (basic constraints)", c.Subject)
		}
		if b.has(c) {
			continue
		}
		b.Certs = append(b.Certs, c)
		b.Pool.AddCert(c)
	}
	return b, nil
}

func (b *Bundle) has(c *x509.Certificate) bool {
	for _, have := range b.Certs {
		if have.Equal(c) {
			return true
		}
	}
	return false
}

// PEM is the bundle as a file.
func (b *Bundle) PEM() []byte { return EncodeCertificates(b.Certs) }

// ParseCertificates reads one or more PEM certificates, and nothing else.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a PEM block of type %q, want CERTIFICATE alone", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}

	if bytes.Contains(data, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("a PEM block after certificate %d is cut off or damaged", len(out))
	}
	if len(out) == 0 {
		return nil, errors.New("holds no PEM certificate")
	}
	return out, nil
}

// EncodeCertificates writes certificates as PEM, one after the other.
func EncodeCertificates(certs []*x509.Certificate) []byte {
	var buf bytes.Buffer
	for _, c := range certs {
		buf.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return buf.Bytes()
}

// OfCertificate reads the identity that a certificate proves. By the X.509-SVID
// specification, section 2, it has exactly one URI name.
func OfCertificate(c *x509.Certificate) (ID, error) {
	if len(c.URIs) != 1 {
		return ID{}, fmt.Errorf("certificate %x has %d URI names, want one SPIFFE ID", c.SerialNumber, len(c.URIs))
	}
	return Parse(c.URIs[0].String())
}
