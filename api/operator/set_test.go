package operator

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// base is what the sets of the tests are laid over.
const base = `hub: a
components:
  ingressGateways:
  - name: istio-ingressgateway
    enabled: true
    k8s:
      env:
      - {name: A, value: "1"}
values:
  global:
    podDNSSearchNamespaces: [global]
`

func lay(t *testing.T, sets ...string) Tree {
	t.Helper()
	l, err := Load([]byte(doc(base)))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := l.Merged()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sets {
		l, err := ParseSet(s)
		if err != nil {
			t.Fatal(err)
		}
		if tree, err = tree.With(l); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// dig follows keys and indexes.
func dig(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

func TestSet(t *testing.T) {
	for _, tc := range []struct {
		set  string
		path []any
		want any
	}{
		{"profile=demo", []any{"profile"}, "demo"},
		{"hub=hub.docker.com/docker/istio", []any{"hub"}, "hub.docker.com/docker/istio"},
		{"tag=1.10", []any{"tag"}, "1.10"},
		{"tag=true", []any{"tag"}, "true"},
		{"components.pilot.enabled=false", []any{"components", "pilot", "enabled"}, false},
		{"components.pilot.k8s.replicaCount=3", []any{"components", "pilot", "k8s", "replicaCount"}, int64(3)},
		{"components.pilot.k8s.service_annotations.a=3", []any{"components", "pilot", "k8s", "serviceAnnotations", "a"}, "3"},
		{"addonComponents.istiocoredns.enabled=true", []any{"addonComponents", "istiocoredns", "enabled"}, true},
		{`components.pilot.k8s.serviceAnnotations.service\.beta\.kubernetes\.io/type=nlb`, []any{"components", "pilot", "k8s", "serviceAnnotations", "service.beta.kubernetes.io/type"}, "nlb"},
		{"meshConfig.accessLogFormat=a=b,c=d", []any{"meshConfig", "accessLogFormat"}, "a=b,c=d"},
		{"meshConfig.trustDomainAliases={a, b,c}", []any{"meshConfig", "trustDomainAliases"}, []any{"a", "b", "c"}},
		{`meshConfig.trustDomainAliases={a\,b}`, []any{"meshConfig", "trustDomainAliases"}, []any{"a,b"}},
		{"values.global.podDNSSearchNamespaces={}", []any{"values", "global", "podDNSSearchNamespaces"}, []any{}},
		{"values.global.podDNSSearchNamespaces[1]=other", []any{"values", "global", "podDNSSearchNamespaces"}, []any{"global", "other"}},
		{"values.global.podDNSSearchNamespaces[0]=null", []any{"values", "global", "podDNSSearchNamespaces"}, []any{}},
		{"components.ingressGateways[0].enabled=false", []any{"components", "ingressGateways", 0, "enabled"}, false},
		{"components.ingressGateways.[name:istio-ingressgateway].enabled=false", []any{"components", "ingressGateways", 0, "enabled"}, false},
		{"components.ingressGateways[name:second].enabled=true", []any{"components", "ingressGateways", 1, "name"}, "second"},
		{"components.ingressGateways[0].k8s.env[name:A].value=2", []any{"components", "ingressGateways", 0, "k8s", "env", 0, "value"}, "2"},
		{"hub=null", []any{"hub"}, nil},
		{"hub=", []any{"hub"}, ""},
		{"unvalidatedValues.a.b=7", []any{"unvalidatedValues", "a", "b"}, int64(7)},
		{"unvalidatedValues.a.b=007", []any{"unvalidatedValues", "a", "b"}, "007"},
		{"unvalidatedValues.l[0].x=1", []any{"unvalidatedValues", "l", 0, "x"}, int64(1)},
	} {
		t.Run(tc.set, func(t *testing.T) {
			got := dig(t, map[string]any(lay(t, tc.set)), tc.path...)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSetRefused(t *testing.T) {
	for set, want := range map[string]string{
		"profile":                            "no = found",
		"=demo":                              "path before the = is empty",
		"a..b=1":                             "an empty key",
		".a=1":                               "an empty key",
		`a\`:                                 "ends in a backslash",
		"components.ingressGateways[0=1":     "not closed",
		"components.ingressGateways[x]=1":    "neither an index",
		"components.ingressGateways[-1]=1":   "neither an index",
		"components.ingressGateways[9999]=1": "neither an index",
		"[0]=1":                              "starts with a list index",
		"profil=demo":                        "profil: unknown key; did you mean profile?",
		"values.global.hubb=x":               "did you mean values.global.hub?",
		"components.pilot.enabled=maybe":     "components.pilot.enabled: true or false was expected",
		"components.pilot[0]=1":              "a mapping was expected, found a list index",
		"values.gateways[0]=1":               "a mapping was expected, found a list index",
		"components.policy.enabled=true":     "Mixer",
		"hub={a,b}":                          "a string was expected, found a list",
	} {
		if _, err := ParseSet(set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: %v, which does not say %q", set, err, want)
		}
	}
}

func TestSetPastTheEnd(t *testing.T) {
	for set, want := range map[string]string{
		"values.global.podDNSSearchNamespaces[5]=x":   "the next index is 1",
		"components.ingressGateways[1].enabled=true":  "needs its name",
		"components.egressGateways[0].k8s.env[3]=nix": "",
	} {
		l, err := ParseSet(set)
		if err != nil {
			continue
		}
		if _, err := lay(t).With(l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: %v, which does not say %q", set, err, want)
		}
	}
}

// TestMerge: mappings by key, gateways and variables by name, other lists as a
// whole, null takes away; the layers stay what they were.
func TestMerge(t *testing.T) {
	first := lay(t)
	l, err := Load([]byte(doc(`hub: null
components:
  ingressGateways:
  - name: istio-ingressgateway
    k8s:
      env:
      - {name: B, value: "2"}
      - {name: A, value: "3"}
  - name: second
    enabled: true
values:
  global:
    podDNSSearchNamespaces: [other]
    network: n1
  pilot:
`)))
	if err != nil {
		t.Fatal(err)
	}
	second, err := first.With(l)
	if err != nil {
		t.Fatal(err)
	}
	want := Tree{
		"components": map[string]any{"ingressGateways": []any{
			map[string]any{"name": "istio-ingressgateway", "enabled": true, "k8s": map[string]any{"env": []any{
				map[string]any{"name": "A", "value": "3"}, map[string]any{"name": "B", "value": "2"},
			}}},
			map[string]any{"name": "second", "enabled": true},
		}},
		"values": map[string]any{"global": map[string]any{"podDNSSearchNamespaces": []any{"other"}, "network": "n1"}},
	}
	if diff := cmp.Diff(want, second); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(lay(t), first); diff != "" {
		t.Errorf("the tree below was changed: %s", diff)
	}
}

// FuzzParseSet: whatever is typed, the parser returns.
func FuzzParseSet(f *testing.F) {
	for _, s := range []string{"profile=demo", `a.b\.c[0].d={x,y}`, "components.ingressGateways[name:x].enabled=true", "[=]", `\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseSet(s)
		if err != nil {
			return
		}
		tree, err := (Tree{}).With(l)
		if err != nil {
			return
		}
		if _, err := tree.Typed(); err != nil {
			t.Fatalf("accepted, but does not fit the types: %v", err)
		}
	})
}
