package inject

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// operation is one step of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

func addOp(path string, value any) operation {
	return operation{Op: "add", Path: path, Value: value}
}

func removeOp(path string) operation { return operation{Op: "remove", Path: path} }

// pointer escapes a map key for use in a JSON pointer (RFC 6901).
func pointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// Patch computes the JSON patch that adds the proxy to the pod. It touches
// only what it adds and the probes it redirects, so that fields which this
// program does not know survive. The patch applies to a pod that has a
// metadata and a spec with containers.
//
// Warnings tell of annotations that have no effect. An error means that the
// pod must not run as it is: it names the annotation or field at fault.
func Patch(pod *corev1.Pod, namespace string, s *Settings) (patch []byte, warnings []string, err error) {
	o, err := readAnnotations(pod.Annotations)
	if err != nil {
		return nil, nil, err
	}
	if err := checkPod(pod); err != nil {
		return nil, nil, err
	}
	b := &builder{pod: pod, namespace: namespace, settings: s, options: o, workload: workloadOf(pod, namespace)}
	if err := b.prepare(); err != nil {
		return nil, nil, err
	}
	ops := b.probeOps
	ops = append(ops, b.containerOps()...)
	ops = append(ops, b.volumeOps()...)
	dns, err := dnsConfigOps(pod, s.Values, namespace)
	if err != nil {
		return nil, nil, err
	}
	ops = append(ops, dns...)
	meta, err := b.metadataOps()
	if err != nil {
		return nil, nil, err
	}
	patch, err = json.Marshal(append(ops, meta...))
	if err != nil {
		return nil, nil, fmt.Errorf("encode the patch: %w", err)
	}
	return patch, b.warnings, nil
}

// checkPod refuses pods that would slip past the proxy or collide with it.
func checkPod(pod *corev1.Pod) error {
	if len(pod.Spec.Containers) == 0 {
		return fmt.Errorf("spec.containers: the pod has none")
	}
	uid := int64(-1)
	if sc := pod.Spec.SecurityContext; sc != nil && sc.RunAsUser != nil {
		uid = *sc.RunAsUser
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		own := uid
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			own = *c.SecurityContext.RunAsUser
		}
		if own == proxyUID {
			return fmt.Errorf("container %s runs as user %d, which is the proxy's: its traffic would pass by the mesh; give it another runAsUser", c.Name, proxyUID)
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if c.Name == InitContainer {
			return fmt.Errorf("init container %s: the name is needed for the mesh's own; rename it", c.Name)
		}
	}
	taken := map[string]bool{tokenVolume: true, rootVolume: true, podinfoVolume: true, stateVolume: true}
	for _, v := range pod.Spec.Volumes {
		if taken[v.Name] {
			return fmt.Errorf("volume %s: the name is needed for the proxy's own; rename it", v.Name)
		}
	}
	return nil
}

// metadataOps adds labels and annotations. Those that the pod sets itself win,
// except the ones that other proxies and the control plane rely on.
func (b *builder) metadataOps() ([]operation, error) {
	labels := map[string]string{
		"security.istio.io/tlsMode":           "istio",
		"service.istio.io/canonical-name":     canonicalName(b.pod, b.workload),
		"service.istio.io/canonical-revision": canonicalRevision(b.pod),
		RevisionLabel:                         b.settings.revision(),
	}
	status, err := b.status()
	if err != nil {
		return nil, err
	}
	annotations := map[string]string{}
	for k, v := range b.settings.Values.SidecarInjectorWebhook.InjectedAnnotations {
		annotations[k] = v
	}
	first := b.pod.Spec.Containers[0].Name
	for k, v := range map[string]string{
		"kubectl.kubernetes.io/default-container":      first,
		"kubectl.kubernetes.io/default-logs-container": first,
	} {
		if b.pod.Annotations[k] == "" {
			annotations[k] = v
		}
	}
	if !scraped(b.pod) {
		annotations["prometheus.io/scrape"] = "true"
		annotations["prometheus.io/port"] = fmt.Sprint(statusPort)
		annotations["prometheus.io/path"] = "/stats/prometheus"
	}
	annotations[StatusAnnotation] = status
	ops := mapOps("/metadata/labels", b.pod.Labels, labels)
	return append(ops, mapOps("/metadata/annotations", b.pod.Annotations, annotations)...), nil
}

// scraped tells whether the pod says itself how Prometheus is to scrape it.
func scraped(pod *corev1.Pod) bool {
	for k := range pod.Annotations {
		if strings.HasPrefix(k, "prometheus.io/") {
			return true
		}
	}
	return false
}

func mapOps(path string, have, add map[string]string) []operation {
	if len(have) == 0 {
		return []operation{addOp(path, add)}
	}
	keys := make([]string, 0, len(add))
	for k := range add {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	ops := make([]operation, 0, len(keys))
	for _, k := range keys {
		ops = append(ops, addOp(path+"/"+pointer(k), add[k]))
	}
	return ops
}

// status is the value of StatusAnnotation, in Istio's form.
func (b *builder) status() (string, error) {
	initContainers, containers := []string{InitContainer}, []string{ProxyContainer}
	if b.native {
		initContainers, containers = append(initContainers, ProxyContainer), nil
	}
	volumes := []string{}
	for _, v := range b.volumes() {
		volumes = append(volumes, v.Name)
	}
	js, err := json.Marshal(struct {
		InitContainers   []string `json:"initContainers"`
		Containers       []string `json:"containers"`
		Volumes          []string `json:"volumes"`
		ImagePullSecrets []string `json:"imagePullSecrets"`
		Revision         string   `json:"revision"`
	}{initContainers, containers, volumes, b.settings.Values.Global.ImagePullSecrets, b.settings.revision()})
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", StatusAnnotation, err)
	}
	return string(js), nil
}
