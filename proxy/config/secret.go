package config

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
)

// Secret is one envoy.extensions.transport_sockets.tls.v3.Secret: either a certificate
// with its key, or roots. It is immutable.
type Secret struct {
	Name string
	// Certificate has its Leaf; nil when there are Roots.
	Certificate *tls.Certificate `json:"-"`
	Roots       *x509.CertPool   `json:"-"`
	// Version identifies the content.
	Version string
}

// SecretSlot holds the secret of one name as it changes over time. It is stable: who
// needs the secret keeps the slot, and loads from it at each handshake. It is safe for
// concurrent use.
type SecretSlot struct {
	p atomic.Pointer[Secret]
}

// Load returns the current secret, nil when there is none.
func (s *SecretSlot) Load() *Secret { return s.p.Load() }

// Store replaces the secret; nil: there is none any more.
func (s *SecretSlot) Store(secret *Secret) { s.p.Store(secret) }
