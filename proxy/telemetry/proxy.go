package telemetry

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// Config is what a Telemetry needs.
type Config struct {
	// Self is the workload that the proxy stands at, with its own SPIFFE id.
	Self Party
	// Registerer takes the metrics. Required.
	Registerer prometheus.Registerer
	// OpenLog opens an access log by path; nil means the files of that name,
	// with /dev/stdout and /dev/stderr being the streams of the process.
	OpenLog OpenLog
}

// Telemetry tells what the proxy does, in metrics and access logs. It is safe
// for concurrent use.
type Telemetry struct {
	*Metrics
	self Party
	logs *logs
}

// NewTelemetry registers the metrics and returns a Telemetry. Run must be called
// for access logs to be written out in time.
func NewTelemetry(cfg Config) (*Telemetry, error) {
	if cfg.Registerer == nil {
		return nil, errors.New("telemetry: a Registerer must be given")
	}

	m, err := New(cfg.Registerer)
	if err != nil {
		return nil, err
	}

	open := cfg.OpenLog
	if open == nil {
		open = openFile
	}
	return &Telemetry{Metrics: m, self: cfg.Self, logs: newLogs(open)}, nil
}

// Run writes access logs out every second, and once more when ctx is done.
func (t *Telemetry) Run(ctx context.Context) error { return t.logs.run(ctx) }

// HTTPFor returns the counters of the HTTP requests that come by one connection
// and go to one endpoint. cluster and ep are nil when the request got no
// further. principal is the SPIFFE id that the endpoint proved. The result is
// to be kept.
func (t *Telemetry) HTTPFor(
	info *downstream.Info, cluster *upstream.Cluster, ep *upstream.Endpoint, principal string, grpc bool,
) *HTTP {
	s := t.stream(info, cluster, ep, principal)
	s.Protocol = "http"
	if grpc {
		s.Protocol = "grpc"
	}
	return t.HTTP(s)
}

// stream describes who talks to whom, as seen from this proxy. A principal is
// left out where no TLS proves it, the proxy's own too.
func (t *Telemetry) stream(
	info *downstream.Info, cluster *upstream.Cluster, ep *upstream.Endpoint, principal string,
) Stream {
	var s Stream
	if info.Direction == config.DirectionInbound {
		s.Reporter = Destination
		s.MTLS = info.MTLS()
		s.Source = PeerParty(info.PeerPrincipal())
		s.Destination = t.self
		if !s.MTLS {
			s.Destination.Principal = ""
		}
	} else {
		s.Reporter = Source
		s.MTLS = principal != ""
		s.Source = t.self
		if !s.MTLS {
			s.Source.Principal = ""
		}
		if ep != nil {
			s.Destination = PartyOf(ep.Workload(), principal)
		}
	}

	if cluster != nil {
		s.Service = cluster.Config().Service
	}
	return s
}

// HandshakeFailed counts a TLS handshake that failed with a peer that connected
// to a listener.
func (t *Telemetry) HandshakeFailed(reason mtls.Reason) { t.TLSFailed(Downstream, reason) }

// NoFilterChain counts a connection that no filter chain of a listener fits.
func (t *Telemetry) NoFilterChain(listener string) { t.noChain.WithLabelValues(listener).Inc() }

// OverLimit counts a connection of a listener that was refused because too many
// are open.
func (t *Telemetry) OverLimit(listener string) { t.overLimit.WithLabelValues(listener).Inc() }

// ConnOpen counts a downstream connection as open.
func (t *Telemetry) ConnOpen(dir config.Direction) { t.active.WithLabelValues(dir.String()).Inc() }

// ConnClose is the counterpart of ConnOpen.
func (t *Telemetry) ConnClose(dir config.Direction) { t.active.WithLabelValues(dir.String()).Dec() }

// TCPFor returns what begins the records of the connections of one TCP proxy. It
// fails for an access log that cannot be written as it is asked for, so that the
// listener is refused. The result takes an endpoint, nil when none could be
// reached; it may be called concurrently.
func (t *Telemetry) TCPFor(
	cfg *config.TCPProxy,
) (func(*downstream.Info, *upstream.Endpoint) downstream.TCPRecorder, error) {
	log, err := t.AccessLog(cfg.AccessLogs)
	if err != nil {
		return nil, err
	}
	return func(info *downstream.Info, ep *upstream.Endpoint) downstream.TCPRecorder {
		return t.openTCP(info, ep, log)
	}, nil
}

func (t *Telemetry) openTCP(info *downstream.Info, ep *upstream.Endpoint, log *AccessLog) *tcpRecord {
	var cluster *upstream.Cluster
	principal := ""
	if ep != nil {
		cluster = ep.Cluster()
		if tls := ep.TLS(); tls.Mesh() {
			principal = meshPrincipal(tls)
		}
	}

	r := &tcpRecord{t: t, info: info, ep: ep, log: log, stream: t.stream(info, cluster, ep, principal)}
	r.stream.Protocol = "tcp"

	// Mutual TLS is proven by the connection itself, also where the endpoint may
	// be any of several identities and none can be named.
	if ep != nil && ep.TLS().Mesh() && info.Direction != config.DirectionInbound {
		r.stream.MTLS = true
		r.stream.Source.Principal = t.self.Principal
	}

	r.counters = t.TCP(r.stream, outcome.None)
	r.counters.Opened()
	return r
}

// meshPrincipal returns the identity that an endpoint must prove, when there is
// only one that it may have.
func meshPrincipal(tls *config.UpstreamTLS) string {
	if len(tls.SANs) == 1 && tls.SANs[0].Match.Kind == config.MatchExact {
		return tls.SANs[0].Match.Value
	}
	return ""
}

// tcpRecord implements downstream.TCPRecorder.
type tcpRecord struct {
	t              *Telemetry
	info           *downstream.Info
	ep             *upstream.Endpoint
	stream         Stream
	counters       *TCP
	log            *AccessLog
	received, sent atomic.Int64
}

// Add implements downstream.TCPRecorder.
func (r *tcpRecord) Add(received, sent int64) {
	r.received.Add(received)
	r.sent.Add(sent)
	r.counters.Moved(received, sent)
}

// Close implements downstream.TCPRecorder. The end is counted under its flags,
// the beginning without: nobody knew then.
func (r *tcpRecord) Close(flag outcome.Flag) { r.end(flag, "") }

// Denied implements downstream.TCPRecorder.
func (r *tcpRecord) Denied(details string) { r.end(outcome.None, details) }

func (r *tcpRecord) end(flag outcome.Flag, details string) {
	closed := r.counters
	if flag != outcome.None {
		closed = r.t.TCP(r.stream, flag)
	}
	closed.Closed()

	if r.log == nil {
		return
	}

	e := NewEntry(r.info)
	e.Flags, e.Details = flag.String(), details
	e.Start = r.info.Start
	e.Received, e.Sent = r.received.Load(), r.sent.Load()
	if r.ep != nil {
		e.Upstream, e.Cluster = r.ep.Addr(), r.ep.Cluster().Name()
	}
	r.log.Write(e)
}
