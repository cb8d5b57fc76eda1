package dns

import "github.com/prometheus/client_golang/prometheus"

// Who answered a query, as the metrics name it.
const (
	byMesh     = "mesh"
	byResolver = "resolver"
	byNobody   = "nobody"
)

// metrics are those of the server.
type metrics struct {
	mesh, resolver, nobody prometheus.Counter
	names                  prometheus.Gauge
	failures               *prometheus.CounterVec
	resolverTime           prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	queries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_proxy_dns_queries_total",
		Help: "DNS queries of the application, by who answered: mesh, resolver, or nobody.",
	}, []string{"by"})
	m := &metrics{
		mesh:     queries.WithLabelValues(byMesh),
		resolver: queries.WithLabelValues(byResolver),
		nobody:   queries.WithLabelValues(byNobody),
		names: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_proxy_dns_names", Help: "Names that the proxy answers for.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_proxy_dns_failures_total",
			Help: "DNS queries without an answer, by reason: resolver (none answered), busy (too many are under way), malformed, refused.",
		}, []string{"reason"}),
		resolverTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "isthmus_proxy_dns_resolver_duration_seconds",
			Help:    "How long the pod's resolvers took to answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
	if reg != nil {
		reg.MustRegister(queries, m.names, m.failures, m.resolverTime)
	}
	return m
}

// fail counts a query that nobody answered.
func (m *metrics) fail(reason string) {
	m.nobody.Inc()
	m.failures.WithLabelValues(reason).Inc()
}
