package telemetry

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Flag says what went wrong with a request, under Envoy's response flags.
type Flag uint8

// Flags. FlagNone is logged as "-".
const (
	FlagNone               Flag = iota
	FlagUpstreamFailure         // UF: the connection to the endpoint failed
	FlagNoHealthyUpstream       // UH: the cluster has no endpoint to offer
	FlagUpstreamTerminated      // UC: the endpoint ended the connection
	FlagUpstreamReset           // UR: the endpoint reset the stream
	FlagUpstreamProtocol        // UPE: the endpoint broke the protocol
	FlagUpstreamTimeout         // UT: no response in time
	FlagNoRoute                 // NR: no route matches
	FlagNoCluster               // NC: the route names a cluster that does not exist
	FlagDownstreamClosed        // DC: the caller went away
	FlagDownstreamProtocol      // DPE: the caller broke the protocol

	lastFlag = FlagDownstreamProtocol
)

// String returns Envoy's abbreviation.
func (f Flag) String() string {
	switch f {
	case FlagUpstreamFailure:
		return "UF"
	case FlagNoHealthyUpstream:
		return "UH"
	case FlagUpstreamTerminated:
		return "UC"
	case FlagUpstreamReset:
		return "UR"
	case FlagUpstreamProtocol:
		return "UPE"
	case FlagUpstreamTimeout:
		return "UT"
	case FlagNoRoute:
		return "NR"
	case FlagNoCluster:
		return "NC"
	case FlagDownstreamClosed:
		return "DC"
	case FlagDownstreamProtocol:
		return "DPE"
	}
	return "-"
}

// ParseFlag is the inverse of String; what it does not know is FlagNone.
func ParseFlag(s string) Flag {
	for f := FlagUpstreamFailure; f <= lastFlag; f++ {
		if f.String() == s {
			return f
		}
	}
	return FlagNone
}

// NoGRPCStatus is the Outcome.GRPC of a request that is not gRPC or ended without
// a status.
const NoGRPCStatus = -1

// Outcome is what became of one request.
type Outcome struct {
	Code     int // HTTP status; 0 when no response was sent
	Flag     Flag
	GRPC     int // grpc-status or NoGRPCStatus
	Duration time.Duration
	Received int64 // request body bytes
	Sent     int64 // response body bytes
}

type outcomeKey struct {
	code int
	flag Flag
	grpc int
}

// HTTP counts the requests of one Stream. It is safe for concurrent use; callers
// keep it.
type HTTP struct {
	metrics *Metrics
	stream  Stream
	recent  atomic.Pointer[httpSeries] // of the last outcome: the next is mostly the same
	all     sync.Map                   // outcomeKey → *httpSeries
}

type httpSeries struct {
	key                      outcomeKey
	requests                 prometheus.Counter
	duration, received, sent prometheus.Observer
}

// HTTP returns the handle of a Stream, the same for equal ones.
func (m *Metrics) HTTP(s Stream) *HTTP {
	if h, ok := m.http.Load(s); ok {
		return h.(*HTTP)
	}
	h, _ := m.http.LoadOrStore(s, &HTTP{metrics: m, stream: s})
	return h.(*HTTP)
}

// Record counts one finished request.
func (h *HTTP) Record(o *Outcome) {
	key := outcomeKey{o.Code, o.Flag, h.grpcStatus(o.GRPC)}
	s := h.recent.Load()
	if s == nil || s.key != key {
		s = h.series(key)
		h.recent.Store(s)
	}

	s.requests.Inc()
	s.duration.Observe(float64(o.Duration) / float64(time.Millisecond))
	s.received.Observe(float64(o.Received))
	s.sent.Observe(float64(o.Sent))
}

// lastGRPCStatus is the highest status that gRPC knows
// (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
const lastGRPCStatus = 16

// grpcStatus bounds what a server may say: it chooses the number, and each one
// counted by itself is a set of time series for as long as the proxy lives.
func (h *HTTP) grpcStatus(status int) int {
	switch {
	case h.stream.Protocol != "grpc" || status < 0:
		return NoGRPCStatus
	case status > lastGRPCStatus:
		return lastGRPCStatus + 1
	}
	return status
}

func (h *HTTP) series(key outcomeKey) *httpSeries {
	if s, ok := h.all.Load(key); ok {
		return s.(*httpSeries)
	}

	// As in Istio, the label is empty, not unknown, for what is not gRPC.
	grpc := ""
	switch {
	case key.grpc > lastGRPCStatus:
		grpc = "other"
	case key.grpc != NoGRPCStatus:
		grpc = strconv.Itoa(key.grpc)
	}
	labels := append(h.stream.values(strconv.Itoa(key.code), key.flag.String()), grpc)

	m := h.metrics
	s, _ := h.all.LoadOrStore(key, &httpSeries{
		key:      key,
		requests: m.requests.WithLabelValues(labels...),
		duration: m.requestDuration.WithLabelValues(labels...),
		received: m.requestBytes.WithLabelValues(labels...),
		sent:     m.responseBytes.WithLabelValues(labels...),
	})
	return s.(*httpSeries)
}
