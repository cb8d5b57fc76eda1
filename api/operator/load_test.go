package operator

import (
	"strings"
	"testing"
)

// doc wraps the lines of a spec, given without their indentation below spec.
func doc(spec string) string {
	var b strings.Builder
	b.WriteString("apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n")
	for line := range strings.Lines(spec) {
		b.WriteString("  " + line)
	}
	return b.String()
}

// TestMalformed holds every refusal to its path and its reason.
func TestMalformed(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", "the document is empty"},
		{"comments only", "# nothing\n---\n# here\n", "the document is empty"},
		{"not YAML", "a: b: c", "not YAML"},
		{"tab", "spec:\n\tprofile: demo", "not YAML"},
		{"scalar document", "hello", `document: a mapping with apiVersion, kind and spec was expected, found "hello"`},
		{"list document", "- a", "found a list"},
		{"two documents", doc("profile: demo\n") + "---\n" + doc("profile: demo\n"), "a second document"},
		{"no kind", "apiVersion: install.istio.io/v1alpha1\nspec: {}", `kind: "IstioOperator" was expected, found ""`},
		{"other kind", "apiVersion: v1\nkind: ConfigMap\n", `kind: "IstioOperator" was expected, found "ConfigMap"`},
		{"other version", "apiVersion: install.istio.io/v1beta9\nkind: IstioOperator\n", `apiVersion: "install.istio.io/v1alpha1" was expected`},
		{"indentation lost", "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\nvalues:\nglobal:\n", "values: unknown at the top level; it belongs under spec"},
		{"unknown outer key", "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetdata: {}\n", "metdata: unknown key; did you mean metadata?"},
		{"bad metadata", "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {nam: x}\n", "metadata.nam: unknown key; did you mean metadata.name?"},
		{"unknown key", doc("profil: demo\n"), "line 4: spec.profil: unknown key; did you mean spec.profile?"},
		{"unknown nested key", doc("components:\n  pilot:\n    k8s:\n      serviceAnotations: {}\n"), "line 7: spec.components.pilot.k8s.serviceAnotations: unknown key; did you mean spec.components.pilot.k8s.serviceAnnotations?"},
		{"unknown far key", doc("zebra: 1\n"), "spec.zebra: unknown key"},
		{"misplaced component", doc("components:\n  istiocoredns: {enabled: true}\n"), "spec.components.istiocoredns: unknown key"},
		{"swapped letters", doc("values:\n  global:\n    netwrok: n1\n"), "did you mean spec.values.global.network?"},
		{"case", doc("meshconfig: {}\n"), "did you mean spec.meshConfig?"},
		{"string for mapping", doc("components: all\n"), `spec.components: a mapping was expected, found "all"`},
		{"list for mapping", doc("values: [a]\n"), "spec.values: a mapping was expected, found a list"},
		{"mapping for list", doc("components:\n  ingressGateways:\n    istio-ingressgateway: {}\n"), "spec.components.ingressGateways: a list was expected, found a mapping"},
		{"mapping for string", doc("hub: {}\n"), "spec.hub: a string was expected, found a mapping"},
		{"boolean for string", doc("hub: true\n"), "write it in quotes"},
		{"string for boolean", doc("components:\n  pilot: {enabled: \"yes\"}\n"), `spec.components.pilot.enabled: true or false was expected, found "yes"`},
		{"string for number", doc("components:\n  pilot:\n    k8s: {replicaCount: two}\n"), `spec.components.pilot.k8s.replicaCount: a whole number was expected, found "two"`},
		{"fraction for number", doc("components:\n  pilot:\n    k8s: {replicaCount: 1.5}\n"), `a whole number was expected, found "1.5"`},
		{"bad quantity", doc("components:\n  pilot:\n    k8s:\n      resources:\n        requests: {cpu: lots}\n"), `spec.components.pilot.k8s.resources.requests.cpu: a quantity such as 100m`},
		{"bad duration", doc("meshConfig:\n  connectTimeout: soon\n"), "spec.meshConfig.connectTimeout: a duration such as 10s"},
		{"bad enum", doc("meshConfig:\n  outboundTrafficPolicy: {mode: SOME}\n"), `spec.meshConfig.outboundTrafficPolicy.mode: "SOME" is not one of`},
		{"bad policy", doc("values:\n  global: {imagePullPolicy: Sometimes}\n"), `"Sometimes" is not one of Always, IfNotPresent, Never`},
		{"bad jwtPolicy", doc("values:\n  global: {jwtPolicy: none}\n"), "third-party-jwt, first-party-jwt"},
		{"unknown mesh key", doc("meshConfig:\n  accesLogFile: /dev/stdout\n"), "did you mean spec.meshConfig.accessLogFile?"},
		{"key twice", doc("hub: a\nhub: b\n"), "given twice"},
		{"key in two spellings", doc("components:\n  pilot:\n    k8s:\n      service_annotations: {}\n      serviceAnnotations: {}\n"), "given twice, in two spellings"},
		{"gateway without a name", doc("components:\n  ingressGateways:\n  - enabled: true\n"), "spec.components.ingressGateways[0]: name is missing"},
		{"env without a name", doc("components:\n  pilot:\n    k8s:\n      env:\n      - value: x\n"), "spec.components.pilot.k8s.env[0]: name is missing"},
		{"Mixer policy", doc("components:\n  policy: {enabled: true}\n"), "spec.components.policy: refused: Mixer's policy service does not exist here"},
		{"Mixer telemetry values", doc("values:\n  mixer: {policy: {enabled: false}}\n"), "spec.values.mixer: refused"},
		{"settings of an absent component", doc("components:\n  cni: {k8s: {replicaCount: 2}}\n"), "spec.components.cni: refused"},
		{"add-on", doc("addonComponents:\n  grafana: {enabled: true}\n"), "spec.addonComponents.grafana: refused: observability tools are not bundled"},
		{"insecure control plane", doc("values:\n  global: {controlPlaneSecurityEnabled: false}\n"), "refused: only true is possible"},
		{"other charts", doc("installPackagePath: /tmp\n"), "spec.installPackagePath: refused"},
		{"merge key", doc("values:\n  global:\n    <<: x\n"), "a merge key (<<) takes a mapping or a list of mappings, found \"x\""},
		{"key that is a list", doc("? [a]\n: b\n"), "a key must be a plain word"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load([]byte(tc.in))
			if err == nil {
				t.Fatalf("accepted")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error\n  %v\ndoes not say\n  %s", err, tc.want)
			}
		})
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	_, err := Load([]byte(doc("profil: demo\nhubb: x\ncomponents: 3\n")))
	for _, want := range []string{"spec.profil:", "spec.hubb:", "spec.components:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not speak of %s", err, want)
		}
	}
}

// TestSpelling: the older snake_case and numbers without quotes mean what they
// say.
func TestSpelling(t *testing.T) {
	l, err := Load([]byte(doc(`tag: 1.10
values:
  global:
    multi_cluster: {cluster_name: main0}
    mesh_networks:
      network_1:
        endpoints:
        - from_registry: main0
        gateways:
        - registry_service_name: istio-ingressgateway.istio-system.svc.cluster.local
          port: 443
components:
  pilot:
    k8s:
      service:
        type: LoadBalancer
      service_annotations:
        cloud.google.com/load-balancer-type: Internal
`)))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := l.Merged()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := tree.Typed()
	if err != nil {
		t.Fatal(err)
	}
	if spec.Tag != "1.10" {
		t.Errorf("tag is %q", spec.Tag)
	}
	if got := spec.Values.Global.MultiCluster.ClusterName; got != "main0" {
		t.Errorf("clusterName is %q", got)
	}
	network, _ := spec.Values.Global.MeshNetworks["network_1"].(map[string]any)
	gateways, _ := network["gateways"].([]any)
	if len(gateways) != 1 || gateways[0].(map[string]any)["registryServiceName"] == nil {
		t.Errorf("the network's own name must stay, its keys become camelCase: %v", spec.Values.Global.MeshNetworks)
	}
	k := spec.Components.Pilot.K8s
	if k.Service == nil || k.Service.Type != "LoadBalancer" || k.ServiceAnnotations["cloud.google.com/load-balancer-type"] != "Internal" {
		t.Errorf("k8s settings: %+v", k)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"network", "meshNetworks", "multiCluster", "hub", "tag"}
	for word, want := range map[string]string{
		"netwrok": "network", "mesh_network": "meshNetworks", "Hub": "hub", "cluster": "multiCluster",
		"zebra": "", "x": "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("nearest(%q) is %q, not %q", word, got, want)
		}
	}
}

// FuzzLoad: whatever comes in, the loader returns, and what it accepts can be
// used: it merges, and it fits the Go types.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(doc("profile: demo\nvalues: {global: {hub: x}}\n")))
	f.Add([]byte(doc("components:\n  ingressGateways:\n  - name: a\n    k8s:\n      env: [{name: A, value: b}]\n")))
	f.Add([]byte(doc("meshConfig:\n  defaultConfig: {concurrency: 2}\n")))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("{apiVersion: install.istio.io/v1alpha1, kind: IstioOperator, spec: {unvalidatedValues: {a: [1, 2.5, null, 2001-01-01]}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Load(data)
		if err != nil {
			return
		}
		tree, err := l.Merged()
		if err != nil {
			t.Fatalf("accepted, but does not merge: %v", err)
		}
		if _, err := tree.Typed(); err != nil {
			t.Fatalf("accepted, but does not fit the types: %v", err)
		}
	})
}
