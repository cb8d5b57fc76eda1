package telemetry

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/outcome"
)

type outcomeKey struct {
	code int
	flag outcome.Flag
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
func (h *HTTP) Record(o *outcome.Request) {
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
		return outcome.NoGRPCStatus
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
	case key.grpc != outcome.NoGRPCStatus:
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
