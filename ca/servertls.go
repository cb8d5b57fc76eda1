package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"time"
)

// serverCertTTL is the lifetime of discovery's own certificates. They live in
// memory only and are renewed at half of it.
const serverCertTTL = 24 * time.Hour

// ServerTLS is the configuration of a gRPC server that proves the DNS names by a
// certificate of this CA. A client may show a certificate; if it does, it must
// be of the mesh's roots in force at that moment. The certificate renews itself,
// and follows the CA when that changes.
func (a *Authority) ServerTLS(dnsNames []string) *tls.Config {
	base := a.WebhookTLS(dnsNames)
	base.NextProtos = []string{"h2"}

	// The roots are looked up for each connection: they may have changed since
	// the last.
	outer := base.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := base.Clone()
		c.ClientAuth = tls.VerifyClientCertIfGiven
		c.ClientCAs = a.Roots().Pool
		return c, nil
	}
	return outer
}

// WebhookTLS is ServerTLS for servers that take callers without looking at
// their certificates, as admission webhooks do: the API server's client
// certificate, if it shows one, is of another CA.
func (a *Authority) WebhookTLS(dnsNames []string) *tls.Config {
	s := &serverCert{a: a, names: slices.Clone(dnsNames)}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.get(time.Now()) },
		// Without tickets a client proves itself at every connection, and
		// a removed root counts at once.
		SessionTicketsDisabled: true,
	}
}

// serverCert is one certificate that is made when needed.
type serverCert struct {
	a     *Authority
	names []string

	mu   sync.Mutex // guards what follows; held while a certificate is made
	cert *tls.Certificate
	from *Material // that signed cert
}

func (s *serverCert) get(now time.Time) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	m := s.a.cur.Load()
	if s.cert != nil && s.from == m {
		half := s.cert.Leaf.NotBefore.Add(s.cert.Leaf.NotAfter.Sub(s.cert.Leaf.NotBefore) / 2)
		if now.Before(half) {
			return s.cert, nil
		}
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a server key: %w", err)
	}

	leaf, err := m.leaf(key.Public(), nil, s.names, serverCertTTL, now)
	if err != nil {
		return nil, fmt.Errorf("server certificate for %v: %w", s.names, err)
	}

	cert := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, c := range m.Intermediates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	s.cert, s.from = cert, m
	return cert, nil
}
