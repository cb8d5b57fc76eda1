package inject

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/isthmus-mesh/isthmus/api"
)

// overlaid is the pod httpbin with a container istio-proxy of its own in front.
func overlaid(t testing.TB, fields string) *corev1.Pod {
	t.Helper()
	pod := podOf(t, httpbin)
	own := podOf(t, "spec: {containers: [{name: istio-proxy, image: auto, "+fields+"}]}").Spec.Containers[0]
	pod.Spec.Containers = append([]corev1.Container{own}, pod.Spec.Containers...)
	return pod
}

const overlay = `
  imagePullPolicy: Always,
  terminationMessagePath: /dev/termination-log,
  resources: {requests: {cpu: 15m}, limits: {memory: 200Mi}},
  env: [{name: ISTIO_META_TEAM, value: a}],
  ports: [{name: extra, containerPort: 15099, protocol: TCP}],
  volumeMounts: [{name: data, mountPath: /etc/certs}],
  readinessProbe: {periodSeconds: 4},
  startupProbe: {tcpSocket: {port: 15021}},
  securityContext: {runAsUser: 1337, seccompProfile: {type: RuntimeDefault}}`

func TestOverlay(t *testing.T) {
	for name, edit := range map[string]func(*Settings){"native": func(*Settings) {}, "plain": plain} {
		t.Run(name, func(t *testing.T) {
			pod := overlaid(t, overlay)
			pod.Spec.Containers[1].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}}
			got, warnings := inject(t, pod, settings(t, edit))
			if len(warnings) > 0 {
				t.Errorf("warnings %q", warnings)
			}
			where := got.Spec.Containers
			if name == "native" {
				where = got.Spec.InitContainers
			}
			if all := append(names(got.Spec.InitContainers), names(got.Spec.Containers)...); strings.Count(strings.Join(all, " "), ProxyContainer) != 1 || !strings.Contains(strings.Join(names(where), " "), ProxyContainer) {
				t.Fatalf("containers %v", all)
			}
			checkOverlaid(t, container(t, got, ProxyContainer))

			app := container(t, got, "httpbin")
			if app.LivenessProbe.HTTPGet == nil || app.LivenessProbe.TCPSocket != nil {
				t.Errorf("the application's probe was not redirected: %v", app.LivenessProbe)
			}
			if env := envOf(container(t, got, ProxyContainer)); env["ISTIO_META_APP_CONTAINERS"] != "httpbin" || env["GOMEMLIMIT"] != "188743680" {
				t.Errorf("environment %v", env)
			}
			if got.Annotations["kubectl.kubernetes.io/default-container"] != "httpbin" {
				t.Errorf("annotations %v", got.Annotations)
			}
			if r := container(t, got, InitContainer).Resources; r.Limits.Memory().String() != "200Mi" {
				t.Errorf("the init container's resources: %v", r)
			}
		})
	}
}

func checkOverlaid(t *testing.T, c corev1.Container) {
	t.Helper()
	if c.Image != "example.org/mesh/proxyv2:1.2" || c.ImagePullPolicy != corev1.PullIfNotPresent || c.Args[0] != "sidecar" {
		t.Errorf("image %s %s, arguments %v", c.Image, c.ImagePullPolicy, c.Args)
	}
	r := c.Resources
	if r.Requests.Cpu().String() != "15m" || r.Requests.Memory().String() != "32Mi" || r.Limits.Memory().String() != "200Mi" {
		t.Errorf("resources %v", r)
	}
	if env := envOf(c); env["ISTIO_META_TEAM"] != "a" || env["POD_NAME"] != "metadata.name" {
		t.Errorf("environment %v", env)
	}
	if len(c.Ports) != 2 || len(c.VolumeMounts) != 5 {
		t.Errorf("ports %v, mounts %v", c.Ports, c.VolumeMounts)
	}
	if p := c.ReadinessProbe; p.PeriodSeconds != 4 || p.HTTPGet == nil || p.HTTPGet.Path != "/healthz/ready" {
		t.Errorf("readiness %v", p)
	}
	if p := c.StartupProbe; p.TCPSocket == nil || p.HTTPGet != nil {
		t.Errorf("a probe that asks otherwise replaces the injected one: %v", p)
	}
	sc := c.SecurityContext
	if *sc.RunAsUser != 1337 || !*sc.ReadOnlyRootFilesystem || sc.SeccompProfile == nil {
		t.Errorf("security context %v", sc)
	}
}

// TestOverlayInitContainer: where sidecars are init containers, so may be the
// pod's own.
func TestOverlayInitContainer(t *testing.T) {
	pod := podOf(t, `
metadata: {name: p}
spec:
  initContainers: [{name: istio-proxy, image: auto, restartPolicy: Always, resources: {limits: {cpu: 1}}}]
  containers: [{name: a}]`)
	got, _ := inject(t, pod, settings(t))
	if d := cmp.Diff([]string{"istio-init", "istio-proxy"}, names(got.Spec.InitContainers)); d != "" {
		t.Error(d)
	}
	if r := container(t, got, ProxyContainer).Resources; r.Limits.Cpu().String() != "1" || r.Limits.Memory().String() != "100Mi" {
		t.Errorf("resources %v", r)
	}
}

func TestOverlayRefused(t *testing.T) {
	hold := func(s *Settings) { plain(s); s.Values.Global.Proxy.HoldApplicationUntilProxyStarts = true }
	for name, c := range map[string]struct{ fields, want string }{
		"command":    {"command: [sh]", "container istio-proxy: command: it is the mesh's"},
		"args":       {"args: [router]", "container istio-proxy: args"},
		"envFrom":    {"envFrom: [{configMapRef: {name: x}}]", "container istio-proxy: envFrom"},
		"root":       {"securityContext: {runAsUser: 0}", "securityContext.runAsUser"},
		"privileged": {"securityContext: {privileged: true}", "securityContext.privileged"},
		"caps":       {"securityContext: {capabilities: {add: [NET_ADMIN]}}", "securityContext.capabilities"},
		"binary": {
			fields: "volumeMounts: [{name: data, mountPath: /isthmus-proxy}]",
			want:   "would hide /isthmus-proxy",
		},
		"root mount": {"volumeMounts: [{name: data, mountPath: /}]", "would hide"},
		"bundle": {
			fields: "volumeMounts: [{name: data, mountPath: /var/run/secrets/istio/}]",
			want:   "would hide /var/run/secrets/istio",
		},
		"parent":     {"volumeMounts: [{name: data, mountPath: /etc/istio}]", "would hide /etc/istio/pod"},
		"post start": {"lifecycle: {postStart: {exec: {command: [x]}}}", "lifecycle.postStart"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Patch(overlaid(t, c.fields), "bar", settings(t, hold))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	own := overlaid(t, "lifecycle: {preStop: {exec: {command: [x]}}}")
	if _, _, err := Patch(own, "bar", settings(t)); err == nil || !strings.Contains(err.Error(), "lifecycle.preStop") {
		t.Errorf("a hook that the proxy needs itself: %v", err)
	}
	if got, _ := inject(t, own, settings(t, plain)); container(t, got, ProxyContainer).Lifecycle.PreStop.Exec.Command[0] != "x" {
		t.Error("a hook that nobody else needs is not the pod's own")
	}
	alone := podOf(t, "spec: {containers: [{name: istio-proxy, image: auto}]}")
	if _, _, err := Patch(alone, "bar", settings(t)); err == nil || !strings.Contains(err.Error(), "inject.istio.io/templates: gateway") {
		t.Errorf("a pod of nothing but a proxy: %v", err)
	}
}

const gatewayPod = `
metadata:
  generateName: edge-7d4b9c9f8-
  labels: {app: edge, istio: edge}
  annotations: {inject.istio.io/templates: gateway}
spec:
  securityContext: {runAsUser: 1337, runAsGroup: 1337}
  containers:
  - {name: istio-proxy, image: auto, ports: [{containerPort: 80}], resources: {requests: {cpu: 30m}}}
`

func TestInjectedGateway(t *testing.T) {
	got, warnings := inject(t, podOf(t, gatewayPod), settings(t))
	if len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	if len(got.Spec.InitContainers) > 0 || len(got.Spec.Containers) != 1 {
		t.Fatalf("containers %v %v", names(got.Spec.InitContainers), names(got.Spec.Containers))
	}
	c := got.Spec.Containers[0]
	if d := cmp.Diff([]string{"router"}, c.Args); d != "" || c.RestartPolicy != nil || c.Lifecycle != nil {
		t.Errorf("%s, %v %v", d, c.RestartPolicy, c.Lifecycle)
	}
	env := envOf(c)
	if env["ISTIO_META_WORKLOAD_NAME"] != "edge-7d4b9c9f8" || env["ISTIO_META_CLUSTER_ID"] != "cluster-1" || env["ISTIO_META_INTERCEPTION_MODE"] != "" {
		t.Errorf("environment %v", env)
	}
	if _, marked := got.Labels["security.istio.io/tlsMode"]; marked {
		t.Error("a gateway is not a workload that takes mutual TLS of whoever calls it")
	}
	if s := got.Spec.SecurityContext.Sysctls; len(s) != 1 || s[0].Name != unprivilegedPorts || s[0].Value != "0" {
		t.Errorf("sysctls %v: port 80 is for root alone", s)
	}
	if got.Spec.DNSConfig != nil {
		t.Errorf("DNS %v", got.Spec.DNSConfig)
	}
	if d := got.Annotations["kubectl.kubernetes.io/default-container"]; d != ProxyContainer {
		t.Errorf("default container %s", d)
	}

	host := podOf(t, gatewayPod)
	host.Spec.HostNetwork = true
	if d, err := Decide(host, "bar", map[string]string{api.LabelInjection: "enabled"}, settings(t)); err != nil || !d.Inject {
		t.Errorf("a gateway in the host's network redirects nothing: %+v %v", d, err)
	}
}

// TestForeignProxy: a pod with a proxy of its own, image and all, is left alone
// and told so.
func TestForeignProxy(t *testing.T) {
	enabled := map[string]string{api.LabelInjection: "enabled"}
	d, err := Decide(podOf(t, "spec: {containers: [{name: a}, {name: istio-proxy, image: envoy}]}"), "bar", enabled, settings(t))
	if err != nil || d.Inject || !d.Impossible || !strings.Contains(d.Reason, `"auto"`) {
		t.Errorf("%+v %v", d, err)
	}
	d, err = Decide(podOf(t, "spec: {containers: [{name: a}, {name: istio-proxy, image: auto}]}"), "bar", enabled, settings(t))
	if err != nil || !d.Inject {
		t.Errorf("%+v %v", d, err)
	}
}
