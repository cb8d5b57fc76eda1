package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
)

// clockSkew is how far before now a certificate's validity begins: clocks of
// other nodes may be slow, and would refuse it as not yet valid.
const clockSkew = 2 * time.Minute

// Pair is a CA certificate with its key.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// ParsePair reads a CA certificate and its key from PEM.
func ParsePair(certPEM, keyPEM []byte, now time.Time) (Pair, error) {
	certs, err := identity.ParseCertificates(certPEM)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate: %w", err)
	}

	key, err := parseKey(keyPEM)
	if err != nil {
		return Pair{}, fmt.Errorf("key: %w", err)
	}
	if err := checkCA(certs[0], now); err != nil {
		return Pair{}, err
	}
	if !publicEqual(key.Public(), certs[0].PublicKey) {
		return Pair{}, errors.New("the key is not the certificate's")
	}
	return Pair{Cert: certs[0], Key: key}, nil
}

// CreateRoot makes a self-signed P-256 root.
func CreateRoot(org string, ttl time.Duration, now time.Time) (Pair, error) {
	return create(pkix.Name{Organization: []string{org}, CommonName: "Root CA"}, ttl, -1, Pair{}, now)
}

// CreateIntermediate makes a P-256 signing CA for a cluster, under root. It
// may sign workloads only, no further CA, and does not outlive the root.
func CreateIntermediate(root Pair, org, cluster string, ttl time.Duration, now time.Time) (Pair, error) {
	name := pkix.Name{Organization: []string{org}, CommonName: "Intermediate CA", Locality: []string{cluster}}
	return create(name, ttl, 0, root, now)
}

// create makes a CA certificate. maxPath is the number of CAs allowed below it,
// -1 for any; parent is empty for a self-signed one.
func create(name pkix.Name, ttl time.Duration, maxPath int, parent Pair, now time.Time) (Pair, error) {
	if ttl <= 0 {
		return Pair{}, fmt.Errorf("lifetime %s is not positive", ttl)
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make a key: %w", err)
	}

	serial, err := newSerial()
	if err != nil {
		return Pair{}, err
	}

	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               name,
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(ttl),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            maxPath,
		MaxPathLenZero:        maxPath == 0,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}

	// Peers refuse a chain of which any certificate has expired, so none is to
	// outlive the one above it.
	if parent.Cert == nil {
		parent = Pair{Cert: tmpl, Key: key}
	} else if tmpl.NotAfter.After(parent.Cert.NotAfter) {
		tmpl.NotAfter = parent.Cert.NotAfter
	}

	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent.Cert, key.Public(), parent.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("sign the CA certificate: %w", err)
	}

	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Cert: cert, Key: key}, nil
}

// CertPEM is the certificate as a file.
func (p Pair) CertPEM() []byte { return identity.EncodeCertificates([]*x509.Certificate{p.Cert}) }

// KeyPEM is the key as a PKCS #8 file.
func (p Pair) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Files are the four files of a signing CA under root.
func Files(signing Pair, root *x509.Certificate) (map[string][]byte, error) {
	key, err := signing.KeyPEM()
	if err != nil {
		return nil, err
	}
	rootPEM := identity.EncodeCertificates([]*x509.Certificate{root})
	return map[string][]byte{
		FileCert:  signing.CertPEM(),
		FileKey:   key,
		FileRoot:  rootPEM,
		FileChain: bytes.Join([][]byte{signing.CertPEM(), rootPEM}, nil),
	}, nil
}

// newSerial draws a serial number: 127 random bits, positive by RFC 5280,
// section 4.1.2.2.
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}
