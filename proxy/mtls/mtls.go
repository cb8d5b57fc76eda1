// Package mtls makes crypto/tls configurations out of decoded TLS contexts,
// and judges peers: the chain against the trust bundle of the moment, the
// names against the matchers, on every handshake, resumed ones included.
//
// It opens no sockets and holds no keys of its own: those are the identity's.
package mtls

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Secrets hands out the slots in which the Secrets arrive that discovery serves, by name.
type Secrets interface {
	Secret(name string) *config.SecretSlot
}

// Identity is the proxy's own certificate and the roots it trusts, as they
// are now. Implementations are safe for concurrent use.
type Identity interface {
	// Certificate returns the current certificate with its chain; nil before
	// the first was issued.
	Certificate() *tls.Certificate
	// Roots returns the current trust bundle; nil before the first was read.
	// A changed bundle is another pointer.
	Roots() *x509.CertPool
	// Changed is closed at the next change of either.
	Changed() <-chan struct{}
}
