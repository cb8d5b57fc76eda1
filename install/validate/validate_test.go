package validate

import (
	"strings"
	"testing"
)

// TestRead: what is said of the objects of a file.
func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string // the objects, each with what its error contains, after " | "
	}{
		{
			name: "nothing but comments",
			text: "# later\n---\n\n---\n# and later\n",
		},
		{
			name: "several documents, one of them wrong",
			text: `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
# the second one
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, trafficPolicy: {loadBalancer: {simple: FASTEST}}}
`,
			want: []string{
				"f, document 1: PeerAuthentication shop/default",
				`f, document 2: DestinationRule web | spec: `,
			},
		},
		{
			name: "the objects of a list",
			text: `{"apiVersion": "v1", "kind": "List", "items": [
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}},
{"apiVersion": "networking.istio.io/v1beta1", "kind": "EnvoyFilter", "metadata": {"name": "patch"}}]}`,
			want: []string{
				"f, document 1: ConfigMap other (foreign)",
				"f, document 1: EnvoyFilter patch | EnvoyFilter is not honoured yet",
			},
		},
		{
			name: "a field that there is not",
			text: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {host: a.example.com}\n",
			want: []string{`f, document 1: ServiceEntry a | host`},
		},
		{
			name: "a version that there is not",
			text: "apiVersion: networking.istio.io/v2\nkind: ServiceEntry\nmetadata: {name: a}\n",
			want: []string{`f, document 1: ServiceEntry a | networking.istio.io has no version "v2"; set one of v1, v1beta1, v1alpha3`},
		},
		{
			name: "no name",
			text: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n",
			want: []string{`f, document 1: ServiceEntry  | metadata.name: must be given`},
		},
		{
			name: "no object",
			text: "- a\n- b\n",
			want: []string{"f, document 1 | not an object of Kubernetes"},
		},
		{
			name: "no kind",
			text: "spec: {}\n",
			want: []string{"f, document 1 | kind and apiVersion must both be given"},
		},
		{
			name: "a key twice",
			text: "apiVersion: v1\nkind: ConfigMap\nkind: Secret\n",
			want: []string{`f, document 1 | key "kind" already set`},
		},
		{
			name: "an IstioOperator",
			text: "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: default}\n",
			want: []string{"f, document 1: IstioOperator "},
		},
		{
			name: "an IstioOperator with a key that there is not",
			text: "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  profiel: default\n",
			want: []string{"f, document 1: IstioOperator  | line 4: "},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, err := Read("f", strings.NewReader(tt.text), "default")
			if err != nil {
				t.Fatal(err)
			}
			if len(found) != len(tt.want) {
				t.Fatalf("found %+v, want %d", found, len(tt.want))
			}
			for i := range found {
				object, problem, wrong := strings.Cut(tt.want[i], " | ")
				object, foreign := strings.CutSuffix(object, " (foreign)")
				if got := found[i]; got.String() != object || got.Foreign != foreign || (got.Error != "") != wrong || !strings.Contains(got.Error, problem) {
					t.Errorf("found %q with error %q (foreign: %t), want %q with %q (%t)", got.String(), got.Error, got.Foreign, object, problem, foreign)
				}
			}
		})
	}
}

// TestWarnings: what asks for something without effect is taken, and told.
func TestWarnings(t *testing.T) {
	const text = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: shop}
spec: {hosts: [a.example.com], resolution: STATIC, ports: [{number: 53, name: dns, protocol: UDP}]}
`
	found, err := Read("f", strings.NewReader(text), "default")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Error != "" || len(found[0].Warnings) == 0 {
		t.Errorf("found %+v, want one object with warnings", found)
	}
}

// FuzzRead: whatever stands in a file, something is said of it.
func FuzzRead(f *testing.F) {
	f.Add("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n---\n{}\n")
	f.Add("apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: default}\n")
	f.Add(`{"kind": "List", "items": [{"kind": "List", "items": [1]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		found, err := Read("f", strings.NewReader(text), "default")
		if err != nil {
			return
		}
		for i := range found {
			if found[i].String() == "" || found[i].Foreign && found[i].Error != "" {
				t.Errorf("of %q is said %+v", text, found[i])
			}
		}
	})
}
