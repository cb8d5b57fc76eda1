// Package pki makes the certificates of a rig: a root, and leaves for workloads
// and servers, all with P-256 keys, as the mesh's own CA makes them. They live for
// a day and secure nothing but the rig's namespaces.
//
// Package ca would make them as well, and bring client-go into the process whose
// memory bench measures as discovery's.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const lifetime = 24 * time.Hour

// Root signs leaves.
type Root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Leaf is a certificate with its key, as PEM.
type Leaf struct{ Cert, Key []byte }

// NewRoot makes a self-signed root.
func NewRoot() (*Root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	tmpl, err := template()
	if err != nil {
		return nil, err
	}
	tmpl.Subject = pkix.Name{CommonName: "rig root"}
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	return &Root{cert, key}, nil
}

func template() (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime)}, nil
}

// PEM is the root's certificate.
func (r *Root) PEM() []byte { return certPEM(r.cert.Raw) }

// Sign certifies the key as the SPIFFE ID and the DNS names, whichever are
// given, for both ends of a connection.
func (r *Root) Sign(pub crypto.PublicKey, spiffe string, dns ...string) ([]byte, error) {
	tmpl, err := template()
	if err != nil {
		return nil, err
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	tmpl.DNSNames = dns
	if spiffe != "" {
		u, err := url.Parse(spiffe)
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		tmpl.URIs = []*url.URL{u}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, r.cert, pub, r.key)
	if err != nil {
		return nil, fmt.Errorf("sign %s%v: %w", spiffe, dns, err)
	}
	return certPEM(der), nil
}

// Issue makes a key and certifies it as Sign does.
func (r *Root) Issue(spiffe string, dns ...string) (Leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Leaf{}, err
	}
	cert, err := r.Sign(key.Public(), spiffe, dns...)
	if err != nil {
		return Leaf{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Leaf{}, err
	}
	return Leaf{Cert: cert, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}, nil
}

// Save writes the root with its key into the directory, for another process.
func (r *Root) Save(dir string) error {
	der, err := x509.MarshalPKCS8PrivateKey(r.key)
	if err != nil {
		return err
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return errors.Join(os.WriteFile(filepath.Join(dir, "root-cert.pem"), r.PEM(), 0o644),
		os.WriteFile(filepath.Join(dir, "root-key.pem"), key, 0o600))
}

// LoadRoot reads what Save wrote.
func LoadRoot(dir string) (*Root, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "root-cert.pem"), filepath.Join(dir, "root-key.pem"))
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("root: key of type %T, want ECDSA", pair.PrivateKey)
	}
	return &Root{pair.Leaf, key}, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
