package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/outcome"
)

// TCP counts the connections of one Stream. It is safe for concurrent use;
// callers keep it.
type TCP struct {
	sent, received, opened, closed prometheus.Counter
}

type tcpKey struct {
	Stream
	outcome.Flag
}

// TCP returns the handle of a Stream and of how its connections ended, the same
// for equal ones. The Stream's Protocol is "tcp".
func (m *Metrics) TCP(s Stream, flag outcome.Flag) *TCP {
	k := tcpKey{s, flag}
	if t, ok := m.tcp.Load(k); ok {
		return t.(*TCP)
	}

	labels := s.values(flag.String())
	t, _ := m.tcp.LoadOrStore(k, &TCP{
		sent:     m.tcpSent.WithLabelValues(labels...),
		received: m.tcpReceived.WithLabelValues(labels...),
		opened:   m.tcpOpened.WithLabelValues(labels...),
		closed:   m.tcpClosed.WithLabelValues(labels...),
	})
	return t.(*TCP)
}

// Opened counts a new connection.
func (t *TCP) Opened() { t.opened.Inc() }

// Moved adds bytes received from the caller and sent to it, in the order of
// downstream.TCPRecorder; call it now and then on long connections.
func (t *TCP) Moved(received, sent int64) {
	if received > 0 {
		t.received.Add(float64(received))
	}
	if sent > 0 {
		t.sent.Add(float64(sent))
	}
}

// Closed counts the end of a connection.
func (t *TCP) Closed() { t.closed.Inc() }
