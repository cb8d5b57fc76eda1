package listen

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/isthmus-mesh/isthmus/proxy/access"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/duplex"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// defaultAttempts is how many endpoints a connection is offered to, unless
// the configuration says otherwise.
const defaultAttempts = 3

// tcpProxy forwards the connections of one filter chain.
type tcpProxy struct {
	m        *Manager
	cfg      *config.TCPProxy
	access   *access.Policy // nil lets everybody connect
	record   func(*downstream.Info, *upstream.Endpoint) downstream.TCPRecorder
	clusters []*upstream.Ref
	weights  []uint32 // running totals
	total    uint32   // of all weights; 0: there is one cluster
}

func newTCPProxy(m *Manager, fc *config.FilterChain) (*tcpProxy, error) {
	cfg := fc.TCP
	record, err := m.opt.Telemetry.TCPFor(cfg)
	if err != nil {
		return nil, err
	}

	t := &tcpProxy{m: m, cfg: cfg, record: record, access: access.Compile(fc.ConnAccess, m.opt.Telemetry.TCPAccess)}
	if len(cfg.Weighted) == 0 {
		t.clusters = []*upstream.Ref{m.opt.Clusters.Ref(cfg.Cluster)}
	}
	for _, w := range cfg.Weighted {
		t.clusters = append(t.clusters, m.opt.Clusters.Ref(w.Cluster))
		t.total += w.Weight
		t.weights = append(t.weights, t.total)
	}
	return t, nil
}

// cluster picks the cluster of a connection, nil when there is none.
func (t *tcpProxy) cluster(info *downstream.Info) (*upstream.Cluster, string) {
	if t.cfg.SNICluster && info.SNI != "" {
		return t.m.opt.Clusters.Get(info.SNI), info.SNI
	}

	ref := t.clusters[0]
	if t.total > 0 {
		r := rand.Uint32N(t.total)
		for i, upTo := range t.weights {
			if r < upTo {
				ref = t.clusters[i]
				break
			}
		}
	}
	return ref.Load(), ref.Name()
}

// serve forwards one connection. conn is a *net.TCPConn or a *tls.Conn over a
// *mtls.Conn.
func (t *tcpProxy) serve(conn net.Conn, info *downstream.Info) {
	if info.Protocol == config.ProtocolUnknown {
		info.Protocol = config.ProtocolTCP
	}

	if details, allowed := t.access.For(connectionOf(info)).Decide(nil); !allowed {
		t.m.refused.event("connection refused by policy", "listener", info.Listener, "peer", info.Peer,
			"principal", info.PeerPrincipal(), "destination", info.Local, "details", details)
		t.record(info, nil).Denied(details)
		return
	}

	cluster, name := t.cluster(info)
	if cluster == nil {
		t.failed(info, outcome.NoCluster, errors.New("no cluster "+name))
		return
	}

	up, ep, err := t.connect(cluster, info)
	if err != nil {
		flag := outcome.UpstreamFailure
		var pick *upstream.PickError
		var full *upstream.OverflowError
		var spent *spentError
		switch {
		case errors.As(err, &pick):
			flag = outcome.NoHealthyUpstream
		case errors.As(err, &full):
			flag = outcome.UpstreamOverflow
		case errors.As(err, &spent):
			flag |= outcome.RetryLimit
		}
		t.failed(info, flag, err)
		return
	}
	defer ep.Hangup()
	defer up.Close()
	defer ep.End() // connect began it

	rec := t.record(info, ep)
	broken := duplex.Copy(conn, up, duplex.Options{
		Idle: t.cfg.IdleTimeout, MaxAge: t.cfg.MaxAge, Moved: rec.Add,
	})
	rec.Close(flagOf(broken))
}

// flagOf names the side that broke a connection off.
func flagOf(broken duplex.Side) outcome.Flag {
	switch broken {
	case duplex.Down:
		return outcome.DownstreamClosed
	case duplex.Up:
		return outcome.UpstreamTerminated
	case duplex.Clock:
		return outcome.DurationTimeout
	}
	return outcome.None
}

// failed closes the record of a connection that got nowhere.
func (t *tcpProxy) failed(info *downstream.Info, flag outcome.Flag, err error) {
	t.m.refused.event("connection not forwarded", "listener", info.Listener, "peer", info.Peer,
		"destination", info.Local, "flags", flag, "error", err)
	t.record(info, nil).Close(flag)
}

// spentError is the error of the last attempt where more are not made.
type spentError struct{ error }

// Unwrap returns the cause.
func (e *spentError) Unwrap() error { return e.error }

// connect dials an endpoint, and another if that fails. The endpoint counts
// the connection as active.
func (t *tcpProxy) connect(c *upstream.Cluster, info *downstream.Info) (net.Conn, *upstream.Endpoint, error) {
	attempts := int(t.cfg.MaxConnectAttempts)
	if attempts == 0 {
		attempts = defaultAttempts
	}
	ctx := context.Background()
	hint := upstream.Hint{OriginalDst: info.Local}
	if t.cfg.HashSource {
		hint.Hash = xxhash.Sum64String(info.Peer.Addr().String())
	}

	var dialErr error
	for left := attempts; left > 0; {
		ep, err := c.Pick(hint)
		if err != nil && c.WaitReady(ctx) {
			ep, err = c.Pick(hint)
		}

		if err != nil {
			// That an endpoint could not be reached says more than that there is
			// no other.
			if dialErr != nil {
				return nil, nil, dialErr
			}
			return nil, nil, err
		}

		f := t.race(ctx, c, hint, left, ep)
		if f.Err == nil {
			return f.Conn, f.Endpoint, nil
		}

		dialErr = f.Err
		hint.Tried = append(append(hint.Tried, f.Failed...), f.Endpoint)
		left -= len(f.Failed) + 1
	}

	return nil, nil, &spentError{dialErr}
}

// race dials an endpoint, and when that is late others beside it, as many as there are
// attempts left. Only the one that it returns counts the connection as active.
func (t *tcpProxy) race(ctx context.Context, c *upstream.Cluster, hint upstream.Hint, left int, first *upstream.Endpoint) upstream.Finish[net.Conn] {
	race := upstream.Race[net.Conn]{
		// A dial that is overtaken goes on: how it ends is what is known of the
		// endpoint then.
		Open: func(_ context.Context, e *upstream.Endpoint) (net.Conn, error) {
			e.BeginConn()
			up, _, err := e.Dial(context.WithoutCancel(ctx), config.ProtocolTCP)
			if err != nil {
				e.End()
			}
			return up, err
		},

		Next: func(asked []*upstream.Endpoint) *upstream.Endpoint {
			if len(asked) >= left {
				return nil
			}
			h := hint
			h.Tried = slices.Concat(hint.Tried, asked)
			h.Leave, h.Healthy = upstream.PlaceIsLate(asked), true
			next, err := c.Pick(h)
			if err != nil {
				return nil
			}
			return next
		},

		// It came too late to be used, though all is well with its endpoint.
		Spare: func(e *upstream.Endpoint, up net.Conn) {
			_ = up.Close()
			e.Hangup()
			e.End()
		},
	}
	return race.Run(ctx, first)
}
