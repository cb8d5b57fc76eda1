package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
)

// The files of a signing CA, by the names that the Secret cacerts and the
// directory samples/certs give them.
const (
	FileCert  = "ca-cert.pem"
	FileKey   = "ca-key.pem"
	FileRoot  = "root-cert.pem"
	FileChain = "cert-chain.pem"
)

// Material is a checked signing CA: a key, its certificate, the certificates
// between it and a root, and the roots. It is never written once made.
type Material struct {
	Key  crypto.Signer
	Cert *x509.Certificate
	// Intermediates lead from Cert to a root: Cert itself first, no root. It
	// is empty when Cert is a root.
	Intermediates []*x509.Certificate
	// Root is the root that Cert leads to, and Roots the trust bundle of the
	// mesh, which may hold further ones, as while roots are being exchanged.
	Root  *x509.Certificate
	Roots *identity.Bundle
	// Origin says where it came from, for logs.
	Origin string
}

// FileError says which of the files is wrong.
type FileError struct {
	File string
	Err  error
}

func (e *FileError) Error() string { return e.File + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

func fileErrorf(file, format string, args ...any) error {
	return &FileError{File: file, Err: fmt.Errorf(format, args...)}
}

// ParseMaterial reads and checks the four files: the key must be the
// certificate's, the certificate a CA in its time of validity, and the chain
// must lead to a root. The chain may be missing when the root signed the
// certificate itself. Errors are of type *FileError.
func ParseMaterial(files map[string][]byte, now time.Time) (*Material, error) {
	for _, f := range []string{FileCert, FileKey, FileRoot} {
		if len(bytes.TrimSpace(files[f])) == 0 {
			return nil, fileErrorf(f, "missing or empty")
		}
	}

	certs, err := identity.ParseCertificates(files[FileCert])
	if err != nil {
		return nil, &FileError{FileCert, err}
	}

	m := &Material{Cert: certs[0]}
	if m.Key, err = parseKey(files[FileKey]); err != nil {
		return nil, &FileError{FileKey, err}
	}
	if m.Roots, err = identity.ParseBundle(files[FileRoot]); err != nil {
		return nil, &FileError{FileRoot, err}
	}
	if err := checkCA(m.Cert, now); err != nil {
		return nil, &FileError{FileCert, err}
	}
	if !publicEqual(m.Key.Public(), m.Cert.PublicKey) {
		return nil, fileErrorf(FileKey, "is not the key of the certificate in %s (%s)", FileCert, m.Cert.Subject)
	}

	chain := certs[1:]
	if len(bytes.TrimSpace(files[FileChain])) > 0 {
		more, err := identity.ParseCertificates(files[FileChain])
		if err != nil {
			return nil, &FileError{FileChain, err}
		}
		chain = append(chain, more...)
	}

	if err := m.link(chain, now); err != nil {
		return nil, err
	}
	return m, nil
}

func checkCA(c *x509.Certificate, now time.Time) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return fmt.Errorf("certificate %q is not a CA (basic constraints)", c.Subject)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("certificate %q may not sign certificates (key usage)", c.Subject)
	case now.After(c.NotAfter):
		return fmt.Errorf("certificate %q expired on %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("certificate %q is not valid before %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// link finds the way from the certificate to a root, and keeps what lies
// between.
func (m *Material) link(chain []*x509.Certificate, now time.Time) error {
	inter := x509.NewCertPool()
	for _, c := range chain {
		inter.AddCert(c)
	}

	paths, err := m.Cert.Verify(x509.VerifyOptions{
		Roots: m.Roots.Pool, Intermediates: inter, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		file := FileChain
		if len(chain) == 0 {
			file = FileRoot
		}
		return fileErrorf(file, "does not lead from the certificate in %s (%s, issued by %s) to a root in %s: %w",
			FileCert, m.Cert.Subject, m.Cert.Issuer, FileRoot, err)
	}

	// Cross-signed roots give several ways; the shortest is the least to send in
	// each handshake.
	path := paths[0]
	for _, p := range paths[1:] {
		if len(p) < len(path) {
			path = p
		}
	}
	m.Intermediates, m.Root = path[:len(path)-1], path[len(path)-1]
	return nil
}

// parseKey reads a private key as PKCS #8, PKCS #1 or SEC 1 PEM: RSA of 2048
// bits and more, or ECDSA on P-256 or P-384.
func parseKey(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	// openssl ecparam -genkey writes the curve in a block of its own before the
	// key, which names it, too.
	for block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("holds no PEM private key")
	}

	key, err := decodeKey(block)
	if err != nil {
		return nil, err
	}
	if err := checkPublicKey(key.Public()); err != nil {
		return nil, err
	}
	return key, nil
}

func decodeKey(block *pem.Block) (crypto.Signer, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if s, ok := k.(crypto.Signer); ok {
			return s, nil
		}
		return nil, fmt.Errorf("a %T cannot sign", k)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted: decrypt it first, for example with openssl pkey")
	}
	return nil, fmt.Errorf("holds a PEM block of type %q, want a private key", block.Type)
}

// checkPublicKey refuses keys that are too weak or that peers may not know.
func checkPublicKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return fmt.Errorf("RSA key of %d bits is too short, want 2048", k.N.BitLen())
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("ECDSA key on curve %s, want P-256 or P-384", k.Curve.Params().Name)
	}
	return fmt.Errorf("key of type %T, want RSA or ECDSA", pub)
}

func publicEqual(a, b crypto.PublicKey) bool {
	c, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && c.Equal(b)
}
