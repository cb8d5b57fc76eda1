package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
)

// Phase says how far a dial got.
type Phase string

// Phases of a dial.
const (
	PhaseConnect Phase = "connect"
	PhaseTLS     Phase = "tls"
)

// DialError says why an endpoint could not be used.
type DialError struct {
	Cluster string
	Addr    netip.AddrPort
	Phase   Phase
	Err     error
}

// Error implements error.
func (e *DialError) Error() string {
	return fmt.Sprintf("cluster %s: endpoint %s: %s: %v", e.Cluster, e.Addr, e.Phase, e.Err)
}

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// Dial connects to the endpoint, with TLS where its transport says so, and
// returns the connection with the protocol agreed on by ALPN. proto chooses
// what is offered. The cluster's connect timeout bounds all of it. Failure is
// a *DialError, and is counted for outlier ejection, or an *OverflowError. Once
// the connection is closed, Hangup is to be called.
func (e *Endpoint) Dial(ctx context.Context, proto config.Protocol) (net.Conn, string, error) {
	if err := e.open(); err != nil {
		return nil, "", err
	}
	conn, alpn, err := e.dial(ctx, proto)
	if err != nil {
		e.Hangup()
	}
	return conn, alpn, err
}

func (e *Endpoint) dial(ctx context.Context, proto config.Protocol) (net.Conn, string, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cluster.cfg.ConnectTimeout)
	defer cancel()

	raw, err := e.connect(ctx, proto)
	if err != nil {
		return nil, "", e.failed(ctx, PhaseConnect, err)
	}
	e.limitSilence(raw, proto)
	if e.transport.tls == nil {
		e.reached()
		return raw, "", nil
	}

	rec, err := mtls.NewConn(raw)
	if err != nil {
		raw.Close()
		return nil, "", e.failed(ctx, PhaseTLS, err)
	}

	cfg := e.tlsConfig(proto)
	conn := tls.Client(rec, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		mtls.Forget(cfg) // the session may be to blame: the next handshake is a full one
		raw.Close()
		return nil, "", e.failed(ctx, PhaseTLS, err)
	}
	e.reached()
	return conn, conn.ConnectionState().NegotiatedProtocol, nil
}

// reached resets the count of consecutive connect errors.
func (e *Endpoint) reached() {
	// See Report: a store for each connection would be felt.
	if e.health.failures.Load() != 0 {
		e.health.failures.Store(0)
	}
}

// failed wraps an error and counts it, unless the caller gave up.
func (e *Endpoint) failed(ctx context.Context, phase Phase, err error) error {
	if context.Cause(ctx) != context.Canceled {
		e.Report(outcomeConnectError)
		if phase == PhaseTLS {
			e.cluster.set.refused(mtls.ReasonOf(err))
		}
		if e.cluster.names != nil {
			e.cluster.names.hurry()
		}
	}
	return &DialError{Cluster: e.cluster.cfg.Name, Addr: e.addr, Phase: phase, Err: err}
}

// ErrOwnListener is why an endpoint at the proxy's own listener is refused.
var ErrOwnListener = errors.New("the address is this proxy's own listener: what is sent there would come back for ever")

// connect opens the TCP connection, for a protocol.
func (e *Endpoint) connect(ctx context.Context, proto config.Protocol) (*net.TCPConn, error) {
	if e.cluster.set.own(e.addr) {
		e.cluster.set.ownTold(e.cluster.cfg.Name)
		return nil, ErrOwnListener
	}

	d := net.Dialer{KeepAlive: -1, KeepAliveConfig: e.keepalive(proto)}
	if src, ok := bindSource(e.cluster.cfg.BindSource, e.addr.Addr()); ok {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
	}

	c, err := d.DialContext(ctx, "tcp", e.addr.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// bindSource returns the source address of the destination's family.
func bindSource(sources []netip.Addr, dst netip.Addr) (netip.Addr, bool) {
	for _, s := range sources {
		if s.Is4() == dst.Unmap().Is4() {
			return s, true
		}
	}
	return netip.Addr{}, false
}

// PeerURI returns the SPIFFE id of the server at the other end, "" for a
// plaintext connection.
func PeerURI(conn net.Conn) string {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return ""
	}
	state := t.ConnectionState()
	return mtls.PeerURI(&state)
}
