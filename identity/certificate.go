package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// keptFile is the file of key and certificate in the state directory.
const keptFile = "identity.pem"

// newRequest makes a P-256 key and the PEM request for it.
func newRequest(id ID) (*ecdsa.PrivateKey, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(crand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URI()}}, key)
	if err != nil {
		return nil, "", fmt.Errorf("make a certificate request: %w", err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// assemble joins key and chain. The root at the end, which a CA may send, is
// left off: peers have it.
func assemble(key *ecdsa.PrivateKey, chainPEM []string) (*tls.Certificate, error) {
	certs, err := ParseCertificates([]byte(strings.Join(chainPEM, "\n")))
	if err != nil {
		return nil, err
	}

	pub, ok := certs[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !key.PublicKey.Equal(pub) {
		return nil, errors.New("the certificate is for another key")
	}

	out := &tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for i, c := range certs {
		// Self-signed: a subject that is its own issuer may still be one of two
		// certificates of a CA with an exchanged key.
		if i > 0 && bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil {
			continue
		}
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// verifyChain tells whether peers with this bundle will take the certificate as
// id's at the time.
func verifyChain(cert *tls.Certificate, bundle *Bundle, id ID, now time.Time) error {
	got, err := OfCertificate(cert.Leaf)
	if err != nil {
		return err
	}
	if got != id {
		return fmt.Errorf("it is for %s, want %s", got, id)
	}

	inter := x509.NewCertPool()
	for _, raw := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return err
		}
		inter.AddCert(c)
	}

	_, err = cert.Leaf.Verify(x509.VerifyOptions{
		Roots: bundle.Pool, Intermediates: inter, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// renewAt is half-way through the lifetime, give or take a tenth of it, so that
// proxies that started together do not renew together. r is in [0,1).
func renewAt(notBefore, notAfter time.Time, r float64) time.Time {
	life := notAfter.Sub(notBefore)
	return notBefore.Add(time.Duration(float64(life) * (0.4 + 0.2*r)))
}

// backoff is the wait before attempt n+1: 0.2 s, growing by half as much again
// to 15 s, give or take a quarter.
func backoff(n int) time.Duration {
	d := 200 * time.Millisecond
	for range min(n, 20) {
		d = d * 3 / 2
	}
	d = min(d, 15*time.Second)
	return time.Duration(float64(d) * (0.75 + 0.5*rand.Float64()))
}

func jitter(d time.Duration) time.Duration { return time.Duration(float64(d) * rand.Float64()) }

// keep writes key and certificate for a restart, readable by the owner alone.
func (s *Source) keep(cert *tls.Certificate) error {
	if s.cfg.StateDir == "" {
		return nil
	}

	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}

	var buf bytes.Buffer
	buf.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	for _, raw := range cert.Certificate {
		buf.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
	}

	// Written beside and renamed: a process that dies here must not leave half a
	// file, which would be of no use at the next start.
	name := filepath.Join(s.cfg.StateDir, keptFile)
	tmp := name + ".tmp"
	if err := os.WriteFile(tmp, buf.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// loadKept puts a kept certificate into force if it is still good. A bad one
// is no error: a new one is asked for.
func (s *Source) loadKept() {
	if s.cfg.StateDir == "" || s.bundle.Load() == nil {
		return
	}

	name := filepath.Join(s.cfg.StateDir, keptFile)
	data, err := os.ReadFile(name)
	if err != nil {
		return
	}

	cert, err := tls.X509KeyPair(data, data)
	if err == nil {
		err = verifyChain(&cert, s.bundle.Load(), s.cfg.ID, time.Now())
	}
	if err != nil {
		s.cfg.Logger.Info("kept certificate is of no use", "file", name, "error", err)
		return
	}

	s.cert.Store(&cert)
	s.setErr(nil)
	s.cfg.Logger.Info("took up the kept certificate", "file", name, "until", cert.Leaf.NotAfter)
}

// caTLS is the configuration for the CA: the server must prove ServerName by
// the current bundle. Our certificate stays at home: the CA goes by the token,
// and after an exchange of its root it would refuse the old certificate before
// it looked at the token.
func (s *Source) caTLS() (*tls.Config, error) { return s.clientTLS(false) }

// DiscoveryTLS is the configuration for a discovery server: it must prove
// ServerName by the current bundle, and is shown the current certificate if it
// accepts certificates of its issuer.
func (s *Source) DiscoveryTLS() (*tls.Config, error) { return s.clientTLS(true) }

func (s *Source) clientTLS(showCert bool) (*tls.Config, error) {
	bundle := s.bundle.Load()
	if bundle == nil {
		return nil, fmt.Errorf("trust bundle %s is not there yet", s.cfg.RootFile)
	}

	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: s.cfg.ServerName,
		RootCAs:    bundle.Pool,
		NextProtos: []string{"h2"},
	}

	if showCert {
		cfg.GetClientCertificate = func(cri *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			// crypto/tls takes an empty certificate for none; nil would end the
			// handshake.
			cert := s.cert.Load()
			if cert == nil || cri.SupportsCertificate(cert) != nil {
				return &tls.Certificate{}, nil
			}
			return cert, nil
		}
	}
	return cfg, nil
}
