// Package mtlstest makes authorities, certificates and identities for tests
// of the data plane. It is not for use outside of tests.
package mtlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"
)

// CA is a certificate authority.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
	t    testing.TB
}

// NewCA makes a self-signed authority.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{Cert: cert, key: key, t: t}
}

// Pool returns a trust bundle of this authority alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

// Issue signs a certificate with a URI name that is valid until notAfter.
func (ca *CA) Issue(uri string, notAfter time.Time) *tls.Certificate {
	ca.t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		ca.t.Fatal(err)
	}
	return ca.issue(&x509.Certificate{NotAfter: notAfter, URIs: []*url.URL{u}})
}

// IssueServer signs a certificate for host names that is valid until notAfter.
func (ca *CA) IssueServer(notAfter time.Time, hosts ...string) *tls.Certificate {
	ca.t.Helper()
	return ca.issue(&x509.Certificate{NotAfter: notAfter, DNSNames: hosts})
}

func (ca *CA) issue(tmpl *x509.Certificate) *tls.Certificate {
	ca.t.Helper()
	key := newKey(ca.t)
	tmpl.SerialNumber, tmpl.NotBefore = serial(ca.t), time.Now().Add(-24*time.Hour)
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, &key.PublicKey, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Identity returns an identity with a certificate of this authority, valid
// for an hour.
func (ca *CA) Identity(uri string) *Identity {
	return NewIdentity(ca.Issue(uri, time.Now().Add(time.Hour)), ca.Pool())
}

// Identity is an mtls.Identity whose parts a test sets.
type Identity struct {
	mu      sync.Mutex
	cert    *tls.Certificate
	roots   *x509.CertPool
	changed chan struct{}
}

// NewIdentity makes an Identity.
func NewIdentity(cert *tls.Certificate, roots *x509.CertPool) *Identity {
	return &Identity{cert: cert, roots: roots, changed: make(chan struct{})}
}

// Set replaces both parts.
func (i *Identity) Set(cert *tls.Certificate, roots *x509.CertPool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cert, i.roots = cert, roots
	close(i.changed)
	i.changed = make(chan struct{})
}

// Certificate implements mtls.Identity.
func (i *Identity) Certificate() *tls.Certificate {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.cert
}

// Roots implements mtls.Identity.
func (i *Identity) Roots() *x509.CertPool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.roots
}

// Changed implements mtls.Identity.
func (i *Identity) Changed() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changed
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
