package operator

import (
	"reflect"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// older is a key of an earlier version of a Kubernetes API, and where its value
// belongs today.
type older struct {
	key   string
	shape shape
	path  []string
	// kind is the value of target.type that the key stands for; "": none.
	kind string
}

// olderSpellings are the keys of autoscaling/v2beta1 that Istio's profiles
// write to this day: until v2 they stood beside the name, now under target.
func olderSpellings(t reflect.Type) []older {
	number, quantity, text := shape{kind: intKind}, shape{kind: quantityKind}, shape{kind: stringKind}
	selector := goShape(reflect.TypeFor[metav1.LabelSelector](), "")
	utilization := older{"targetAverageUtilization", number, []string{"target", "averageUtilization"}, string(autoscalingv2.UtilizationMetricType)}
	average := older{"targetAverageValue", quantity, []string{"target", "averageValue"}, string(autoscalingv2.AverageValueMetricType)}
	value := older{"targetValue", quantity, []string{"target", "value"}, string(autoscalingv2.ValueMetricType)}
	name := older{"metricName", text, []string{"metric", "name"}, ""}
	switch t {
	case reflect.TypeFor[autoscalingv2.ResourceMetricSource](), reflect.TypeFor[autoscalingv2.ContainerResourceMetricSource]():
		return []older{utilization, average}
	case reflect.TypeFor[autoscalingv2.PodsMetricSource]():
		return []older{name, average, {"selector", selector, []string{"metric", "selector"}, ""}}
	case reflect.TypeFor[autoscalingv2.ExternalMetricSource]():
		return []older{name, value, average, {"metricSelector", selector, []string{"metric", "selector"}, ""}}
	}
	return nil
}

// put stores the value where it belongs today.
func (o older) put(into map[string]any, v any) {
	if v == nil {
		return
	}
	at := into
	for _, key := range o.path[:len(o.path)-1] {
		next, ok := at[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[key] = next
		}
		at = next
	}
	at[o.path[len(o.path)-1]] = v
	if o.kind != "" {
		at["type"] = o.kind
	}
}
