// Package jwks reads JSON Web Key Sets (RFC 7517): the public keys by which signatures of
// tokens are verified. Discovery refuses with it what proxies could not use, and proxies
// verify with what it returns.
//
// Keys that tokens cannot be verified with, as those of another use or type, are left out,
// as RFC 7517 section 5 asks. Secrets (HMAC) are among them: who can verify with one can
// sign with it, and every proxy would have it.
package jwks

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Limits of a set. A proxy holds the keys of every issuer, and tries some of them for each
// token that names none.
const (
	MaxBytes = 1 << 20
	MaxKeys  = 100
)

// minRSABits is the smallest modulus (RFC 7518 section 3.3).
const minRSABits = 2048

// Key is a public key.
type Key struct {
	ID string // "" where the set gives none
	// Algorithms are those that a signature by the key may have.
	Algorithms []jose.SignatureAlgorithm
	// Public is an *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
	Public any
}

// Set is the usable keys of a set. It is immutable.
type Set struct {
	Keys []Key
	// Skipped says of each key that is left out why.
	Skipped []string
}

// Algorithms are those of signatures that are verified at all.
func Algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
}

// Parse reads a set. A set without any usable key is none: the error says why each was
// left out.
func Parse(raw []byte) (*Set, error) {
	s, err := ParseAny(raw)
	if err == nil && len(s.Keys) == 0 {
		why := "it lists none"
		if len(s.Skipped) > 0 {
			why = strings.Join(s.Skipped, "; ")
		}
		err = fmt.Errorf("holds no key that verifies tokens: %s", why)
	}
	return s, err
}

// ParseAny is Parse of a set that may have no usable key: then no token is verified.
func ParseAny(raw []byte) (*Set, error) {
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("has more than %d bytes", MaxBytes)
	}

	var in struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	switch err := json.Unmarshal(raw, &in); {
	case err != nil:
		return nil, fmt.Errorf("is no JSON Web Key Set: %w", err)
	case in.Keys == nil:
		return nil, errors.New(`is no JSON Web Key Set: the list "keys" is missing`)
	case len(*in.Keys) > MaxKeys:
		return nil, fmt.Errorf("has %d keys, of which %d are taken at most", len(*in.Keys), MaxKeys)
	}

	s := &Set{}
	for i, one := range *in.Keys {
		k, err := parseKey(one)
		if err != nil {
			s.Skipped = append(s.Skipped, fmt.Sprintf("keys[%d] %v", i, err))
			continue
		}
		s.Keys = append(s.Keys, *k)
	}
	return s, nil
}

func parseKey(raw []byte) (*Key, error) {
	var in jose.JSONWebKey
	if err := in.UnmarshalJSON(raw); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "go-jose/go-jose: "))
	}
	if in.Use != "" && in.Use != "sig" {
		return nil, fmt.Errorf("is for the use %.40q, not for signatures", in.Use)
	}
	if _, secret := in.Key.([]byte); !secret && !in.IsPublic() {
		// Whoever reads the configuration could sign with it.
		return nil, errors.New("is a private key; give the public one")
	}

	k := &Key{ID: in.KeyID, Public: in.Key}
	var err error
	if k.Algorithms, err = algorithmsOf(in.Key); err != nil {
		return nil, err
	}
	if in.Algorithm != "" {
		only := jose.SignatureAlgorithm(in.Algorithm)
		if !slices.Contains(k.Algorithms, only) {
			return nil, fmt.Errorf("has the algorithm %.40q, which does not go with its type", in.Algorithm)
		}
		k.Algorithms = []jose.SignatureAlgorithm{only}
	}
	return k, nil
}

func algorithmsOf(key any) ([]jose.SignatureAlgorithm, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("is an RSA key of %d bits, fewer than %d", key.N.BitLen(), minRSABits)
		}
		return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}, nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		case elliptic.P521():
			return []jose.SignatureAlgorithm{jose.ES512}, nil
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	case []byte:
		return nil, errors.New("is a secret (HMAC), which every proxy could sign with")
	}
	return nil, errors.New("is of a type that verifies no tokens")
}
