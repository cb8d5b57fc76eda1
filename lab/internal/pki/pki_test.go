package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/pki"
)

func TestIssuedCertificateVerifies(t *testing.T) {
	now := time.Now()
	ca, err := pki.NewAuthority("test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Leaf{
		CommonName: "system:node:n", Organizations: []string{"system:nodes"},
		DNSNames: []string{"n"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		Server: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Cert)
	verify := func(name string, usage x509.ExtKeyUsage, at time.Time) error {
		_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
		return err
	}
	for _, name := range []string{"n", "10.0.0.1"} {
		if err := verify(name, x509.ExtKeyUsageServerAuth, now); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if verify("other", x509.ExtKeyUsageServerAuth, now) == nil {
		t.Error("good for a name that it lacks")
	}
	if verify("n", x509.ExtKeyUsageClientAuth, now) == nil {
		t.Error("good for a client though asked for a server")
	}
	if verify("n", x509.ExtKeyUsageServerAuth, now.AddDate(11, 0, 0)) == nil {
		t.Error("good for ever")
	}
	if cert.Leaf.Subject.Organization[0] != "system:nodes" || cert.Leaf.IsCA {
		t.Errorf("subject %v, CA %v", cert.Leaf.Subject, cert.Leaf.IsCA)
	}
	stranger, err := pki.NewAuthority("test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(stranger.Cert)
	if verify("n", x509.ExtKeyUsageServerAuth, now) == nil {
		t.Error("good under another authority of the same name")
	}
}
