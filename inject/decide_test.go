package inject

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

func TestDecide(t *testing.T) {
	enabled := map[string]string{api.LabelInjection: "enabled"}
	never := func(s *Settings) {
		s.Values.SidecarInjectorWebhook.NeverInjectSelector = []metav1.LabelSelector{{MatchLabels: map[string]string{"job": "build"}}}
	}
	canary := func(s *Settings) { s.Revision = "canary" }
	byDefault := func(s *Settings) { s.Values.SidecarInjectorWebhook.EnableNamespacesByDefault = true }
	for name, c := range map[string]struct {
		pod       string
		namespace string
		labels    map[string]string
		edit      func(*Settings)
		inject    bool
		reason    string
	}{
		"enabled": {labels: enabled, inject: true, reason: "istio-injection=enabled"},
		"disabled": {
			labels: map[string]string{api.LabelInjection: "disabled"},
			reason: "disabled",
		},
		"unlabelled":          {labels: map[string]string{}, reason: "neither"},
		"selected by webhook": {labels: nil, inject: true, reason: "selected"},
		"by default": {
			labels: map[string]string{},
			edit:   byDefault,
			inject: true,
			reason: "by default",
		},
		"namespace revision": {
			labels: map[string]string{api.LabelRevision: "canary"},
			edit:   canary,
			inject: true,
			reason: "istio.io/rev=canary",
		},
		"other revision": {
			labels: map[string]string{api.LabelRevision: "canary"},
			reason: "this is revision default",
		},
		"default is not ours": {labels: enabled, edit: canary, reason: "default revision"},
		"pod revision": {
			pod:    "{metadata: {labels: {istio.io/rev: canary}}}",
			labels: map[string]string{},
			edit:   canary,
			inject: true,
			reason: "its pod",
		},
		"label opts out": {
			pod:    "{metadata: {labels: {sidecar.istio.io/inject: 'false'}}}",
			labels: enabled,
			reason: `"false"`,
		},
		"annotation opts out": {
			pod:    "{metadata: {annotations: {sidecar.istio.io/inject: 'no'}}}",
			labels: enabled,
			reason: `"no"`,
		},
		"label opts in": {
			pod:    "{metadata: {labels: {sidecar.istio.io/inject: 'true'}}}",
			labels: map[string]string{},
			inject: true,
			reason: `"true"`,
		},
		"label beats the note": {
			pod:    "{metadata: {labels: {sidecar.istio.io/inject: 'true'}, annotations: {sidecar.istio.io/inject: 'false'}}}",
			inject: true,
			reason: "label",
		},
		"never": {
			pod:    "{metadata: {labels: {job: build}}}",
			labels: enabled,
			edit:   never,
			reason: "neverInjectSelector",
		},
		"host network": {
			pod:    "{spec: {hostNetwork: true}}",
			labels: enabled,
			reason: "host's network",
		},
		"host network outside": {
			pod:    "{spec: {hostNetwork: true}}",
			labels: map[string]string{},
			reason: "neither",
		},
		"windows": {pod: "{spec: {os: {name: windows}}}", labels: enabled, reason: "Windows"},
		"injected": {
			pod:    "{metadata: {annotations: {sidecar.istio.io/status: '{}'}}}",
			labels: enabled,
			reason: "injected already",
		},
		"gateway": {
			pod:    "{spec: {containers: [{name: istio-proxy}]}}",
			labels: enabled,
			reason: "of its own",
		},
		"system": {namespace: "kube-system", labels: enabled, reason: "never injected"},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(t)
			if c.edit != nil {
				c.edit(s)
			}
			ns := c.namespace
			if ns == "" {
				ns = "bar"
			}
			d, err := Decide(podOf(t, c.pod), ns, c.labels, s)
			if err != nil {
				t.Fatal(err)
			}
			if d.Inject != c.inject || !strings.Contains(d.Reason, c.reason) {
				t.Errorf("%+v, want inject=%v because of %q", d, c.inject, c.reason)
			}
		})
	}
}

func TestDecideRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		pod    string
		labels map[string]string
		want   string
	}{
		"label": {
			pod:  "{metadata: {labels: {sidecar.istio.io/inject: maybe}}}",
			want: "label sidecar.istio.io/inject",
		},
		"annotation": {
			pod:  "{metadata: {annotations: {sidecar.istio.io/inject: ''}}}",
			want: "annotation sidecar.istio.io/inject",
		},
		"namespace": {"{}", map[string]string{api.LabelInjection: "true"}, "label istio-injection"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decide(podOf(t, c.pod), "bar", c.labels, settings(t)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
