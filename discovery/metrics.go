package discovery

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/kube/clusters"
	"github.com/isthmus-mesh/isthmus/xds/resources"
)

// notInForce is the metric of configuration objects that stand in the cluster
// and have no effect, or not the whole of it. The functions count them by kind;
// no kind is counted by two.
type notInForce []func() map[schema.GroupKind]int

func (notInForce) desc() *prometheus.Desc {
	return prometheus.NewDesc("isthmus_config_objects_not_in_force",
		"Configuration objects in the cluster that are not in force, wholly or in part: kinds that are not honoured, and objects that are wrong.",
		[]string{"group", "kind"}, nil)
}

// Describe implements prometheus.Collector.
func (n notInForce) Describe(ch chan<- *prometheus.Desc) { ch <- n.desc() }

// Collect implements prometheus.Collector.
func (n notInForce) Collect(ch chan<- prometheus.Metric) {
	for _, count := range n {
		for k, objects := range count() {
			ch <- prometheus.MustNewConstMetric(n.desc(), prometheus.GaugeValue, float64(objects), k.Group, k.Kind)
		}
	}
}

// clusterStates is the metric of how the clusters of the mesh fare, the own one
// among them.
type clusterStates struct{ states func() []clusters.State }

func (clusterStates) desc() *prometheus.Desc {
	return prometheus.NewDesc("isthmus_clusters",
		"Clusters of the mesh by how they fare: synced, syncing, stale (the API server does not answer; what was last read is in force) or refused (the Secret cannot be used, or its credentials are not taken).",
		[]string{"status"}, nil)
}

// Describe implements prometheus.Collector.
func (c clusterStates) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc() }

// Collect implements prometheus.Collector. Every status is there: an alert on
// one is not to depend on its having been seen before.
func (c clusterStates) Collect(ch chan<- prometheus.Metric) {
	count := map[clusters.Status]int{}
	for _, s := range c.states() {
		count[s.Status]++
	}
	for _, status := range []clusters.Status{clusters.Synced, clusters.Syncing, clusters.Stale, clusters.Refused} {
		ch <- prometheus.MustNewConstMetric(c.desc(), prometheus.GaugeValue, float64(count[status]), string(status))
	}
}

// unreached is the metric of endpoints that clients of other networks are not led
// to. The function gives the last report; nil before the first.
type unreached func() *resources.Report

func (unreached) desc() *prometheus.Desc {
	return prometheus.NewDesc("isthmus_unreached_endpoints",
		"Endpoints that clients of other networks are not led to, by the reason; of no_network, those that are called directly because nobody names their network.",
		[]string{"reason"}, nil)
}

// Describe implements prometheus.Collector.
func (u unreached) Describe(ch chan<- *prometheus.Desc) { ch <- u.desc() }

// Collect implements prometheus.Collector.
func (u unreached) Collect(ch chan<- prometheus.Metric) {
	byReason := map[resources.Reason]int{}
	if r := u(); r != nil {
		for _, each := range r.Unreached {
			byReason[each.Reason] += each.Endpoints
		}
	}
	for _, reason := range resources.Reasons() {
		ch <- prometheus.MustNewConstMetric(u.desc(), prometheus.GaugeValue, float64(byReason[reason]), string(reason))
	}
}
