package stub

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/dns/corefile"
)

func podOf(t *testing.T, text string) corev1.Pod {
	t.Helper()
	var p corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestImageVersion(t *testing.T) {
	for image, want := range map[string]corefile.Version{
		"registry.k8s.io/coredns/coredns:v1.12.1":                                  {Major: 1, Minor: 12},
		"registry:5000/coredns:1.3.1":                                              {Major: 1, Minor: 3},
		"602401143452.dkr.ecr.example/eks/coredns:v1.8.7-eksbuild.2@sha256:abcdef": {Major: 1, Minor: 8},
	} {
		if v, ok := imageVersion(image); !ok || v != want {
			t.Errorf("%s: %v %v", image, v, ok)
		}
	}
	for _, image := range []string{"coredns", "registry:5000/coredns", "coredns:latest", "coredns@sha256:0123"} {
		if v, ok := imageVersion(image); ok {
			t.Errorf("%s: read as %v", image, v)
		}
	}
}

func TestPodReading(t *testing.T) {
	p := podOf(t, `
spec:
  containers:
  - name: sidecar
    image: other
  - name: dns
    image: example/coredns:1.15.0
    readinessProbe: {httpGet: {path: /ready, port: 8181}}
    ports: [{name: dns, containerPort: 5353, protocol: UDP}, {name: dns-tcp, containerPort: 5353}]
  volumes:
  - {name: other, configMap: {name: other, items: [{key: x, path: x}]}}
  - {name: config, configMap: {name: custom, items: [{key: Corefile, path: Corefile}]}}
status:
  conditions: [{type: Ready, status: "True"}]
  containerStatuses: [{name: dns, state: {waiting: {reason: CrashLoopBackOff}}}]
`)
	if c := coreDNS(&p); c == nil || c.Name != "dns" {
		t.Errorf("CoreDNS is container %v", c)
	}
	if n := mounted(&p); n != "custom" {
		t.Errorf("its Corefile is in %q", n)
	}
	if port := dnsPort(&p); port != 5353 {
		t.Errorf("it serves TCP on %d", port)
	}
	if !ready(&p) || !probesReady([]corev1.Pod{p}) || !anyCrashing([]corev1.Pod{p}) {
		t.Error("its state was misread")
	}
	other := podOf(t, "spec: {containers: [{name: kubedns, image: k8s-dns-kube-dns}]}")
	if coreDNS(&other) != nil {
		t.Error("kube-dns was taken for CoreDNS")
	}
}

func TestOptions(t *testing.T) {
	o := Options{Zone: "Mesh.Example."}
	if err := o.complete(); err != nil || o.Zone != "mesh.example" || o.Service != "istiocoredns" || o.Namespace != "istio-system" || o.Timeout == 0 {
		t.Errorf("%+v %v", o, err)
	}
	for _, zone := range []string{".", "a b", "a{", "a:53", "a,b"} {
		o := Options{Zone: zone}
		if err := o.complete(); err == nil {
			t.Errorf("zone %q was accepted", zone)
		}
	}
}

// TestNotOurs checks what is said about clusters where nothing can be done; no
// lookup is made, so that a fake API will do.
func TestNotOurs(t *testing.T) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiocoredns"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.7.7"}}
	for name, c := range map[string]struct {
		objects []runtime.Object
		want    string
	}{
		"no service": {nil, "addonComponents.istiocoredns.enabled=true"},
		"no address": {
			objects: []runtime.Object{&corev1.Service{ObjectMeta: service.ObjectMeta, Spec: corev1.ServiceSpec{ClusterIP: "None"}}},
			want:    "has no cluster IP",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cl := &cluster{kube: fake.NewClientset(c.objects...)}
			if err := cl.o.complete(); err != nil {
				t.Fatal(err)
			}
			if _, err := cl.upstreams(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: dnsNamespace, Name: "kube-dns"}}
	deployment.Spec.Template.Spec.Containers = []corev1.Container{{
		Name:  "kubedns",
		Image: "example/k8s-dns-kube-dns:1.22",
	}}
	for want, objects := range map[string][]runtime.Object{
		"stubDomains":                 {deployment},
		"no ConfigMap coredns":        nil,
		"coredns has no key Corefile": {&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: dnsNamespace, Name: "coredns"}}},
	} {
		cl := &cluster{kube: fake.NewClientset(objects...), o: Options{Zone: "global"}}
		if _, err := cl.configMap(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
