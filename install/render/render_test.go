package render

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/charts"
	"github.com/isthmus-mesh/isthmus/install/values"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// chartFS is the charts, with two CRDs in the place of the generated file,
// which a plain checkout does not have.
func chartFS(t *testing.T) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	err := fs.WalkDir(charts.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(charts.FS, name)
		out[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out["base/files/crds.gen.yaml"] = &fstest.MapFile{Data: []byte(`---
{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"serviceentries.networking.istio.io"}}
---
{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"gateways.networking.istio.io"}}
`)}
	out["base/files/mcs-crds.gen.yaml"] = &fstest.MapFile{Data: []byte(`---
{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"serviceexports.multicluster.x-k8s.io"}}
`)}
	return out
}

func rendered(t *testing.T, sets ...string) []Object {
	t.Helper()
	objs, err := tryRender(t, sets...)
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

func tryRender(t *testing.T, sets ...string) ([]Object, error) {
	t.Helper()
	c, err := values.Resolve(values.Input{Sets: sets, Hub: "hub.example", Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	return Render(c, chartFS(t))
}

// find returns the one object of a kind and name.
func find(t *testing.T, objs []Object, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range objs {
		if o.GetKind() == kind && o.GetName() == name {
			return o.Unstructured
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return nil
}

// named selects the element of a list by its name.
type named string

// value digs a value out of an object by keys, indexes and names.
func value(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case named:
			l, _ := v.([]any)
			at := slices.IndexFunc(l, func(e any) bool { return value(e, "name") == string(p) })
			if at < 0 {
				return nil
			}
			v = l[at]
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

// TestObjects holds what each configuration consists of, and the order, to a
// golden list.
func TestObjects(t *testing.T) {
	for name, sets := range map[string][]string{
		"default": nil,
		"multicluster": {"addonComponents.istiocoredns.enabled=true", "components.egressGateways[0].enabled=true",
			"values.global.multiCluster.enabled=true"},
		"revision": {"profile=minimal", "revision=canary"},
		"remote":   {"profile=remote", "values.global.remotePilotAddress=192.0.2.1"},
		"empty":    {"profile=empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, o := range rendered(t, sets...) {
				got.WriteString(o.ID() + "\n")
			}
			golden(t, name+".list", got.String())
		})
	}
}

// TestRolesComeBeforeTheirBindings: objects of one stage are applied side by side,
// and a binding whose role is not there is refused to whoever may not bind any role.
func TestRolesComeBeforeTheirBindings(t *testing.T) {
	operator, err := RenderOperator(OperatorConfig{Namespace: "istio-operator", Hub: "isthmus.local", Tag: "dev"}, charts.FS)
	if err != nil {
		t.Fatal(err)
	}
	bindings := 0
	for _, objs := range [][]Object{rendered(t), operator} {
		stages := map[string]Stage{}
		for _, o := range objs {
			stages[o.GetKind()+"/"+o.GetName()] = StageOf(o.Unstructured)
		}
		for _, o := range objs {
			if !IsBinding(o.GroupVersionKind()) {
				continue
			}
			bindings++
			kind, _, _ := unstructured.NestedString(o.Object, "roleRef", "kind")
			name, _, _ := unstructured.NestedString(o.Object, "roleRef", "name")
			if role, rendered := stages[kind+"/"+name]; !rendered || role >= StageOf(o.Unstructured) {
				t.Errorf("%s is applied in stage %d, its %s %s in stage %d (rendered: %v)", o.ID(), StageOf(o.Unstructured), kind, name, role, rendered)
			}
		}
	}
	if bindings < 4 {
		t.Errorf("%d bindings were looked at", bindings)
	}
}

// TestEveryObjectIsValidated: whichever revision is installed, one webhook sees
// objects of every revision and of none, and the revision's own its own.
func TestEveryObjectIsValidated(t *testing.T) {
	for revision, own := range map[string]string{
		"default": "istiod-istio-system",
		"canary":  "istio-validator-canary-istio-system",
	} {
		objs := rendered(t, "revision="+revision)
		all, labelled := find(t, objs, "ValidatingWebhookConfiguration", "istiod-default-validator"), find(t, objs, "ValidatingWebhookConfiguration", own)
		if selector := value(all.Object, "webhooks", 0, "objectSelector"); selector != nil {
			t.Errorf("%s: the default validator sees only %v", revision, selector)
		}
		if got := value(labelled.Object, "webhooks", 0, "objectSelector", "matchExpressions", 0, "values", 0); got != revision {
			t.Errorf("%s sees objects of revision %v", own, got)
		}
		for _, v := range []*unstructured.Unstructured{all, labelled} {
			service := value(v.Object, "webhooks", 0, "clientConfig", "service", "name")
			if revision == "default" && service != "istiod" || revision != "default" && service != "istiod-"+revision {
				t.Errorf("%s of revision %s calls %v", v.GetName(), revision, service)
			}
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), -update rewrites:\n%s", file, diff)
	}
}

func TestDeterministic(t *testing.T) {
	first, err := YAML(rendered(t, "profile=demo"))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		again, err := YAML(rendered(t, "profile=demo"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, again) {
			t.Fatal("two renderings of one configuration differ")
		}
	}
}

// TestRoundTrip: what is printed reads back as the same objects.
func TestRoundTrip(t *testing.T) {
	objs := rendered(t, "profile=demo")
	text, err := YAML(objs)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(text, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(back) != len(objs) {
		t.Fatalf("%d objects became %d", len(objs), len(back))
	}
	for i := range objs {
		if diff := cmp.Diff(objs[i].Object, back[i].Object); diff != "" {
			t.Errorf("%s: %s", objs[i].ID(), diff)
		}
	}
}

// TestEffects: settings reach the object that they are about.
func TestEffects(t *testing.T) {
	pod := []any{"spec", "template", "spec"}
	container := append(pod, "containers", 0)
	at := func(base []any, more ...any) []any { return append(append([]any{}, base...), more...) }
	for _, tc := range []struct {
		name, kind, object string
		sets               []string
		path               []any
		want               any
	}{
		{"image", "Deployment", "istiod", nil, at(container, "image"), "hub.example/pilot:v1"},
		{"hub", "Deployment", "istiod", []string{"hub=h", "tag=1.10"}, at(container, "image"), "h/pilot:1.10"},
		{"full image name", "Deployment", "istio-ingressgateway", []string{"values.global.proxy.image=a.b/c:d"}, at(container, "image"), "a.b/c:d"},
		{"service type", "Service", "istiod", []string{"components.pilot.k8s.service.type=LoadBalancer"}, []any{"spec", "type"}, "LoadBalancer"},
		{"service keeps its ports", "Service", "istiod", []string{"components.pilot.k8s.service.type=LoadBalancer"}, []any{"spec", "ports", 0, "port"}, int64(15012)},
		{"no plaintext xDS", "Deployment", "istiod", nil, at(container, "args"), []any{"discovery"}},
		{"plaintext xDS", "Deployment", "istiod", []string{"values.pilot.plaintextXDS=true"}, at(container, "args", 1), "--grpc-addr=:15010"},
		{"plaintext xDS at the Service", "Service", "istiod", []string{"values.pilot.plaintextXDS=true"}, []any{"spec", "ports", 0, "port"}, int64(15010)},
		{"age of connections", "Deployment", "istiod", []string{"values.pilot.keepaliveMaxServerConnectionAge=10m"}, at(container, "args", 1), "--keepaliveMaxServerConnectionAge=10m"},
		{"service annotation", "Service", "istiod", []string{`components.pilot.k8s.service_annotations.cloud\.google\.com/load-balancer-type=Internal`}, []any{"metadata", "annotations", "cloud.google.com/load-balancer-type"}, "Internal"},
		{"env is added", "Deployment", "istiod", []string{"components.pilot.k8s.env[name:A].value=b"}, at(container, "env", named("A"), "value"), "b"},
		{"env is replaced", "Deployment", "istiod", []string{"components.pilot.k8s.env[name:LOG_LEVEL].value=debug"}, at(container, "env", named("LOG_LEVEL"), "value"), "debug"},
		{"resources", "Deployment", "istiod", []string{"components.pilot.k8s.resources.requests.cpu=2"}, at(container, "resources", "requests", "cpu"), "2"},
		{"resources merge", "Deployment", "istiod", []string{"components.pilot.k8s.resources.requests.cpu=2"}, at(container, "resources", "requests", "memory"), "128Mi"},
		{"replicas raise the autoscaler", "HorizontalPodAutoscaler", "istiod", []string{"components.pilot.k8s.replicaCount=7"}, []any{"spec", "minReplicas"}, int64(7)},
		{"and its limit", "HorizontalPodAutoscaler", "istiod", []string{"components.pilot.k8s.replicaCount=7"}, []any{"spec", "maxReplicas"}, int64(7)},
		{"replicas without autoscaler", "Deployment", "istiod", []string{"components.pilot.k8s.replicaCount=3", "values.pilot.autoscaleEnabled=false"}, []any{"spec", "replicas"}, int64(3)},
		{"autoscaler owns replicas", "Deployment", "istiod", nil, []any{"spec", "replicas"}, nil},
		{"strategy is replaced", "Deployment", "istiod", []string{"components.pilot.k8s.strategy.type=Recreate"}, []any{"spec", "strategy"}, map[string]any{"type": "Recreate"}},
		{"node selector", "Deployment", "istio-ingressgateway", []string{"components.ingressGateways[0].k8s.nodeSelector.edge=yes"}, at(pod, "nodeSelector", "edge"), "yes"},
		{"default node selector", "Deployment", "istio-ingressgateway", []string{"values.global.defaultNodeSelector.a=b"}, at(pod, "nodeSelector", "a"), "b"},
		{"toleration", "Deployment", "istiod", []string{"components.pilot.k8s.tolerations[0].key=k"}, at(pod, "tolerations", 0, "key"), "k"},
		{"pod annotation", "Deployment", "istiod", []string{"components.pilot.k8s.podAnnotations.a=b"}, []any{"spec", "template", "metadata", "annotations", "a"}, "b"},
		{"autoscaler", "HorizontalPodAutoscaler", "istio-ingressgateway", []string{"components.ingressGateways[0].k8s.hpaSpec.maxReplicas=9"}, []any{"spec", "maxReplicas"}, int64(9)},
		{"overlay by index", "Deployment", "istiod", []string{"components.pilot.k8s.overlays[0].kind=Deployment", "components.pilot.k8s.overlays[0].name=istiod",
			"components.pilot.k8s.overlays[0].patches[0].path=spec.template.spec.containers.[name:discovery].args[1]", "components.pilot.k8s.overlays[0].patches[0].value=--x"}, at(container, "args", 1), "--x"},
		{"overlay removes", "Deployment", "istiod", []string{"components.pilot.k8s.overlays[0].kind=Deployment", "components.pilot.k8s.overlays[0].name=istiod",
			"components.pilot.k8s.overlays[0].patches[0].path=spec.template.spec.containers[0].resources"}, at(container, "resources"), nil},
		{"gateway type", "Service", "istio-ingressgateway", []string{"values.gateways.istio-ingressgateway.type=NodePort"}, []any{"spec", "type"}, "NodePort"},
		{"second gateway", "Deployment", "inner", []string{"components.ingressGateways[name:inner].enabled=true"}, []any{"spec", "selector", "matchLabels", "app"}, "inner"},
		{"gateway's own label", "Deployment", "inner", []string{"components.ingressGateways[name:inner].enabled=true", "components.ingressGateways[name:inner].label.team=a"}, []any{"spec", "template", "metadata", "labels", "team"}, "a"},
		{"gateway elsewhere", "Deployment", "inner", []string{"components.ingressGateways[name:inner].enabled=true", "components.ingressGateways[name:inner].namespace=edge"}, []any{"metadata", "namespace"}, "edge"},
		{"gateway's network", "Deployment", "inner", []string{"components.ingressGateways[name:inner].enabled=true", `components.ingressGateways[name:inner].label.topology\.istio\.io/network=n2`, "values.global.network=n1"}, at(container, "env", named("ISTIO_META_NETWORK"), "value"), "n2"},
		{"its cluster's network", "Deployment", "istio-ingressgateway", []string{"values.global.network=n1"}, at(container, "env", named("ISTIO_META_NETWORK"), "value"), "n1"},
		{"egress gateway is inside", "Service", "istio-egressgateway", []string{"components.egressGateways[0].enabled=true"}, []any{"spec", "type"}, "ClusterIP"},
		{"cluster name", "Deployment", "istiod", []string{"values.global.multiCluster.clusterName=main0"}, at(container, "env", named("CLUSTER_ID"), "value"), "main0"},
		{"no token of its own", "Deployment", "istio-ingressgateway", []string{"values.global.jwtPolicy=first-party-jwt"}, at(pod, "volumes", 3), nil},
		{"unvalidated values", "Deployment", "istiod", []string{"unvalidatedValues.pilot.image=mine"}, at(container, "image"), "hub.example/mine:v1"},
		{"revision in names", "Deployment", "istiod-canary", []string{"revision=canary"}, at(pod, "serviceAccountName"), "istiod-service-account-canary"},
		{"namespace", "Deployment", "istiod", []string{"namespace=mesh"}, []any{"metadata", "namespace"}, "mesh"},
		{"control plane's namespace", "Deployment", "istiod", []string{"values.global.istioNamespace=mesh"}, []any{"metadata", "namespace"}, "mesh"},
		{"and its proxies know it", "Deployment", "istio-ingressgateway", []string{"values.global.istioNamespace=mesh"}, at(container, "env", named("CA_ADDR"), "value"), "istiod.mesh.svc:15012"},
		{"cluster's domain", "Deployment", "istiod", []string{"values.global.proxy.clusterDomain=k8s.example"}, at(container, "env", named("DOMAIN_SUFFIX"), "value"), "k8s.example"},
		{"cluster's domain at gateways", "Deployment", "istio-ingressgateway", []string{"values.global.proxy.clusterDomain=k8s.example"}, at(container, "env", named("DNS_DOMAIN"), "value"), "k8s.example"},
		{"other clusters' domain", "Deployment", "istiod", []string{"values.global.multiCluster.globalDomainSuffix=mesh"}, at(container, "env", named("GLOBAL_DOMAIN_SUFFIX"), "value"), "mesh"},
		{"other clusters' domain in DNS", "Deployment", "istiocoredns", []string{"addonComponents.istiocoredns.enabled=true", "values.global.multiCluster.globalDomainSuffix=mesh"}, at(container, "args", 1), "--zone=mesh"},
		{"other clusters' domain at the gateway", "Gateway", "istio-multicluster-ingressgateway", []string{"values.global.multiCluster.enabled=true", "values.global.multiCluster.globalDomainSuffix=mesh"}, []any{"spec", "servers", 0, "hosts", 0}, "*.mesh"},
		{"other clusters' domain for clients", "DestinationRule", "istio-multicluster-ingressgateway", []string{"values.global.multiCluster.enabled=true", "values.global.multiCluster.globalDomainSuffix=mesh"}, []any{"spec", "host"}, "*.mesh"},
		{"logs as JSON", "Deployment", "istiod", []string{"values.global.logAsJson=true"}, at(container, "env", named("LOG_FORMAT"), "value"), "json"},
		{"older autoscaler", "HorizontalPodAutoscaler", "istiod", []string{"components.pilot.k8s.hpaSpec.metrics[0].type=Resource", "components.pilot.k8s.hpaSpec.metrics[0].resource.name=cpu", "components.pilot.k8s.hpaSpec.metrics[0].resource.targetAverageUtilization=70"},
			[]any{"spec", "metrics", 0, "resource", "target"}, map[string]any{"type": "Utilization", "averageUtilization": int64(70)}},
		{"autoscaler by memory", "HorizontalPodAutoscaler", "istiod", []string{"values.pilot.memory.targetAverageUtilization=60"}, []any{"spec", "metrics", 1, "resource", "target", "averageUtilization"}, int64(60)},
		{"secret volume", "Deployment", "istio-ingressgateway", []string{"values.gateways.istio-ingressgateway.secretVolumes[0].name=c", "values.gateways.istio-ingressgateway.secretVolumes[0].secretName=s", "values.gateways.istio-ingressgateway.secretVolumes[0].mountPath=/etc/certs"},
			at(container, "volumeMounts", 3), map[string]any{"name": "c", "mountPath": "/etc/certs", "readOnly": true}},
		{"environment as it comes", "Deployment", "istiod", []string{"values.pilot.env.GODEBUG=true"}, at(container, "env", named("GODEBUG"), "value"), "true"},
		{"a remote cluster's proxies", "Deployment", "istio-ingressgateway", []string{"values.global.remotePilotAddress=192.0.2.7"}, at(container, "env", named("PROXY_CONFIG"), "value"), `{"discoveryAddress":"istiod-remote.istio-system.svc:15012"}`},
		{"their certificates", "Deployment", "istio-ingressgateway", []string{"values.global.remotePilotAddress=192.0.2.7"}, at(container, "env", named("CA_ADDR"), "value"), "istiod.istio-system.svc:15012"},
		{"from their revision", "Deployment", "istio-ingressgateway", []string{"values.global.remotePilotAddress=192.0.2.7", "revision=canary", "namespace=mesh"}, at(container, "env", named("CA_ADDR"), "value"), "istiod-canary.mesh.svc:15012"},
		{"or from elsewhere", "Deployment", "istio-ingressgateway", []string{"values.global.remotePilotAddress=192.0.2.7", "values.global.caAddress=ca.example:1"}, at(container, "env", named("CA_ADDR"), "value"), "ca.example:1"},
		{"remote by name", "Service", "istiod-remote", []string{"values.global.remotePilotAddress=pilot.example"}, []any{"spec", "externalName"}, "pilot.example"},
		{"remote by address", "EndpointSlice", "istiod-remote", []string{"values.global.remotePilotAddress=192.0.2.7"}, []any{"endpoints", 0, "addresses", 0}, "192.0.2.7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := find(t, rendered(t, tc.sets...), tc.kind, tc.object)
			if diff := cmp.Diff(tc.want, value(o.Object, tc.path...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestEnvironmentHasNoDoubles: the API server takes no two variables of one name;
// what the user sets is the one that counts.
func TestEnvironmentHasNoDoubles(t *testing.T) {
	objs := rendered(t, "values.pilot.env.LOG_LEVEL=debug", "values.pilot.env.CLUSTER_ID=c9",
		"values.gateways.istio-ingressgateway.env.LOG_LEVEL=debug", "values.gateways.istio-ingressgateway.env.CA_ADDR=ca.example:1")
	for object, want := range map[string]map[string]string{
		"istiod":               {"LOG_LEVEL": "debug", "CLUSTER_ID": "c9"},
		"istio-ingressgateway": {"LOG_LEVEL": "debug", "CA_ADDR": "ca.example:1"},
	} {
		env, _ := value(find(t, objs, "Deployment", object).Object, "spec", "template", "spec", "containers", 0, "env").([]any)
		seen := map[any]any{}
		for _, e := range env {
			name := value(e, "name")
			if _, dup := seen[name]; dup {
				t.Errorf("%s: %s is set twice", object, name)
			}
			seen[name] = value(e, "value")
		}
		for name, v := range want {
			if seen[name] != v {
				t.Errorf("%s: %s=%v, want %s", object, name, seen[name], v)
			}
		}
	}
}

// TestMeshConfig: the ConfigMap holds the chart's settings and the user's.
func TestMeshConfig(t *testing.T) {
	cm := find(t, rendered(t, "meshConfig.accessLogFile=/dev/stdout", "meshConfig.defaultConfig.concurrency=1", "values.global.network=n1"), "ConfigMap", "istio")
	mesh, _ := value(cm.Object, "data", "mesh").(string)
	for _, want := range []string{"accessLogFile: /dev/stdout", "concurrency: 1", "discoveryAddress: istiod.istio-system.svc:15012", "trustDomain: cluster.local"} {
		if !strings.Contains(mesh, want) {
			t.Errorf("mesh config lacks %q:\n%s", want, mesh)
		}
	}
}

// TestRemoteInjection: what a remote cluster's istiod injects takes its
// configuration from the other cluster, and its certificates from here.
func TestRemoteInjection(t *testing.T) {
	for _, tc := range []struct {
		sets []string
		want string
	}{
		{nil, "caAddress: istiod.istio-system.svc:15012"},
		{[]string{"revision=canary"}, "caAddress: istiod-canary.istio-system.svc:15012"},
		{[]string{"values.global.caAddress=ca.example:1"}, "caAddress: ca.example:1"},
	} {
		objs := rendered(t, append(tc.sets, "values.global.remotePilotAddress=pilot.example", "profile=remote")...)
		for _, o := range objs {
			if o.GetKind() != "ConfigMap" {
				continue
			}
			if text, ok := value(o.Object, "data", "values").(string); ok && !strings.Contains(text, tc.want) {
				t.Errorf("%q: %s lacks %q:\n%s", tc.sets, o.GetName(), tc.want, text)
			}
			if text, ok := value(o.Object, "data", "mesh").(string); ok && !strings.Contains(text, "discoveryAddress: istiod-remote.istio-system.svc:15012") {
				t.Errorf("%q: %s has another discovery:\n%s", tc.sets, o.GetName(), text)
			}
		}
	}
}

// TestNoEffect: a setting for something that is not there is an error.
func TestNoEffect(t *testing.T) {
	for set, want := range map[string]string{
		"components.base.k8s.replicaCount=2":                     "there is no Deployment istio-base to change",
		"components.base.k8s.service.type=ClusterIP":             "there is no Service istio-base to change",
		"components.pilot.k8s.overlays[0].kind=Secret":           "there is no Secret",
		"addonComponents.istiocoredns.k8s.hpaSpec.maxReplicas=2": "there is no HorizontalPodAutoscaler istiocoredns",
	} {
		_, err := tryRender(t, "addonComponents.istiocoredns.enabled=true", set)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, which does not say %q", set, err, want)
		}
	}
}

func TestMissingCRDs(t *testing.T) {
	c, err := values.Resolve(values.Input{Hub: "h", Tag: "t"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"base/files/crds.gen.yaml", "base/files/mcs-crds.gen.yaml"} {
		files := chartFS(t).(fstest.MapFS)
		delete(files, name)
		if _, err = Render(c, files); err == nil || !strings.Contains(err.Error(), "make build") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// TestMultiClusterServiceCRDs are installed unless they are not wanted.
func TestMultiClusterServiceCRDs(t *testing.T) {
	has := func(sets ...string) bool {
		return slices.ContainsFunc(rendered(t, sets...), func(o Object) bool { return IsShared(o.Unstructured) })
	}
	if !has() || has("values.base.enableMultiClusterServiceCRDs=false") {
		t.Error("the value does not decide")
	}
}

func TestDocuments(t *testing.T) {
	for in, want := range map[string][]string{
		"":                               nil,
		"---\n---\n":                     nil,
		"a: 1":                           {"a: 1"},
		"a: 1\n---\nb: 2\n":              {"a: 1", "b: 2"},
		"---  \na: |\n  ---\n---":        {"a: |\n  ---"},
		"a: 1\n--- # no separator\nb: 2": {"a: 1\n--- # no separator\nb: 2"},
	} {
		var got []string
		for _, d := range documents([]byte(in)) {
			got = append(got, string(d))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}
