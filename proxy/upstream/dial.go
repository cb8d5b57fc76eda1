package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

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
// what is offered. The cluster's connect timeout bounds the TCP connection, and a
// few of them the handshake. Failure is a *DialError, and is counted for outlier
// ejection, or an *OverflowError. Once the connection is closed, Hangup is to be
// called.
func (e *Endpoint) Dial(ctx context.Context, proto config.Protocol) (net.Conn, string, error) {
	if err := e.Reserve(); err != nil {
		return nil, "", err
	}
	return e.DialReserved(ctx, proto)
}

// DialReserved is Dial after a Reserve that was no error; failure gives the
// reservation back.
func (e *Endpoint) DialReserved(ctx context.Context, proto config.Protocol) (net.Conn, string, error) {
	conn, alpn, err := e.dial(ctx, proto)
	if err != nil {
		e.Hangup()
	}
	return conn, alpn, err
}

const (
	// loneTries is how often an endpoint is dialled that is alone: a SYN that was lost
	// is sent again after a second (RFC 6298, section 2.1), which is longer than
	// connecting may take inside the mesh, and there is nowhere else to go meanwhile.
	loneTries = 3
	// handshakeShare is how many connect timeouts a TLS handshake may take, and
	// mostHandshake the bound of that. A connection is made by the kernel at the
	// other end; the handshake has to wait for a process that may be busy. That a
	// peer is cut off meanwhile is noticed sooner, see limitSilence. With an endpoint
	// that is alone it may take loneTries as long: what it has cost both sides is lost
	// when it is given up, and the next one costs the same again.
	handshakeShare = 4
	mostHandshake  = 10 * time.Second
)

func (e *Endpoint) dial(ctx context.Context, proto config.Protocol) (conn net.Conn, alpn string, err error) {
	raw, err := e.reachTCP(ctx, proto)
	if err != nil {
		return nil, "", err
	}
	e.limitSilence(raw, proto)
	cfg := e.tlsConfig(proto)
	if cfg == nil {
		e.reached()
		return raw, "", nil
	}
	return e.handshake(ctx, raw, cfg, proto)
}

// reachTCP opens the TCP connection, for the connect timeout at most.
func (e *Endpoint) reachTCP(ctx context.Context, proto config.Protocol) (*net.TCPConn, error) {
	for try := 1; ; try++ {
		trying, cancel := context.WithTimeout(ctx, e.cluster.Config().ConnectTimeout)
		raw, err := e.connect(trying, proto)
		cancel()
		if err == nil {
			return raw, nil
		}

		var timed net.Error
		late := errors.As(err, &timed) && timed.Timeout()
		if !late || ctx.Err() != nil || try == loneTries || !e.Alone() {
			return nil, e.failed(ctx, PhaseConnect, err)
		}
	}
}

// handshake makes a TLS connection of a TCP connection. It closes it when that fails.
func (e *Endpoint) handshake(ctx context.Context, raw *net.TCPConn, cfg *tls.Config, proto config.Protocol) (net.Conn, string, error) {
	ctx, cancel := context.WithTimeout(ctx, e.handshakeTime())
	defer cancel()

	rec, err := mtls.NewConn(raw)
	if err != nil {
		raw.Close()
		return nil, "", e.failed(ctx, PhaseTLS, err)
	}

	conn := tls.Client(rec, cfg)
	stop := e.watchHandshake(raw)
	err = conn.HandshakeContext(ctx)
	stop(err)
	if err != nil {
		mtls.Forget(cfg) // the session may be to blame: the next handshake is a full one
		raw.Close()
		e.oweHandshake(ctx, proto)
		return nil, "", e.failed(ctx, PhaseTLS, err)
	}
	e.reached()
	return conn, conn.ConnectionState().NegotiatedProtocol, nil
}

// handshakeTime bounds a TLS handshake.
func (e *Endpoint) handshakeTime() time.Duration {
	limit, share := e.cluster.Config().ConnectTimeout, handshakeShare
	if e.Alone() {
		share *= loneTries
	}
	return max(limit, min(time.Duration(share)*limit, mostHandshake))
}

// reached resets the count of consecutive connect errors.
func (e *Endpoint) reached() {
	// See recovered: a store for each connection would be felt.
	if e.health.failures.Load() != 0 {
		e.health.failures.Store(0)
	}
	if e.health.owed.Load() != 0 {
		e.health.owed.Store(0)
	}
}

// oweHandshake notes that a TLS handshake failed, unless the caller gave up. It comes
// before the failure is counted: the knocker, which hears of that, goes by it.
func (e *Endpoint) oweHandshake(ctx context.Context, proto config.Protocol) {
	if context.Cause(ctx) != context.Canceled {
		e.health.owed.Store(uint32(proto) + 1)
	}
}

// failed wraps an error and counts it, unless the caller gave up.
func (e *Endpoint) failed(ctx context.Context, phase Phase, err error) error {
	if context.Cause(ctx) != context.Canceled {
		e.Report(outcomeConnectError)
		if phase == PhaseTLS {
			e.cluster.set.refused(mtls.ReasonOf(err))
		}
		if names := e.cluster.names.Load(); names != nil {
			names.hurry()
		}
	}
	return &DialError{Cluster: e.cluster.name, Addr: e.addr, Phase: phase, Err: err}
}

// ErrOwnListener is why an endpoint at the proxy's own listener is refused.
var ErrOwnListener = errors.New("the address is this proxy's own listener: what is sent there would come back for ever")

// connect opens the TCP connection, for a protocol.
func (e *Endpoint) connect(ctx context.Context, proto config.Protocol) (*net.TCPConn, error) {
	if e.cluster.set.own(e.addr) {
		e.cluster.set.ownTold(e.cluster.name)
		return nil, ErrOwnListener
	}
	if e.drilled() {
		return nil, ErrDrill
	}

	d := net.Dialer{KeepAlive: -1, KeepAliveConfig: e.keepalive(proto)}
	if src, ok := bindSource(e.cluster.Config().BindSource, e.addr.Addr()); ok {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
	}

	stop := e.watchDial(&d)
	c, err := d.DialContext(ctx, "tcp", e.addr.String())
	stop(err)
	if err != nil {
		return nil, err
	}

	conn := c.(*net.TCPConn)
	if h := e.habits.Load(); h != nil {
		if took := handshakeTrip(conn); took > 0 {
			h.connection.note(took)
		}
	}
	return conn, nil
}

// handshakeTrip is how long the peer's machine took to answer the SYN of a connection
// that is new, by the kernel's measure: on a busy machine ours says more of the
// scheduler. It is 0 where that is not known, as when the SYN was sent twice.
func handshakeTrip(conn *net.TCPConn) (trip time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			trip = time.Duration(info.Rtt) * time.Microsecond
		}
	})
	return trip
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
