package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// clusterMetrics tell of clusters at which something happened, under Envoy's names
// where it has one; a cluster without trouble has no series.
type clusterMetrics struct {
	ejections, retries, retryOverflows, overflows *prometheus.CounterVec
	ejected, panics                               *prometheus.GaugeVec
}

func newClusterMetrics() clusterMetrics {
	label := []string{"cluster_name"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, label)
	}
	return clusterMetrics{
		ejections: counter("envoy_cluster_outlier_detection_ejections_enforced_total",
			"Endpoints that were left out because they failed.", label),
		ejected: gauge("envoy_cluster_outlier_detection_ejections_active",
			"Endpoints that are left out now."),
		panics: gauge("isthmus_proxy_cluster_panic",
			"1 while a priority is used whole because too little of it is healthy."),
		retries: counter("envoy_cluster_upstream_rq_retry",
			"Requests sent again that may have loaded an endpoint; those that certainly reached none are not counted.", label),
		retryOverflows: counter("envoy_cluster_upstream_rq_retry_overflow",
			"Retries that the retry budget refused.", label),
		overflows: counter("envoy_cluster_upstream_rq_pending_overflow",
			"Requests that a limit of the cluster (connectionPool) refused.", label),
	}
}

func (m *clusterMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.ejections, m.ejected, m.panics, m.retries, m.retryOverflows, m.overflows}
}

// ClusterEvent counts what happened at a cluster.
func (m *Metrics) ClusterEvent(cluster string, e upstream.Event, n int) {
	c := &m.clusters
	switch e {
	case upstream.EventEjection:
		c.ejections.WithLabelValues(cluster).Add(float64(n))
	case upstream.EventEjected:
		c.ejected.WithLabelValues(cluster).Set(float64(n))
	case upstream.EventPanic:
		c.panics.WithLabelValues(cluster).Set(float64(n))
	case upstream.EventRetry:
		c.retries.WithLabelValues(cluster).Add(float64(n))
	case upstream.EventRetryOverflow:
		c.retryOverflows.WithLabelValues(cluster).Add(float64(n))
	case upstream.EventOverflow:
		c.overflows.WithLabelValues(cluster).Add(float64(n))
	case upstream.EventGone:
		for _, v := range []*prometheus.CounterVec{c.ejections, c.retries, c.retryOverflows, c.overflows} {
			v.DeleteLabelValues(cluster)
		}
		c.ejected.DeleteLabelValues(cluster)
		c.panics.DeleteLabelValues(cluster)
	}
}
