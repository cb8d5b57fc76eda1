package serve

import "github.com/prometheus/client_golang/prometheus"

// metrics bear the names that Istio's dashboards know, where it has them.
type metrics struct {
	streams     prometheus.Gauge
	refused     prometheus.Counter
	shed        prometheus.Counter
	pushes      *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	rejects     *prometheus.CounterVec
	convergence prometheus.Histogram
}

// newMetrics makes the metrics, and registers them when reg is not nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	byType := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"type"})
	}
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_xds", Help: "Proxies connected."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_xds_refused_total", Help: "Streams whose caller could not be proven."}),
		shed:    prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_xds_shed_total", Help: "Streams that were ended for their proxies to connect to another replica, because this one had more than its share."}),
		pushes:  byType("pilot_xds_pushes", "Answers sent, by type of resource."),
		bytes:   byType("isthmus_xds_sent_bytes_total", "Bytes of resources sent, by type."),
		rejects: byType("pilot_total_xds_rejects", "Answers that a proxy refused, by type."),
		convergence: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pilot_proxy_convergence_time", Help: "Seconds from noticing a change to a proxy's acknowledgement of it.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 3, 10, 30},
		}),
	}
	if reg != nil {
		reg.MustRegister(m.streams, m.refused, m.shed, m.pushes, m.bytes, m.rejects, m.convergence)
	}
	return m
}
