package operator

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// at digs a value out of a tree.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func merged(t *testing.T, spec string) map[string]any {
	t.Helper()
	layer, err := Load([]byte(doc(spec)))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := layer.Merged()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Typed(); err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestOlderMetrics: what autoscaling/v2beta1 called a metric, v2 calls otherwise.
func TestOlderMetrics(t *testing.T) {
	for name, c := range map[string]struct {
		metric string
		want   map[string]any
	}{
		"utilization": {
			"{type: Resource, resource: {name: cpu, targetAverageUtilization: 80}}",
			map[string]any{"type": "Resource", "resource": map[string]any{"name": "cpu",
				"target": map[string]any{"type": "Utilization", "averageUtilization": int64(80)}}},
		},
		"snake case": {
			"{type: Resource, resource: {name: cpu, target_average_utilization: 80}}",
			map[string]any{"type": "Resource", "resource": map[string]any{"name": "cpu",
				"target": map[string]any{"type": "Utilization", "averageUtilization": int64(80)}}},
		},
		"value": {
			"{type: Resource, resource: {name: memory, targetAverageValue: 100Mi}}",
			map[string]any{"type": "Resource", "resource": map[string]any{"name": "memory",
				"target": map[string]any{"type": "AverageValue", "averageValue": "100Mi"}}},
		},
		"pods": {
			"{type: Pods, pods: {metricName: rps, targetAverageValue: 1k, selector: {matchLabels: {a: b}}}}",
			map[string]any{"type": "Pods", "pods": map[string]any{
				"metric": map[string]any{"name": "rps", "selector": map[string]any{"matchLabels": map[string]any{"a": "b"}}},
				"target": map[string]any{"type": "AverageValue", "averageValue": "1k"}}},
		},
		"external": {
			"{type: External, external: {metricName: q, targetValue: 30}}",
			map[string]any{"type": "External", "external": map[string]any{
				"metric": map[string]any{"name": "q"}, "target": map[string]any{"type": "Value", "value": "30"}}},
		},
		"today's": {
			"{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}",
			map[string]any{"type": "Resource", "resource": map[string]any{"name": "cpu",
				"target": map[string]any{"type": "Utilization", "averageUtilization": int64(80)}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree := merged(t, "components:\n  pilot: {k8s: {hpaSpec: {maxReplicas: 5, metrics: ["+c.metric+"]}}}\n")
			got := at(tree, "components", "pilot", "k8s", "hpaSpec", "metrics", 0)
			if diff := cmp.Diff(any(c.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
	set, err := ParseSet("components.pilot.k8s.hpaSpec.metrics[0].resource.targetAverageUtilization=70")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := set.Merged()
	if err != nil {
		t.Fatal(err)
	}
	if got := at(map[string]any(tree), "components", "pilot", "k8s", "hpaSpec", "metrics", 0, "resource", "target", "averageUtilization"); got != int64(70) {
		t.Errorf("by --set: %v", got)
	}
}

// TestMergeKeys: YAML's <<, one mapping or several; what stands in the mapping
// itself counts for more.
func TestMergeKeys(t *testing.T) {
	tree := merged(t, `values:
  gateways:
    istio-ingressgateway: &base {type: ClusterIP, autoscaleMin: 2}
    istio-egressgateway:
      autoscaleMin: 3
      <<: [*base, {autoscaleMax: 9, type: NodePort}]
`)
	want := map[string]any{"type": "ClusterIP", "autoscaleMin": int64(3), "autoscaleMax": int64(9)}
	if diff := cmp.Diff(any(want), at(tree, "values", "gateways", "istio-egressgateway")); diff != "" {
		t.Error(diff)
	}
	_, err := Load([]byte(doc("values:\n  global:\n    <<: {hubb: x}\n")))
	if err == nil || !strings.Contains(err.Error(), "did you mean spec.values.global.hub?") {
		t.Errorf("a merged key is checked like others: %v", err)
	}
}

// TestPlainScalars: what an environment takes as text may be written as it
// comes, and an empty choice is none.
func TestPlainScalars(t *testing.T) {
	tree := merged(t, `values:
  pilot: {env: {A: true, B: 1.10, C: x, D: 007}}
  global: {imagePullPolicy: ""}
`)
	want := map[string]any{"A": "true", "B": "1.10", "C": "x", "D": "007"}
	if diff := cmp.Diff(any(want), at(tree, "values", "pilot", "env")); diff != "" {
		t.Error(diff)
	}
	if got := at(tree, "values", "global", "imagePullPolicy"); got != nil {
		t.Errorf("imagePullPolicy %q", got)
	}
}

// TestRestricted: values that ask for what is so anyway.
func TestRestricted(t *testing.T) {
	merged(t, "values: {global: {proxy: {componentLogLevel: '', envoyStatsd: {host: }}}}\n")
	for spec, want := range map[string]string{
		"values: {global: {proxy: {componentLogLevel: x}}}\n": `refused: only "" or misc:error is possible: the proxy has one log level`,
		"components: {ztunnel: {enabled: true}}\n":            "refused: there is no ambient mode",
		"values: {cni: {enabled: true}}\n":                    "refused: pods are redirected by their own init container",
		"values: {pilot: {appNamespaces: [a]}}\n":             "refused: only [] is possible: discovery reads the whole cluster",
	} {
		if _, err := Load([]byte(doc(spec))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
}
