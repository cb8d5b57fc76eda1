package operator

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestStandsFor: a resource without a control plane of its own is about an
// addition, and its removal takes no control plane away.
func TestStandsFor(t *testing.T) {
	for spec, want := range map[string]string{
		"{}":                                   "default/",
		"{revision: canary, profile: minimal}": "canary/",
		"{profile: empty}":                     "default/name",
		"{profile: empty, revision: canary}":   "canary/name",
		"{profile: empty, components: {pilot: {enabled: true}}}":                             "default/",
		"{profile: empty, components: {base: {enabled: true}}}":                              "default/",
		"{components: {base: {enabled: false}}}":                                             "default/",
		"{components: {base: {enabled: false}, pilot: {enabled: false}}}":                    "default/name",
		"{profile: empty, components: {ingressGateways: [{name: a, enabled: true}]}, no: 1}": "default/name",
	} {
		u := &unstructured.Unstructured{Object: map[string]any{}}
		if err := yaml.Unmarshal([]byte("{metadata: {name: name}, spec: "+spec+"}"), &u.Object); err != nil {
			t.Fatal(err)
		}
		revision, addition := standsFor(u)
		if got := revision + "/" + addition; got != want {
			t.Errorf("%s stands for %s, want %s", spec, got, want)
		}
	}
}
