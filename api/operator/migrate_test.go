package operator

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMigrate(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     Tree
		dropped  []string
	}{
		{
			"helm values", "global:\n  hub: h\n  mtls: {enabled: true}\nmixer: {}\ngateways:\n  istio-ingressgateway: {type: NodePort, zap: 1}\n",
			Tree{"values": map[string]any{"global": map[string]any{"hub": "h"},
				"gateways": map[string]any{"istio-ingressgateway": map[string]any{"type": "NodePort"}}}},
			[]string{"values.global.mtls: refused", "values.mixer: refused", "values.gateways.istio-ingressgateway.zap: unknown key"},
		},
		{
			"istio control plane", "apiVersion: install.istio.io/v1alpha2\nkind: IstioControlPlane\nspec:\n  hub: h\n  trafficManagement: {enabled: true}\n",
			Tree{"hub": "h"}, []string{"spec.trafficManagement: unknown key"},
		},
		{
			"istio operator", doc("hub: h\ncomponents:\n  telemetry: {enabled: true}\n  galley: {enabled: false}\n"),
			Tree{"hub": "h", "components": map[string]any{"galley": map[string]any{"enabled": false}}},
			[]string{"spec.components.telemetry: refused"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := Migrate([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, m.Spec); diff != "" {
				t.Error(diff)
			}
			if len(m.Dropped) != len(tc.dropped) {
				t.Fatalf("dropped: %v", m.Dropped)
			}
			for i, want := range tc.dropped {
				if !strings.Contains(m.Dropped[i].Error(), want) {
					t.Errorf("dropped %v, which does not say %q", m.Dropped[i], want)
				}
			}
		})
	}
}

func TestMigrateRefused(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "empty",
		"- a":                           "a mapping was expected",
		"kind: Pod\n":                   `kind "Pod"`,
		"kind: IstioOperator\nspec:\n":  "",
		"kind: IstioOperator\nspecs:\n": "no spec",
	} {
		_, err := Migrate([]byte(in))
		if want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, which does not say %q", in, err, want)
		}
	}
}
