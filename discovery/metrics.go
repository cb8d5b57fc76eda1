package discovery

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
