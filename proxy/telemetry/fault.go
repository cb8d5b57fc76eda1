package telemetry

import "github.com/prometheus/client_golang/prometheus"

// faultMetrics count what faults of routes do to requests, as Envoy's fault filters do.
type faultMetrics struct {
	delays, aborts prometheus.Counter
	active         prometheus.Gauge
}

func newFaultMetrics() faultMetrics {
	return faultMetrics{
		delays: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "envoy_http_fault_delays_injected", Help: "Requests that a fault of a VirtualService held up.",
		}),
		aborts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "envoy_http_fault_aborts_injected", Help: "Requests that a fault of a VirtualService answered in the service's stead.",
		}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "envoy_http_fault_active_faults", Help: "Requests that a fault of a VirtualService holds up now.",
		}),
	}
}

func (m *faultMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.delays, m.aborts, m.active}
}

// FaultDelayed counts that a fault begins to hold a request up, or that it has done so.
func (m *Metrics) FaultDelayed(begins bool) {
	if !begins {
		m.faults.active.Dec()
		return
	}
	m.faults.delays.Inc()
	m.faults.active.Inc()
}

// FaultAborted counts a request that a fault answered.
func (m *Metrics) FaultAborted() { m.faults.aborts.Inc() }
