package verify

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/install/render"
)

// cluster answers by kind and name.
type cluster map[string]*unstructured.Unstructured

func (c cluster) Get(_ context.Context, gvk schema.GroupVersionKind, _, name string) (*unstructured.Unstructured, error) {
	return c[gvk.Kind+"/"+name], nil
}

func validator(revision, service, bundle string) *unstructured.Unstructured {
	type m = map[string]any
	return &unstructured.Unstructured{Object: m{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
		"metadata": m{"name": "istiod-default-validator", "labels": m{"istio.io/rev": revision}},
		"webhooks": []any{m{
			"name":         "validation.istio.io",
			"clientConfig": m{"caBundle": bundle, "service": m{"name": service, "namespace": "istio-system"}},
		}},
	}}
}

// TestDefaultValidator: another revision may have it, as long as that is there;
// from the default revision nobody may.
func TestDefaultValidator(t *testing.T) {
	service := &unstructured.Unstructured{Object: map[string]any{"kind": "Service"}}
	for name, c := range map[string]struct {
		want    *unstructured.Unstructured
		cluster cluster
		problem string
	}{
		"its own": {
			validator("canary", "istiod-canary", ""),
			cluster{"ValidatingWebhookConfiguration/istiod-default-validator": validator("canary", "istiod-canary", "root")},
			"",
		},
		"another's": {
			validator("canary", "istiod-canary", ""),
			cluster{
				"ValidatingWebhookConfiguration/istiod-default-validator": validator("default", "istiod", "root"),
				"Service/istiod": service,
			},
			"",
		},
		"another's that is gone": {
			validator("canary", "istiod-canary", ""),
			cluster{"ValidatingWebhookConfiguration/istiod-default-validator": validator("default", "istiod", "root")},
			"Service/istio-system/istiod, which is not there",
		},
		"taken from the default": {
			validator("default", "istiod", ""),
			cluster{
				"ValidatingWebhookConfiguration/istiod-default-validator": validator("canary", "istiod-canary", "root"),
				"Service/istiod-canary":                                   service,
			},
			"istiod-canary",
		},
		"without trust": {
			validator("default", "istiod", ""),
			cluster{"ValidatingWebhookConfiguration/istiod-default-validator": validator("default", "istiod", "")},
			"root certificate",
		},
		"missing": {
			validator("canary", "istiod-canary", ""), cluster{}, "missing",
		},
	} {
		unstructured.RemoveNestedField(c.want.Object["webhooks"].([]any)[0].(map[string]any), "clientConfig", "caBundle")
		results, err := Objects(t.Context(), c.cluster, []render.Object{{Unstructured: c.want}})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(results[0].Problems, "\n")
		if (c.problem == "") != (got == "") || !strings.Contains(got, c.problem) {
			t.Errorf("%s: %q, want %q", name, got, c.problem)
		}
	}
}
