package telemetry

import "github.com/prometheus/client_golang/prometheus"

// TCP counts the connections of one Stream. It is safe for concurrent use; callers keep it.
type TCP struct {
	sent, received, opened, closed prometheus.Counter
}

// TCP returns the handle of a Stream, the same for equal ones. The Stream's Protocol is "tcp".
func (m *Metrics) TCP(s Stream, flag Flag) *TCP {
	type key struct {
		Stream
		Flag
	}
	k := key{s, flag}
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

// Moved adds bytes sent to the caller and received from it; call it now and then on long connections.
func (t *TCP) Moved(sent, received int64) {
	if sent > 0 {
		t.sent.Add(float64(sent))
	}
	if received > 0 {
		t.received.Add(float64(received))
	}
}

// Closed counts the end of a connection.
func (t *TCP) Closed() { t.closed.Inc() }
