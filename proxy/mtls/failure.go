package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

// Reason sorts handshake failures for metrics.
type Reason string

// Reasons for a failed handshake.
const (
	ReasonUnknownCA     Reason = "unknown_ca"
	ReasonExpired       Reason = "expired"
	ReasonSANMismatch   Reason = "san_mismatch"
	ReasonNoCertificate Reason = "no_certificate"
	ReasonNoIdentity    Reason = "no_identity" // we have no certificate or roots yet
	ReasonNoSecret      Reason = "no_secret"   // a gateway's certificate is missing, or has expired
	ReasonRemoteAlert   Reason = "remote_alert"
	ReasonTimeout       Reason = "timeout"
	ReasonProtocol      Reason = "protocol"
)

// VerifyError says why a peer was refused.
type VerifyError struct {
	Reason Reason
	Peer   string // SPIFFE id or subject of the peer, "" when it sent none
	Err    error
}

// Error implements error.
func (e *VerifyError) Error() string {
	if e.Peer == "" {
		return fmt.Sprintf("peer refused (%s): %v", e.Reason, e.Err)
	}
	return fmt.Sprintf("peer %s refused (%s): %v", e.Peer, e.Reason, e.Err)
}

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

// ReasonOf sorts the error of a handshake.
func ReasonOf(err error) Reason {
	var v *VerifyError
	if errors.As(err, &v) {
		return v.Reason
	}
	switch {
	case errors.Is(err, errNoCertificate):
		return ReasonNoIdentity
	case errors.Is(err, errNoSecret):
		return ReasonNoSecret
	}

	var ne net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		(errors.As(err, &ne) && ne.Timeout()) {
		return ReasonTimeout
	}

	// An alert that the peer sent. crypto/tls has no type for the error of a
	// client without a certificate, only its text.
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "remote error" {
		return ReasonRemoteAlert
	}
	if err != nil && err.Error() == "tls: client didn't provide a certificate" {
		return ReasonNoCertificate
	}
	return ReasonProtocol
}

var errNoSecret = errors.New("nothing to show or to judge by")

var errNoCertificate = errors.New("no certificate of our own yet: the mesh's CA has not signed one")

// chainReason sorts an error of x509 verification.
func chainReason(err error) Reason {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return ReasonExpired
	}
	return ReasonUnknownCA
}

// peerName names a peer in messages.
func peerName(leaf *x509.Certificate) string {
	if len(leaf.URIs) > 0 {
		return leaf.URIs[0].String()
	}
	return leaf.Subject.String()
}

// PeerURI returns the first URI SAN of the peer of an established
// connection, or "".
func PeerURI(state *tls.ConnectionState) string {
	if state == nil || len(state.PeerCertificates) == 0 || len(state.PeerCertificates[0].URIs) == 0 {
		return ""
	}
	return state.PeerCertificates[0].URIs[0].String()
}
