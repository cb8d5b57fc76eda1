package jwks

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// document writes keys as a set.
func document(t *testing.T, keys ...jose.JSONWebKey) string {
	t.Helper()
	raw, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestKeysThatVerify: each type of key with the algorithms that it is for.
func TestKeysThatVerify(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	ec := func(c elliptic.Curve) *ecdsa.PublicKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return &k.PublicKey
	}
	for name, tt := range map[string]struct {
		key  jose.JSONWebKey
		want string
	}{
		"RSA":                   {jose.JSONWebKey{Key: &r.PublicKey, KeyID: "a"}, "[RS256 RS384 RS512 PS256 PS384 PS512]"},
		"RSA for one algorithm": {jose.JSONWebKey{Key: &r.PublicKey, Algorithm: "PS384", Use: "sig"}, "[PS384]"},
		"P-256":                 {jose.JSONWebKey{Key: ec(elliptic.P256())}, "[ES256]"},
		"P-384":                 {jose.JSONWebKey{Key: ec(elliptic.P384())}, "[ES384]"},
		"P-521":                 {jose.JSONWebKey{Key: ec(elliptic.P521())}, "[ES512]"},
		"Ed25519":               {jose.JSONWebKey{Key: ed}, "[EdDSA]"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse([]byte(document(t, tt.key)))
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Keys) != 1 || s.Keys[0].ID != tt.key.KeyID || fmt.Sprint(s.Keys[0].Algorithms) != tt.want {
				t.Errorf("read as %+v, want algorithms %s", s.Keys, tt.want)
			}
		})
	}
}

// TestKeysThatAreLeftOut: what no token can be verified with is left out, and a set of
// nothing else is refused with the reasons.
func TestKeysThatAreLeftOut(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := jose.JSONWebKey{Key: &r.PublicKey}
	weak := `{"kty":"RSA","e":"AQAB","n":"` + strings.Repeat("w", 171) + `"}`
	for name, tt := range map[string]struct{ raw, want string }{
		"no JSON":             {"-----BEGIN", "is no JSON Web Key Set"},
		"a key alone":         {`{"kty":"RSA"}`, `the list "keys" is missing`},
		"no keys":             {`{"keys":[]}`, "holds no key that verifies tokens: it lists none"},
		"a secret":            {document(t, jose.JSONWebKey{Key: []byte("secret")}), "keys[0] is a secret (HMAC)"},
		"a private key":       {document(t, jose.JSONWebKey{Key: r}), "keys[0] is a private key"},
		"of encryption":       {document(t, jose.JSONWebKey{Key: &r.PublicKey, Use: "enc"}), `keys[0] is for the use "enc"`},
		"another algorithm":   {document(t, jose.JSONWebKey{Key: &r.PublicKey, Algorithm: "HS256"}), `keys[0] has the algorithm "HS256", which does not go with its type`},
		"a short key":         {`{"keys":[` + weak + `]}`, "keys[0] is an RSA key of"},
		"an unknown type":     {`{"keys":[{"kty":"new"}]}`, "keys[0] "},
		"too many":            {`{"keys":[` + strings.Repeat("{},", MaxKeys) + `{}]}`, "has 101 keys"},
		"too long":            {`{"keys":[],"x":"` + strings.Repeat("x", MaxBytes) + `"}`, "has more than 1048576 bytes"},
		"a point off a curve": {`{"keys":[{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}]}`, "keys[0] "},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.raw)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}

	s, err := Parse([]byte(document(t, jose.JSONWebKey{Key: []byte("secret")}, good)))
	if err != nil || len(s.Keys) != 1 || len(s.Skipped) != 1 {
		t.Errorf("beside a good key: %+v, %v", s, err)
	}
	if s, err := ParseAny([]byte(`{"keys":[]}`)); err != nil || len(s.Keys) != 0 {
		t.Errorf("no keys, where that is allowed: %+v, %v", s, err)
	}
}
