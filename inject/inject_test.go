package inject

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const testValues = `
global:
  hub: example.org/mesh
  tag: 1.2
  network: network1
  multiCluster: {clusterName: cluster-1}
  podDNSSearchNamespaces:
  - global
  - "{{ valueOrDefault .DeploymentMeta.Namespace \"default\" }}.example"
  proxy:
    includeIPRanges: "*"
    includeInboundPorts: "*"
    resources:
      requests: {cpu: 10m, memory: 32Mi}
      limits: {memory: 100Mi}
`

func settings(t testing.TB, edit ...func(*Settings)) *Settings {
	t.Helper()
	v, err := ParseValues([]byte(testValues))
	if err != nil {
		t.Fatal(err)
	}
	s := &Settings{Values: v, NativeSidecar: true, Mesh: &meshv1alpha1.MeshConfig{
		TrustDomain: "td.example",
		DefaultConfig: &meshv1alpha1.ProxyConfig{
			TerminationDrainDuration: durationpb.New(7e9),
			ProxyMetadata:            map[string]string{"A": "mesh", "B": "mesh"},
		},
	}}
	for _, e := range edit {
		e(s)
	}
	return s
}

func plain(s *Settings) { s.NativeSidecar = false }

func podOf(t testing.TB, text string) *corev1.Pod {
	t.Helper()
	var p corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// inject patches the pod and returns what the API server would store.
func inject(t testing.TB, pod *corev1.Pod, s *Settings) (*corev1.Pod, []string) {
	t.Helper()
	patch, warnings, err := Patch(pod, "bar", s)
	if err != nil {
		t.Fatalf("Patch: %v", err)
	}
	return apply(t, pod, patch), warnings
}

func apply(t testing.TB, pod *corev1.Pod, patch []byte) *corev1.Pod {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatalf("the patch does not decode: %v\n%s", err, patch)
	}
	raw, err = ops.Apply(raw)
	if err != nil {
		t.Fatalf("the patch does not apply: %v\n%s", err, patch)
	}
	out := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(raw, out); err != nil {
		t.Fatalf("the injected pod does not decode: %v", err)
	}
	return out
}

func names(cs []corev1.Container) []string {
	out := []string{}
	for _, c := range cs {
		out = append(out, c.Name)
	}
	return out
}

func container(t testing.TB, pod *corev1.Pod, name string) corev1.Container {
	t.Helper()
	for _, c := range append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no container %s in %v %v", name, names(pod.Spec.InitContainers), names(pod.Spec.Containers))
	return corev1.Container{}
}

func envOf(c corev1.Container) map[string]string {
	out := map[string]string{}
	for _, e := range c.Env {
		out[e.Name] = e.Value
		if e.ValueFrom != nil {
			out[e.Name] = e.ValueFrom.FieldRef.FieldPath
		}
	}
	return out
}

const httpbin = `
metadata:
  generateName: httpbin-7d4b9c9f8-
  labels: {app: httpbin, version: v1, pod-template-hash: 7d4b9c9f8}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: httpbin-7d4b9c9f8, uid: u, controller: true}]
spec:
  initContainers: [{name: migrate, image: m}]
  containers:
  - name: httpbin
    image: h
    ports: [{name: http, containerPort: 8080}]
  volumes: [{name: data, emptyDir: {}}]
`

func TestNativeSidecar(t *testing.T) {
	got, warnings := inject(t, podOf(t, httpbin), settings(t))
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	if d := cmp.Diff([]string{"istio-init", "istio-proxy", "migrate"}, names(got.Spec.InitContainers)); d != "" {
		t.Errorf("init containers: the application's come after the mesh's: %s", d)
	}
	if d := cmp.Diff([]string{"httpbin"}, names(got.Spec.Containers)); d != "" {
		t.Errorf("containers: %s", d)
	}
	proxy := container(t, got, ProxyContainer)
	if proxy.RestartPolicy == nil || *proxy.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		t.Error("the sidecar is not restartable")
	}
	if h := proxy.Lifecycle; h == nil || h.PreStop == nil || strings.Join(h.PreStop.Exec.Command, " ") != "/isthmus-proxy request POST /drain" {
		t.Errorf("the proxy does not hear when the pod begins to end: %v", h)
	}
	if proxy.Image != "example.org/mesh/proxyv2:1.2" {
		t.Errorf("image %s", proxy.Image)
	}
	want := map[string]string{
		"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "INSTANCE_IP": "status.podIP",
		"SERVICE_ACCOUNT": "spec.serviceAccountName", "HOST_IP": "status.hostIP", "NODE_NAME": "spec.nodeName",
		"TRUST_DOMAIN": "td.example", "DNS_DOMAIN": "cluster.local", "CA_ADDR": "istiod.istio-system.svc:15012",
		"PROXY_CONFIG":        `{"discoveryAddress":"istiod.istio-system.svc:15012","terminationDrainDuration":"7s"}`,
		"PILOT_CERT_PROVIDER": "istiod", "JWT_POLICY": "third-party-jwt",
		"ISTIO_META_CLUSTER_ID": "cluster-1", "ISTIO_META_NETWORK": "network1", "ISTIO_META_MESH_ID": "td.example",
		"ISTIO_META_WORKLOAD_NAME": "httpbin", "ISTIO_META_OWNER": "kubernetes://apis/apps/v1/namespaces/bar/deployments/httpbin",
		"ISTIO_META_INTERCEPTION_MODE": "REDIRECT", "ISTIO_META_APP_CONTAINERS": "httpbin",
		"ISTIO_META_POD_PORTS": `[{"name":"http","containerPort":8080}]`,
		"NATIVE_SIDECAR":       "true", "ISTIO_META_DNS_CAPTURE": "true",
		"LOG_LEVEL": "info", "GOMEMLIMIT": "94371840", "A": "mesh", "B": "mesh",
	}
	if d := cmp.Diff(want, envOf(proxy)); d != "" {
		t.Errorf("environment: %s", d)
	}
	labels := map[string]string{
		"app": "httpbin", "version": "v1", "pod-template-hash": "7d4b9c9f8",
		"security.istio.io/tlsMode": "istio", "istio.io/rev": "default",
		"service.istio.io/canonical-name": "httpbin", "service.istio.io/canonical-revision": "v1",
	}
	if d := cmp.Diff(labels, got.Labels); d != "" {
		t.Errorf("labels: %s", d)
	}
	if d := cmp.Diff([]string{"global", "bar.global", "bar.example"}, got.Spec.DNSConfig.Searches); d != "" {
		t.Errorf("searches: %s", d)
	}
	status := `{"initContainers":["istio-init","istio-proxy"],"containers":null,"volumes":["istiod-ca-cert","istio-podinfo","istio-proxy-state","istio-token"],"imagePullSecrets":null,"revision":"default"}`
	if got.Annotations[StatusAnnotation] != status {
		t.Errorf("status %s", got.Annotations[StatusAnnotation])
	}
	args := []string{"redirect", "--proxy-port", "15001", "--inbound-port", "15006", "--proxy-uid", "1337",
		"--include-outbound-cidrs", "*", "--include-inbound-ports", "*", "--dns"}
	if d := cmp.Diff(args, container(t, got, InitContainer).Args); d != "" {
		t.Errorf("redirect: %s", d)
	}
}

func TestPlainSidecar(t *testing.T) {
	got, _ := inject(t, podOf(t, httpbin), settings(t, plain))
	if d := cmp.Diff([]string{"migrate", "istio-init"}, names(got.Spec.InitContainers)); d != "" {
		t.Errorf("init containers: %s", d)
	}
	if d := cmp.Diff([]string{"httpbin", "istio-proxy"}, names(got.Spec.Containers)); d != "" {
		t.Errorf("containers: %s", d)
	}
	got, _ = inject(t, podOf(t, httpbin), settings(t, plain, func(s *Settings) { s.Values.Global.Proxy.HoldApplicationUntilProxyStarts = true }))
	if d := cmp.Diff([]string{"istio-proxy", "httpbin"}, names(got.Spec.Containers)); d != "" {
		t.Errorf("containers when the application is held: %s", d)
	}
	if l := container(t, got, ProxyContainer).Lifecycle; l == nil || l.PostStart == nil {
		t.Error("the application is not held until the proxy is ready")
	}
}

func TestAnnotations(t *testing.T) {
	pod := podOf(t, httpbin)
	pod.Annotations = map[string]string{
		"sidecar.istio.io/proxyImage":                           "example.org/other:1",
		"sidecar.istio.io/proxyCPU":                             "200m",
		"sidecar.istio.io/proxyMemoryLimit":                     "200Mi",
		"sidecar.istio.io/logLevel":                             "warning,misc:error",
		"traffic.sidecar.istio.io/includeOutboundIPRanges":      "10.1.0.0/8, 192.168.1.1",
		"traffic.sidecar.istio.io/excludeOutboundIPRanges":      "10.1.0.0/16",
		"traffic.sidecar.istio.io/includeInboundPorts":          "",
		"traffic.sidecar.istio.io/excludeInboundPorts":          "22",
		"traffic.sidecar.istio.io/excludeOutboundPorts":         "3306, 5432",
		"readiness.status.sidecar.istio.io/periodSeconds":       "4",
		"readiness.status.sidecar.istio.io/failureThreshold":    "9",
		"readiness.status.sidecar.istio.io/initialDelaySeconds": "1",
		"proxy.istio.io/config":                                 "concurrency: 3\nproxyMetadata: {ISTIO_META_TEAM: pod}\ntracing: {sampling: 1}",
		"sidecar.istio.io/statsInclusionPrefixes":               "x",
		"prometheus.io/port":                                    "9999",
	}
	got, warnings := inject(t, pod, settings(t))
	proxy := container(t, got, ProxyContainer)
	if proxy.Image != "example.org/other:1" {
		t.Errorf("image %s", proxy.Image)
	}
	if r := proxy.Resources; r.Requests.Cpu().String() != "200m" || r.Limits.Memory().String() != "200Mi" || len(r.Requests) != 1 || len(r.Limits) != 1 {
		t.Errorf("resources %v", r)
	}
	if p := proxy.ReadinessProbe; p.PeriodSeconds != 4 || p.FailureThreshold != 9 || p.InitialDelaySeconds != 1 {
		t.Errorf("readiness probe %v", p)
	}
	env := envOf(proxy)
	if env["A"] != "mesh" || env["B"] != "mesh" || env["ISTIO_META_TEAM"] != "pod" || env["LOG_LEVEL"] != "warn" {
		t.Errorf("environment %v", env)
	}
	if want := `{"discoveryAddress":"istiod.istio-system.svc:15012","terminationDrainDuration":"7s","concurrency":3}`; env["PROXY_CONFIG"] != want {
		t.Errorf("PROXY_CONFIG %s", env["PROXY_CONFIG"])
	}
	wantArgs := []string{"--include-outbound-cidrs", "10.0.0.0/8,192.168.1.1/32", "--exclude-outbound-cidrs", "10.1.0.0/16",
		"--include-inbound-ports", "", "--exclude-inbound-ports", "22", "--exclude-outbound-ports", "3306,5432", "--dns"}
	if d := cmp.Diff(wantArgs, container(t, got, InitContainer).Args[7:]); d != "" {
		t.Errorf("redirect: %s", d)
	}
	wantWarnings := []string{
		"annotation sidecar.istio.io/statsInclusionPrefixes has no effect",
		"annotation proxy.istio.io/config: tracing has no effect",
	}
	if d := cmp.Diff(wantWarnings, warnings); d != "" {
		t.Errorf("warnings: %s", d)
	}
	if got.Annotations["prometheus.io/port"] != "9999" || got.Annotations["prometheus.io/scrape"] != "" {
		t.Errorf("the pod's own scraping was changed: %v", got.Annotations)
	}
}

func TestRefusedPods(t *testing.T) {
	annotated := func(name, value string) string {
		return "metadata: {annotations: {" + name + ": '" + value + "'}}\nspec: {containers: [{name: a}]}"
	}
	for name, c := range map[string]struct{ pod, want string }{
		"cpu":      {annotated("sidecar.istio.io/proxyCPU", "lots"), "sidecar.istio.io/proxyCPU"},
		"negative": {annotated("sidecar.istio.io/proxyMemory", "-1"), "sidecar.istio.io/proxyMemory"},
		"request": {
			pod:  "metadata: {annotations: {sidecar.istio.io/proxyCPU: '2', sidecar.istio.io/proxyCPULimit: '1'}}\nspec: {containers: [{name: a}]}",
			want: "more than the limit",
		},
		"image": {annotated("sidecar.istio.io/proxyImage", "a b"), "sidecar.istio.io/proxyImage"},
		"cidr": {
			pod:  annotated("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/33"),
			want: "traffic.sidecar.istio.io/excludeOutboundIPRanges",
		},
		"wildcard": {
			pod:  annotated("traffic.sidecar.istio.io/excludeOutboundIPRanges", "*"),
			want: `"*" is not an IP range`,
		},
		"port": {
			pod:  annotated("traffic.sidecar.istio.io/excludeInboundPorts", "80,http"),
			want: `"http" is not a port`,
		},
		"port zero": {annotated("traffic.sidecar.istio.io/excludeInboundPorts", "0"), `"0" is not a port`},
		"mode": {
			pod:  annotated("sidecar.istio.io/interceptionMode", "TPROXY"),
			want: "sidecar.istio.io/interceptionMode",
		},
		"unknown path": {
			pod:  annotated("traffic.sidecar.istio.io/kubevirtInterfaces", "net1"),
			want: "traffic.sidecar.istio.io/kubevirtInterfaces",
		},
		"config":      {annotated("proxy.istio.io/config", "concurency: 1"), "concurency"},
		"config yaml": {annotated("proxy.istio.io/config", ":::"), "proxy.istio.io/config"},
		"config mode": {annotated("proxy.istio.io/config", "interceptionMode: NONE"), "interceptionMode"},
		"env":         {annotated("proxy.istio.io/config", "proxyMetadata: {\"A B\": x}"), `"A B"`},
		"discovery":   {annotated("sidecar.istio.io/discoveryAddress", "istiod"), "HOST:PORT"},
		"level":       {annotated("sidecar.istio.io/logLevel", "loud"), "sidecar.istio.io/logLevel"},
		"uid": {
			pod:  "spec: {containers: [{name: a, securityContext: {runAsUser: 1337}}]}",
			want: "container a runs as user 1337",
		},
		"pod uid": {
			pod:  "spec: {securityContext: {runAsUser: 1337}, containers: [{name: a}]}",
			want: "container a runs as user 1337",
		},
		"volume": {
			pod:  "spec: {volumes: [{name: istio-token}], containers: [{name: a}]}",
			want: "volume istio-token",
		},
		"empty": {"spec: {containers: []}", "spec.containers"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Patch(podOf(t, c.pod), "bar", settings(t))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	_, _, err := Patch(podOf(t, annotated("sidecar.istio.io/nativeSidecar", "true")), "bar", settings(t, plain))
	if err == nil || !strings.Contains(err.Error(), "1.29") {
		t.Errorf("a native sidecar on an old cluster: %v", err)
	}
}

func TestProbes(t *testing.T) {
	got, _ := inject(t, podOf(t, `
metadata: {name: p}
spec:
  initContainers:
  - {name: helper, restartPolicy: Always, startupProbe: {tcpSocket: {port: 7}}}
  containers:
  - name: a
    ports: [{name: web, containerPort: 8080}]
    livenessProbe: {httpGet: {path: /live, port: web, scheme: HTTPS}, timeoutSeconds: 2, periodSeconds: 5}
    readinessProbe: {tcpSocket: {port: 9000}}
    startupProbe: {grpc: {port: 9001, service: s}}
  - name: b
    livenessProbe: {exec: {command: [x]}}
    readinessProbe: {httpGet: {port: nowhere}}
    startupProbe: {httpGet: {port: 80, host: 10.1.1.1}}
`), settings(t))
	want := `{"/app-health/a/livez":{"httpGet":{"path":"/live","port":8080,"scheme":"HTTPS"},"timeoutSeconds":2},` +
		`"/app-health/a/readyz":{"tcpSocket":{"port":9000}},` +
		`"/app-health/a/startupz":{"grpc":{"port":9001,"service":"s"}},` +
		`"/app-health/helper/startupz":{"tcpSocket":{"port":7}}}`
	if env := envOf(container(t, got, ProxyContainer)); env["ISTIO_KUBE_APP_PROBERS"] != want {
		t.Errorf("probers\n%s\nwant\n%s", env["ISTIO_KUBE_APP_PROBERS"], want)
	}
	a, b := container(t, got, "a"), container(t, got, "b")
	for verb, p := range map[string]*corev1.Probe{"livez": a.LivenessProbe, "readyz": a.ReadinessProbe, "startupz": a.StartupProbe} {
		if p.HTTPGet == nil || p.TCPSocket != nil || p.GRPC != nil || p.HTTPGet.Path != "/app-health/a/"+verb || p.HTTPGet.Port.IntVal != 15020 || p.HTTPGet.Scheme != "HTTP" {
			t.Errorf("%s: %v", verb, p)
		}
	}
	if a.LivenessProbe.PeriodSeconds != 5 {
		t.Error("the probe's timing was lost")
	}
	if b.LivenessProbe.Exec == nil || b.ReadinessProbe.HTTPGet.Port.StrVal != "nowhere" || b.StartupProbe.HTTPGet.Host != "10.1.1.1" {
		t.Errorf("probes that are not for the proxy were changed: %v", b)
	}
}

// TestDomains: the cluster's DNS domain, and that of other clusters' services.
func TestDomains(t *testing.T) {
	v, err := ParseValues([]byte("global: {hub: h, tag: t, logAsJson: true, podDNSSearchNamespaces: [mesh], multiCluster: {globalDomainSuffix: mesh}, " +
		"proxy: {clusterDomain: k8s.example, readinessPeriodSeconds: 2, readinessFailureThreshold: 30, readinessInitialDelaySeconds: 1}}"))
	if err != nil {
		t.Fatal(err)
	}
	pod := podOf(t, httpbin)
	got, _ := inject(t, pod, &Settings{Values: v})
	if d := cmp.Diff([]string{"mesh", "bar.mesh"}, got.Spec.DNSConfig.Searches); d != "" {
		t.Error(d)
	}
	proxy := container(t, got, ProxyContainer)
	if env := envOf(proxy); env["DNS_DOMAIN"] != "k8s.example" || env["LOG_FORMAT"] != "json" {
		t.Errorf("environment %v", env)
	}
	if p := proxy.ReadinessProbe; p.PeriodSeconds != 2 || p.FailureThreshold != 30 || p.InitialDelaySeconds != 1 {
		t.Errorf("readiness %v", p)
	}
	pod.Annotations = map[string]string{"readiness.status.sidecar.istio.io/periodSeconds": "4"}
	got, _ = inject(t, pod, &Settings{Values: v})
	if p := container(t, got, ProxyContainer).ReadinessProbe; p.PeriodSeconds != 4 {
		t.Errorf("the pod's own word counts for more: %v", p)
	}
}

func TestFirstPartyTokens(t *testing.T) {
	got, _ := inject(t, podOf(t, httpbin), settings(t, func(s *Settings) { s.Values.Global.JWTPolicy = "first-party-jwt" }))
	for _, v := range got.Spec.Volumes {
		if v.Name == tokenVolume {
			t.Error("a projected token where the cluster has none")
		}
	}
	if env := envOf(container(t, got, ProxyContainer)); env["JWT_POLICY"] != "first-party-jwt" {
		t.Errorf("JWT_POLICY %s", env["JWT_POLICY"])
	}
}

func TestWorkloadNames(t *testing.T) {
	for name, c := range map[string]struct{ meta, name, owner string }{
		"pod":      {"{name: p}", "p", "kubernetes://apis/v1/namespaces/ns/pods/p"},
		"generate": {"{generateName: p-}", "p", "kubernetes://apis/v1/namespaces/ns/pods/p"},
		"replicas": {
			meta:  "{ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: r-1, controller: true}]}",
			name:  "r-1",
			owner: "kubernetes://apis/apps/v1/namespaces/ns/replicasets/r-1",
		},
		"cron": {
			meta:  "{ownerReferences: [{apiVersion: batch/v1, kind: Job, name: nightly-28392011, controller: true}]}",
			name:  "nightly",
			owner: "kubernetes://apis/batch/v1/namespaces/ns/cronjobs/nightly",
		},
		"job": {
			meta:  "{ownerReferences: [{apiVersion: batch/v1, kind: Job, name: load-1, controller: true}]}",
			name:  "load-1",
			owner: "kubernetes://apis/batch/v1/namespaces/ns/jobs/load-1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := workloadOf(podOf(t, "metadata: "+c.meta), "ns")
			if w.name != c.name || w.owner != c.owner {
				t.Errorf("%v, want %s %s", w, c.name, c.owner)
			}
		})
	}
	if v := labelValue(strings.Repeat("a", 62) + "-bcd"); v != strings.Repeat("a", 62) {
		t.Errorf("label value %q", v)
	}
}

func TestParseValues(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no image": {"global: {hub: h}", "global.tag"},
		"type":     {"global: {hub: h, tag: t, podDNSSearchNamespaces: global}", "podDNSSearchNamespaces"},
		"jwt":      {"global: {hub: h, tag: t, jwtPolicy: none}", "jwtPolicy"},
		"pull":     {"global: {hub: h, tag: t, imagePullPolicy: Often}", "imagePullPolicy"},
		"search": {
			text: "global: {hub: h, tag: t, podDNSSearchNamespaces: ['{{ .X }}']}",
			want: "podDNSSearchNamespaces[0]",
		},
		"range": {
			text: "global: {hub: h, tag: t, proxy: {includeIPRanges: 10.0.0.0/40}}",
			want: "global.proxy.includeIPRanges",
		},
		"yaml": {"global: [", "injection values"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseValues([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestHooks: HTTP hooks reach the application through the proxy, other kinds
// stay, and so does what the kubelet asks before the proxy runs.
func TestHooks(t *testing.T) {
	const pod = `
metadata: {name: p}
spec:
  initContainers:
  - name: helper
    restartPolicy: Always
    startupProbe: {tcpSocket: {port: 7}}
    lifecycle: {preStop: {httpGet: {path: /bye, port: 7}}}
  containers:
  - name: a
    ports: [{name: web, containerPort: 8080}]
    lifecycle:
      postStart: {httpGet: {path: /hello, port: web, httpHeaders: [{name: X-Hook, value: "1"}]}}
      preStop: {httpGet: {path: /bye, port: 8443, scheme: HTTPS}}
  - name: b
    lifecycle:
      postStart: {exec: {command: [x]}}
      preStop: {sleep: {seconds: 3}}
  - name: c
    lifecycle:
      preStop: {httpGet: {path: /, port: 80, host: 10.1.1.1}}
`
	const (
		start  = `"/app-lifecycle/a/poststartz":{"httpGet":{"path":"/hello","port":8080,"httpHeaders":[{"name":"X-Hook","value":"1"}]}}`
		stop   = `"/app-lifecycle/a/prestopz":{"httpGet":{"path":"/bye","port":8443,"scheme":"HTTPS"}}`
		helper = `"/app-health/helper/startupz":{"tcpSocket":{"port":7}},`
		bye    = `,"/app-lifecycle/helper/prestopz":{"httpGet":{"path":"/bye","port":7}}`
	)
	for _, tt := range []struct {
		what     string
		edit     func(*Settings)
		want     string
		warnings int
	}{
		{"native", func(*Settings) {}, "{" + helper + start + "," + stop + bye + "}", 0},
		{"plain", plain, "{" + stop + "}", 2},
		{
			"plain, the application waits for the proxy",
			func(s *Settings) { plain(s); s.Values.Global.Proxy.HoldApplicationUntilProxyStarts = true },
			"{" + start + "," + stop + "}", 1,
		},
	} {
		got, warnings := inject(t, podOf(t, pod), settings(t, tt.edit))
		if len(warnings) != tt.warnings {
			t.Errorf("%s: warnings %q, want %d", tt.what, warnings, tt.warnings)
		}
		if env := envOf(container(t, got, ProxyContainer)); env["ISTIO_KUBE_APP_PROBERS"] != tt.want {
			t.Errorf("%s: probers\n%s\nwant\n%s", tt.what, env["ISTIO_KUBE_APP_PROBERS"], tt.want)
		}
		a, b, c := container(t, got, "a"), container(t, got, "b"), container(t, got, "c")
		if h := a.Lifecycle.PreStop.HTTPGet; h.Path != "/app-lifecycle/a/prestopz" || h.Port.IntVal != 15020 || h.Scheme != "HTTP" {
			t.Errorf("%s: preStop %v", tt.what, h)
		}
		if h := a.Lifecycle.PostStart.HTTPGet; strings.Contains(tt.want, start) != (h.Path == "/app-lifecycle/a/poststartz" && len(h.HTTPHeaders) == 0) {
			t.Errorf("%s: postStart %v", tt.what, h)
		}
		if b.Lifecycle.PostStart.Exec == nil || b.Lifecycle.PreStop.Sleep == nil || c.Lifecycle.PreStop.HTTPGet.Host != "10.1.1.1" {
			t.Errorf("%s: hooks that are not for the proxy were changed: %v %v", tt.what, b.Lifecycle, c.Lifecycle)
		}
	}
}

// TestMergedMetrics: scrapers are led to the proxy, which is told where the
// application's own metrics are; who asks not to be merged is left alone.
func TestMergedMetrics(t *testing.T) {
	const plainText = `{"scrape":"true","path":"/metrics","port":"8080"}`
	off := func(s *Settings) { s.Mesh.EnablePrometheusMerge = wrapperspb.Bool(false) }
	for _, tt := range []struct {
		what        string
		annotations string
		edit        func(*Settings)
		app         string
		port, path  string // of the annotations afterwards
	}{
		{"nothing is said", ``, nil, ``, "15020", "/stats/prometheus"},
		{"scrape alone", `prometheus.io/scrape: "true"`, nil, plainText, "15020", "/stats/prometheus"},
		{
			"all is said", `prometheus.io/scrape: "true", prometheus.io/port: "9102", prometheus.io/path: /m, prometheus.io/scheme: https`,
			nil, `{"scrape":"true","path":"/m","port":"9102","scheme":"https"}`, "15020", "/stats/prometheus",
		},
		{
			what:        "not to be scraped",
			annotations: `prometheus.io/scrape: "false", prometheus.io/port: "9102"`,
			app:         ``,
			port:        "9102",
		},
		{"half a wish", `prometheus.io/port: "9102"`, nil, ``, "9102", ""},
		{
			what:        "the pod's own word",
			annotations: `prometheus.io/scrape: "true", prometheus.io/port: "9102", prometheus.istio.io/merge-metrics: "false"`,
			app:         ``,
			port:        "9102",
		},
		{"the mesh's word", `prometheus.io/scrape: "true", prometheus.io/port: "9102"`, off, ``, "9102", ""},
		{
			what:        "the pod's word is the stronger",
			annotations: `prometheus.io/scrape: "true", prometheus.istio.io/merge-metrics: "true"`,
			edit:        off,
			app:         plainText,
			port:        "15020",
			path:        "/stats/prometheus",
		},
		{
			what:        "the proxy's metrics are asked for",
			annotations: `prometheus.io/scrape: "true", prometheus.io/port: "15020"`,
			app:         ``,
			port:        "15020",
		},
	} {
		edit := tt.edit
		if edit == nil {
			edit = func(*Settings) {}
		}
		got, warnings := inject(t, podOf(t, "metadata: {name: p, annotations: {"+tt.annotations+"}}\n"+
			"spec: {containers: [{name: a, ports: [{containerPort: 53, protocol: UDP}, {containerPort: 8080}]}]}"), settings(t, edit))
		if len(warnings) > 0 {
			t.Errorf("%s: warnings %q", tt.what, warnings)
		}
		if app := envOf(container(t, got, ProxyContainer))["ISTIO_PROMETHEUS_ANNOTATIONS"]; app != tt.app {
			t.Errorf("%s: the application's are at %s, want %s", tt.what, app, tt.app)
		}
		a := got.Annotations
		if a["prometheus.io/port"] != tt.port || a["prometheus.io/path"] != tt.path || tt.app != "" && a["prometheus.io/scheme"] == "https" {
			t.Errorf("%s: annotations %v", tt.what, a)
		}
	}
	bad := podOf(t, `{metadata: {name: p, annotations: {prometheus.io/scrape: "true", prometheus.io/port: web}}, spec: {containers: [{name: a}]}}`)
	if _, _, err := Patch(bad, "bar", settings(t)); err == nil || !strings.Contains(err.Error(), "prometheus.io/port") {
		t.Errorf("a port that is none: %v", err)
	}
}
