// Package jwttest makes keys and tokens for tests.
package jwttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Issuer signs tokens with one key.
type Issuer struct {
	t         testing.TB
	algorithm jose.SignatureAlgorithm
	key       crypto.Signer
	id        string
}

// NewIssuer makes a key for an algorithm.
func NewIssuer(t testing.TB, algorithm jose.SignatureAlgorithm, keyID string) *Issuer {
	t.Helper()
	i := &Issuer{t: t, algorithm: algorithm, id: keyID}
	var err error
	switch algorithm {
	case jose.ES256:
		i.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		i.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		i.key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, i.key, err = ed25519.GenerateKey(rand.Reader)
	default:
		i.key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Public is the key that verifies.
func (i *Issuer) Public() crypto.PublicKey { return i.key.Public() }

// JWKS is the key set of issuers.
func JWKS(t testing.TB, issuers ...*Issuer) string {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, i := range issuers {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: i.Public(), KeyID: i.id})
	}
	raw, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Token signs claims. Fields of header are added to the token's, or overwrite them.
func (i *Issuer) Token(claims map[string]any, header ...map[string]any) string {
	i.t.Helper()
	raw, err := json.Marshal(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	return i.Sign(raw, header...)
}

// Sign signs a payload as it stands.
func (i *Issuer) Sign(payload []byte, header ...map[string]any) string {
	i.t.Helper()
	opts := (&jose.SignerOptions{}).WithType("JWT")
	if i.id != "" {
		opts.WithHeader("kid", i.id)
	}
	for _, h := range header {
		for name, value := range h {
			opts.WithHeader(jose.HeaderKey(name), value)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: i.algorithm, Key: i.key}, opts)
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		i.t.Fatal(err)
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return out
}

// Unsigned puts a token together of parts that nobody has signed.
func Unsigned(header, payload, signature string) string {
	b := base64.RawURLEncoding.EncodeToString
	return b([]byte(header)) + "." + b([]byte(payload)) + "." + b([]byte(signature))
}
