package ca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/identity"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func files(t testing.TB, root ca.Pair, cluster string) map[string][]byte {
	t.Helper()
	inter, err := ca.CreateIntermediate(root, "Test", cluster, 24*time.Hour, time.Now())
	check(t, err)
	f, err := ca.Files(inter, root.Cert)
	check(t, err)
	return f
}

func newRoot(t testing.TB) ca.Pair {
	t.Helper()
	root, err := ca.CreateRoot("Test", 48*time.Hour, time.Now())
	check(t, err)
	return root
}

func keyPEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestMaterialErrorsNameTheFile(t *testing.T) {
	root, other := newRoot(t), newRoot(t)
	good := files(t, root, "c1")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 1024)
	check(t, err)
	otherKey, err := other.KeyPEM()
	check(t, err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	m, err := ca.ParseMaterial(good, time.Now())
	check(t, err)
	tests := []struct {
		name, file, says string
		edit             func(f map[string][]byte)
		at               time.Duration
	}{
		{name: "good"},
		{name: "no chain, signed by the root", edit: func(f map[string][]byte) { delete(f, ca.FileChain) }},
		{name: "self-signed", edit: func(f map[string][]byte) {
			f[ca.FileCert], f[ca.FileRoot] = root.CertPEM(), root.CertPEM()
			f[ca.FileKey], _ = root.KeyPEM()
			delete(f, ca.FileChain)
		}},
		{
			name: "no cert",
			file: ca.FileCert,
			says: "missing",
			edit: func(f map[string][]byte) { delete(f, ca.FileCert) },
		},
		{
			name: "no key",
			file: ca.FileKey,
			says: "missing",
			edit: func(f map[string][]byte) { f[ca.FileKey] = []byte(" \n") },
		},
		{
			name: "no root",
			file: ca.FileRoot,
			says: "missing",
			edit: func(f map[string][]byte) { delete(f, ca.FileRoot) },
		},
		{
			name: "garbage",
			file: ca.FileCert,
			says: "no PEM certificate",
			edit: func(f map[string][]byte) { f[ca.FileCert] = []byte("hello") },
		},
		{
			name: "key of another",
			file: ca.FileKey,
			says: "is not the key of the certificate",
			edit: func(f map[string][]byte) { f[ca.FileKey] = otherKey },
		},
		{
			name: "short key",
			file: ca.FileKey,
			says: "1024 bits",
			edit: func(f map[string][]byte) { f[ca.FileKey] = keyPEM(t, rsaKey) },
		},
		{
			name: "certificate as key",
			file: ca.FileKey,
			says: "want a private key",
			edit: func(f map[string][]byte) { f[ca.FileKey] = f[ca.FileCert] },
		},
		{
			name: "other root",
			file: ca.FileChain,
			says: "does not lead from",
			edit: func(f map[string][]byte) { f[ca.FileRoot] = other.CertPEM() },
		},
		{name: "other root, no chain", file: ca.FileRoot, says: "does not lead from", edit: func(f map[string][]byte) {
			f[ca.FileRoot] = other.CertPEM()
			delete(f, ca.FileChain)
		}},
		{
			name: "key in the root file",
			file: ca.FileRoot,
			says: "PEM block of type",
			edit: func(f map[string][]byte) { f[ca.FileRoot] = append(f[ca.FileRoot], f[ca.FileKey]...) },
		},
		{
			name: "cut off",
			file: ca.FileChain,
			says: "cut off",
			edit: func(f map[string][]byte) { f[ca.FileChain] = f[ca.FileChain][:len(f[ca.FileChain])-60] },
		},
		{name: "expired", file: ca.FileCert, says: "expired", at: 25 * time.Hour},
		{name: "not yet", file: ca.FileCert, says: "not valid before", at: -time.Hour},
		{name: "not a CA", file: ca.FileCert, says: "not a CA", edit: func(f map[string][]byte) {
			f[ca.FileCert], f[ca.FileKey] = leafOf(t, m, leafKey), keyPEM(t, leafKey)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := map[string][]byte{}
			for k, v := range good {
				f[k] = append([]byte(nil), v...)
			}
			if tt.edit != nil {
				tt.edit(f)
			}
			_, err := ca.ParseMaterial(f, time.Now().Add(tt.at))
			if tt.file == "" {
				check(t, err)
				return
			}
			var fe *ca.FileError
			if !errors.As(err, &fe) || fe.File != tt.file || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want an error of %s that says %q", err, tt.file, tt.says)
			}
		})
	}
}

// leafOf signs a certificate that is no CA.
func leafOf(t testing.TB, m *ca.Material, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: m.Cert.SerialNumber, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, m.Cert, key.Public(), m.Key)
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func csr(t testing.TB, tmpl *x509.CertificateRequest) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func secret(f map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: ca.SecretPlugged}, Data: f}
}

func TestSign(t *testing.T) {
	root := newRoot(t)
	a, err := ca.Load(t.Context(), fake.NewClientset(secret(files(t, root, "c1"))), ca.Config{})
	check(t, err)
	id := identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"}
	chain, err := a.Sign(csr(t, &x509.CertificateRequest{URIs: []*url.URL{id.URI()}}), id, 0)
	check(t, err)
	certs, err := identity.ParseCertificates([]byte(strings.Join(chain, "")))
	check(t, err)
	if len(certs) != 3 || !certs[2].Equal(root.Cert) {
		t.Fatalf("chain of %d, want leaf, intermediate, root", len(certs))
	}
	if got, err := identity.OfCertificate(certs[0]); err != nil || got != id {
		t.Errorf("leaf is for %v, %v", got, err)
	}
	if life := time.Until(certs[0].NotAfter); life > 24*time.Hour || life < 23*time.Hour {
		t.Errorf("leaf lives %s", life)
	}
	inter := x509.NewCertPool()
	inter.AddCert(certs[1])
	_, err = certs[0].Verify(x509.VerifyOptions{Roots: a.Roots().Pool, Intermediates: inter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	check(t, err)

	stranger := identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "admin"}
	tampered := csr(t, &x509.CertificateRequest{})
	tampered[len(tampered)-60] ^= 1
	for name, tt := range map[string]struct {
		csr  []byte
		id   identity.ID
		ttl  time.Duration
		says string
	}{
		"another's name": {
			csr:  csr(t, &x509.CertificateRequest{URIs: []*url.URL{stranger.URI()}}),
			id:   id,
			says: "the caller is spiffe://cluster.local/ns/foo/sa/default",
		},
		"two names": {
			csr:  csr(t, &x509.CertificateRequest{URIs: []*url.URL{id.URI(), stranger.URI()}}),
			id:   id,
			says: "2 URI names",
		},
		"DNS name": {
			csr:  csr(t, &x509.CertificateRequest{DNSNames: []string{"istiod.istio-system.svc"}}),
			id:   id,
			says: "DNS",
		},
		"IP": {
			csr:  csr(t, &x509.CertificateRequest{IPAddresses: []net.IP{net.ParseIP("10.0.0.1")}}),
			id:   id,
			says: "IP",
		},
		"tampered": {tampered, id, 0, ""},
		"garbage":  {[]byte("x"), id, 0, "no PEM"},
		"negative": {csr(t, &x509.CertificateRequest{}), id, -1, "lifetime"},
		"other trust domain": {
			csr:  csr(t, &x509.CertificateRequest{}),
			id:   identity.ID{TrustDomain: "x.org", Namespace: "a", ServiceAccount: "b"},
			says: "trust domain",
		},
		"nobody": {csr(t, &x509.CertificateRequest{}), identity.ID{}, 0, "empty"},
	} {
		_, err := a.Sign(tt.csr, tt.id, tt.ttl)
		var re *ca.RequestError
		if !errors.As(err, &re) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want a refusal that says %q", name, err, tt.says)
		}
	}
}

func TestLoadSelfSignedOnce(t *testing.T) {
	client := fake.NewClientset()
	a, err := ca.Load(t.Context(), client, ca.Config{})
	check(t, err)
	b, err := ca.Load(t.Context(), client, ca.Config{})
	check(t, err)
	if string(a.RootPEM()) != string(b.RootPEM()) {
		t.Error("the second replica has another root")
	}
	s, err := client.CoreV1().Secrets("istio-system").Get(t.Context(), ca.SecretSelfSigned, metav1.GetOptions{})
	check(t, err)
	if string(s.Data[ca.FileCert]) != string(a.RootPEM()) {
		t.Error("the secret holds another root")
	}
}

func TestLoadRefusesBadPlugged(t *testing.T) {
	f := files(t, newRoot(t), "c1")
	f[ca.FileRoot] = newRoot(t).CertPEM()
	_, err := ca.Load(t.Context(), fake.NewClientset(secret(f)), ca.Config{})
	if err == nil || !strings.Contains(err.Error(), "secret istio-system/cacerts is wrong: cert-chain.pem: ") {
		t.Errorf("got %v", err)
	}
}

func TestRSASampleCerts(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: newRoot(t).Cert.SerialNumber, IsCA: true, BasicConstraintsValid: true, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	check(t, err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	a, err := ca.Load(t.Context(), fake.NewClientset(secret(map[string][]byte{ca.FileCert: cert, ca.FileKey: pkcs1, ca.FileRoot: cert, ca.FileChain: cert})), ca.Config{})
	check(t, err)
	id := identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"}
	chain, err := a.Sign(csr(t, &x509.CertificateRequest{}), id, 0)
	check(t, err)
	if len(chain) != 2 {
		t.Errorf("chain of %d, want leaf and root", len(chain))
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestPublishAndRotate(t *testing.T) {
	ns := func(name string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	oldRoot := newRoot(t)
	client := fake.NewClientset(ns("a"), ns("b"), secret(files(t, oldRoot, "c1")))
	a, err := ca.Load(t.Context(), client, ca.Config{})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		check(t, <-done)
	}()
	published := func(name, root string) func() bool {
		return func() bool {
			cm, err := client.CoreV1().ConfigMaps(name).Get(ctx, ca.ConfigMapRoot, metav1.GetOptions{})
			return err == nil && cm.Data[ca.FileRoot] == root
		}
	}
	first := string(a.RootPEM())
	eventually(t, "root in a", published("a", first))
	eventually(t, "root in b", published("b", first))
	_, err = client.CoreV1().Namespaces().Create(ctx, ns("late"), metav1.CreateOptions{})
	check(t, err)
	eventually(t, "root in late", published("late", first))
	cm, err := client.CoreV1().ConfigMaps("a").Get(ctx, ca.ConfigMapRoot, metav1.GetOptions{})
	check(t, err)
	cm.Data[ca.FileRoot] = "tampered"
	_, err = client.CoreV1().ConfigMaps("a").Update(ctx, cm, metav1.UpdateOptions{})
	check(t, err)
	eventually(t, "root in a again", published("a", first))

	tlsConf := a.ServerTLS([]string{"istiod.istio-system.svc"})
	hello := func() *x509.Certificate {
		c, err := tlsConf.GetCertificate(&tls.ClientHelloInfo{})
		check(t, err)
		return c.Leaf
	}
	before := hello()
	if again := hello(); !again.Equal(before) {
		t.Error("another server certificate for the same CA")
	}

	bad := files(t, newRoot(t), "c1")
	bad[ca.FileKey] = files(t, oldRoot, "x")[ca.FileKey]
	_, err = client.CoreV1().Secrets("istio-system").Update(ctx, secret(bad), metav1.UpdateOptions{})
	check(t, err)
	time.Sleep(50 * time.Millisecond)
	if string(a.RootPEM()) != first {
		t.Fatal("a wrong secret came into force")
	}
	changed := a.Changed()
	both := files(t, newRoot(t), "c1")
	both[ca.FileRoot] = fmt.Appendf(both[ca.FileRoot], "%s", oldRoot.CertPEM())
	_, err = client.CoreV1().Secrets("istio-system").Update(ctx, secret(both), metav1.UpdateOptions{})
	check(t, err)
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Fatal("the new CA did not come into force")
	}
	eventually(t, "both roots in b", published("b", string(a.RootPEM())))
	if hello().Equal(before) {
		t.Error("the server certificate is still the old CA's")
	}
	if err := hello().VerifyHostname("istiod.istio-system.svc"); err != nil {
		t.Error(err)
	}
}

func FuzzParseMaterial(f *testing.F) {
	root := newRoot(f)
	good := files(f, root, "c1")
	f.Add(good[ca.FileCert], good[ca.FileKey], good[ca.FileRoot], good[ca.FileChain])
	f.Fuzz(func(t *testing.T, cert, key, rootPEM, chain []byte) {
		m, err := ca.ParseMaterial(map[string][]byte{ca.FileCert: cert, ca.FileKey: key, ca.FileRoot: rootPEM, ca.FileChain: chain}, time.Now())
		if err == nil && (m.Key == nil || m.Root == nil || !m.Cert.IsCA) {
			t.Error("accepted material is incomplete")
		}
	})
}
