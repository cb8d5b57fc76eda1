package telemetry

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// Config is what a Telemetry needs.
type Config struct {
	// Self is the workload that the proxy stands at, with its own SPIFFE id.
	Self Party
	// Registerer takes the metrics. Required.
	Registerer prometheus.Registerer
	// OpenLog opens an access log by path; nil means the files of that name, with /dev/stdout and /dev/stderr
	// being the streams of the process.
	OpenLog OpenLog
}

// Telemetry tells what the proxy does, in metrics and access logs. It is safe for concurrent use.
type Telemetry struct {
	*Metrics
	self Party
	logs *logs
}

// NewTelemetry registers the metrics and returns a Telemetry. Run must be called for access logs to be written
// out in time.
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

// Flush writes out what access logs have gathered.
func (t *Telemetry) Flush() { t.logs.flush() }

// HTTPFor returns the counters of the HTTP requests that come by one connection and go to one endpoint. cluster
// and ep are nil when the request got no further. principal is the SPIFFE id that the endpoint proved. The
// result is to be kept.
func (t *Telemetry) HTTPFor(info *downstream.Info, cluster *upstream.Cluster, ep *upstream.Endpoint, principal string, grpc bool) *HTTP {
	s := t.stream(info, cluster, ep, principal)
	s.Protocol = "http"
	if grpc {
		s.Protocol = "grpc"
	}
	return t.HTTP(s)
}

func (t *Telemetry) stream(info *downstream.Info, cluster *upstream.Cluster, ep *upstream.Endpoint, principal string) Stream {
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

// HandshakeFailed counts a TLS handshake that failed, by reason: unknown_ca, expired, san_mismatch,
// no_certificate, no_identity, protocol, timeout, other. dir is the side of the listener.
func (t *Telemetry) HandshakeFailed(reason string, dir config.Direction) {
	side := Downstream
	if dir == config.DirectionOutbound {
		side = Upstream
	}
	t.TLSFailed(side, reason)
}

// NoFilterChain counts a connection that no filter chain of a listener fits.
func (t *Telemetry) NoFilterChain(listener string) { t.noChain.WithLabelValues(listener).Inc() }

// OverLimit counts a connection of a listener that was refused because too many are open.
func (t *Telemetry) OverLimit(listener string) { t.overLimit.WithLabelValues(listener).Inc() }

// ConnOpen counts a downstream connection as open.
func (t *Telemetry) ConnOpen(dir config.Direction) { t.active.WithLabelValues(dir.String()).Inc() }

// ConnClose is the counterpart of ConnOpen.
func (t *Telemetry) ConnClose(dir config.Direction) { t.active.WithLabelValues(dir.String()).Dec() }

// TCPOpen begins the record of a TCP connection towards ep; ep is nil when none could be reached.
func (t *Telemetry) TCPOpen(info *downstream.Info, ep *upstream.Endpoint, tcp *config.TCPProxy) downstream.TCPRecorder {
	var cluster *upstream.Cluster
	principal := ""
	if ep != nil {
		cluster = ep.Cluster()
		if tls := ep.TLS(); tls.Mesh() {
			principal = meshPrincipal(tls)
		}
	}
	r := &tcpRecord{t: t, info: info, ep: ep, stream: t.stream(info, cluster, ep, principal)}
	r.stream.Protocol = "tcp"
	if ep != nil && ep.TLS().Mesh() && info.Direction != config.DirectionInbound {
		r.stream.MTLS = true
		r.stream.Source.Principal = t.self.Principal
	}
	if tcp != nil && len(tcp.AccessLogs) > 0 {
		// An invalid format was refused when the listener was decoded; here the log is then left out.
		r.log, _ = t.AccessLog(tcp.AccessLogs)
	}
	r.counters = t.TCP(r.stream, FlagNone)
	r.counters.Opened()
	return r
}

// meshPrincipal returns the identity that an endpoint must prove, when there is only one that it may have.
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

func (r *tcpRecord) Add(received, sent int64) {
	r.received.Add(received)
	r.sent.Add(sent)
	r.counters.Moved(sent, received)
}

func (r *tcpRecord) Close(flags string) {
	f := ParseFlag(flags)
	closed := r.counters
	if f != FlagNone {
		closed = r.t.TCP(r.stream, f)
	}
	closed.Closed()
	if r.log == nil {
		return
	}
	e := NewEntry(r.info)
	e.Flags = f.String()
	e.Start = r.info.Start
	e.Received, e.Sent = r.received.Load(), r.sent.Load()
	if r.ep != nil {
		e.Upstream, e.Cluster = r.ep.Addr(), r.ep.Cluster().Name()
	}
	r.log.Write(e)
}
