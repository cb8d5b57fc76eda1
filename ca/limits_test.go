package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	securityapi "istio.io/api/security/v1alpha1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/identity"
)

// rsaRequest is a certificate request with an RSA key that nobody has the
// private half of: the modulus and the signature are noise.
func rsaRequest(t *testing.T, bits int, exponent *big.Int) []byte {
	t.Helper()
	noise := func() []byte {
		b := make([]byte, bits/8)
		_, _ = rand.Read(b) // it never fails
		return b
	}
	modulus := noise()
	modulus[0] |= 0x80
	modulus[len(modulus)-1] |= 1
	key, err := asn1.Marshal(struct{ N, E *big.Int }{new(big.Int).SetBytes(modulus), exponent})
	check(t, err)
	signature := noise()
	signature[0] = 0

	algorithm := func(last int) pkix.AlgorithmIdentifier {
		return pkix.AlgorithmIdentifier{
			Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, last},
			Parameters: asn1.RawValue{Tag: asn1.TagNull},
		}
	}
	type publicKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	type info struct {
		Version    int
		Subject    asn1.RawValue
		Key        publicKey
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	der, err := asn1.Marshal(struct {
		Info      info
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		info{Subject: asn1.RawValue{FullBytes: []byte{0x30, 0}}, Key: publicKey{algorithm(1), asn1.BitString{Bytes: key, BitLength: len(key) * 8}}},
		algorithm(11),
		asn1.BitString{Bytes: signature, BitLength: len(signature) * 8},
	})
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// The signature of a request with a key of a million bits took minutes to
// check, and anybody with a token could send one.
func TestHugeKeyIsNotWorkedOn(t *testing.T) {
	a, err := ca.Load(t.Context(), fake.NewClientset(secret(files(t, newRoot(t), "c1"))), ca.Config{})
	check(t, err)
	id := identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"}
	odd := big.NewInt(1<<31 - 1)
	for name, tt := range map[string]struct {
		request []byte
		says    string
	}{
		"of a good size":  {rsaRequest(t, 4096, odd), "signature"},
		"the largest":     {rsaRequest(t, 8192, odd), "signature"},
		"too short":       {rsaRequest(t, 1024, odd), "1024 bits"},
		"too long":        {rsaRequest(t, 8200, odd), "8200 bits"},
		"much too long":   {rsaRequest(t, 65536, odd), "65536 bits"},
		"a million bits":  {rsaRequest(t, 1<<20, odd), "bytes, more than 65536"},
		"even exponent":   {rsaRequest(t, 2048, big.NewInt(65536)), "exponent 65536"},
		"exponent of one": {rsaRequest(t, 2048, big.NewInt(1)), "exponent 1,"},
		"long exponent":   {rsaRequest(t, 2048, big.NewInt(1<<32+1)), "exponent 4294967297"},
	} {
		start := time.Now()
		_, err := a.Sign(tt.request, id, 0)
		var bad *ca.RequestError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want a refusal that says %q", name, err, tt.says)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: the refusal took %v", name, took)
		}
	}
}

func TestKindsOfKeys(t *testing.T) {
	a, err := ca.Load(t.Context(), fake.NewClientset(secret(files(t, newRoot(t), "c1"))), ca.Config{})
	check(t, err)
	id := identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"}
	curve := func(c elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		check(t, err)
		return key
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	for name, tt := range map[string]struct {
		key crypto.Signer
		bad bool
	}{
		"RSA 2048": {key: rsaKey},
		"P-224":    {key: curve(elliptic.P224()), bad: true},
		"P-256":    {key: curve(elliptic.P256())},
		"P-384":    {key: curve(elliptic.P384())},
		"P-521":    {key: curve(elliptic.P521())},
		"Ed25519":  {key: ed},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, tt.key)
		check(t, err)
		_, err = a.Sign(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), id, 0)
		if (err != nil) != tt.bad {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Whoever asks for more than there is gets what there is, as the clients of
// Istio's CA expect.
func TestLifetimeIsBounded(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	id := identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"}
	root, err := ca.CreateRoot("Test", 100*day, time.Now())
	check(t, err)
	signing, err := ca.CreateIntermediate(root, "Test", "c1", 100*day, time.Now())
	check(t, err)
	plugged, err := ca.Files(signing, root.Cert)
	check(t, err)
	for _, tt := range []struct {
		cfg         ca.Config
		asked, want time.Duration
	}{
		{asked: 0, want: day},
		{asked: hour, want: hour},
		{asked: 90 * day, want: day},
		{cfg: ca.Config{MaxTTL: 48 * hour}, asked: 90 * day, want: 48 * hour},
		{cfg: ca.Config{MaxTTL: 48 * hour}, asked: 0, want: day},
		{cfg: ca.Config{MaxTTL: hour}, asked: 0, want: hour},
		{cfg: ca.Config{MaxTTL: hour}, asked: day, want: hour},
		{cfg: ca.Config{TTL: 48 * hour}, asked: 0, want: 48 * hour},
	} {
		a, err := ca.Load(t.Context(), fake.NewClientset(secret(plugged)), tt.cfg)
		check(t, err)
		chain, err := a.Sign([]byte(request(t)), id, tt.asked)
		check(t, err)
		certs, err := identity.ParseCertificates([]byte(chain[0]))
		check(t, err)
		if left := time.Until(certs[0].NotAfter); left > tt.want || left < tt.want-time.Minute {
			t.Errorf("longest %v, default %v, asked for %v: got %v, want %v", tt.cfg.MaxTTL, tt.cfg.TTL, tt.asked, left, tt.want)
		}
	}
}

// Each made-up token cost the API server a TokenReview.
func TestBogusTokensAreNotAllReviewed(t *testing.T) {
	m := newMesh(t, "")
	asker := m.asker()
	asker.check("good", codes.InvalidArgument)
	before := m.reviews.Load()
	start := time.Now()
	for i := range 500 {
		asker.check(fmt.Sprint("bogus", i), codes.Unauthenticated, codes.ResourceExhausted)
	}
	// A burst of 50, and one each second.
	if n := m.reviews.Load() - before; n < 10 || n > 50+1+int64(time.Since(start)/time.Second) {
		t.Errorf("500 made-up tokens were reviewed %d times", n)
	}
	// Whoever is known already is not held up.
	asker.check("good", codes.InvalidArgument)
}

func TestRefusedTokenIsRemembered(t *testing.T) {
	m := newMesh(t, "")
	asker := m.asker()
	for range 20 {
		asker.check("bogus", codes.Unauthenticated)
	}
	if n := m.reviews.Load(); n != 1 {
		t.Errorf("one token was reviewed %d times at once", n)
	}
	asker.check(strings.Repeat("x", 17<<10), codes.Unauthenticated)
	if n := m.reviews.Load(); n != 1 {
		t.Error("a token of 17 KiB was reviewed")
	}
}

// asker asks for certificates over one connection, with requests that are no
// good.
type asker struct {
	t      *testing.T
	client securityapi.IstioCertificateServiceClient
}

func (m *mesh) asker() *asker {
	m.t.Helper()
	conn, err := grpc.NewClient(m.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})))
	check(m.t, err)
	m.t.Cleanup(func() { conn.Close() })
	return &asker{m.t, securityapi.NewIstioCertificateServiceClient(conn)}
}

// check wants one of the codes as the answer to a token: InvalidArgument is the
// word of a CA that knows the caller.
func (a *asker) check(token string, want ...codes.Code) {
	a.t.Helper()
	ctx := metadata.AppendToOutgoingContext(a.t.Context(), "authorization", "Bearer "+token)
	_, err := a.client.CreateCertificate(ctx, &securityapi.IstioCertificateRequest{Csr: "x"})
	for _, c := range want {
		if status.Code(err) == c {
			return
		}
	}
	a.t.Errorf("token %.10q: got %v, want %v", token, err, want)
}
