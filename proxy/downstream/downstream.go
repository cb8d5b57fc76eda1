// Package downstream says what is known of an accepted connection once its
// filter chain is chosen and its TLS is terminated: where it came from, where
// it wanted to go, who is at the other end. Package listen fills it in;
// packages httpproxy and telemetry read it.
//
// It holds no sockets and no logic of forwarding.
package downstream

import (
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
)

// Info describes one accepted connection. It is immutable once the
// connection is handed on.
type Info struct {
	Listener  string
	Chain     string
	Direction config.Direction
	// Local is where the peer wanted to go: the original destination of a
	// redirected connection, else the address it was accepted on.
	Local netip.AddrPort
	// Peer is the remote address.
	Peer netip.AddrPort
	// SNI and OfferedALPN come from the ClientHello, if one was seen.
	SNI         string
	OfferedALPN []string
	// TLS is nil for a connection that was not terminated here.
	TLS *TLS
	// Protocol is what the inspectors or ALPN say is spoken inside:
	// ProtocolUnknown when nobody could tell.
	Protocol config.Protocol
	Start    time.Time
	// Drain is closed when the connection should end at the next good
	// moment: its listener changed or the proxy shuts down. A connection
	// that does not end is closed after the drain time.
	Drain <-chan struct{}
}

// MTLS tells whether the peer proved an identity.
func (i *Info) MTLS() bool { return i.TLS != nil && i.TLS.Peer != nil }

// PeerPrincipal returns the peer's SPIFFE id, or "".
func (i *Info) PeerPrincipal() string {
	if i.TLS == nil {
		return ""
	}
	return i.TLS.PeerURI
}

// TLS describes terminated TLS.
type TLS struct {
	// ALPN is the protocol agreed on, or "".
	ALPN string
	// Peer is the verified certificate of the peer; nil when it sent none.
	Peer *x509.Certificate
	// PeerURI is the peer's first URI SAN: spiffe://TD/ns/NS/sa/SA.
	PeerURI string
	// OwnURI is the first URI SAN of the certificate that we presented.
	OwnURI  string
	Version uint16
}

// TCPRecorder takes note of what happens on one proxied TCP connection.
type TCPRecorder interface {
	// Add counts bytes since the last call: received from the peer, and sent
	// to it. It is called now and then while a connection lasts, from more
	// than one goroutine.
	Add(received, sent int64)
	// Close ends the record and says why the connection ended: NoCluster,
	// NoHealthyUpstream, UpstreamFailure (no connection), UpstreamTerminated
	// or DownstreamClosed (broken off by that side), or None.
	Close(outcome.Flag)
	// Denied ends the record of a connection that a policy refused, in place of Close;
	// the details are Envoy's.
	Denied(details string)
}
