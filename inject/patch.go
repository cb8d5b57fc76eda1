package inject

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
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

	own, rest := takeOwn(pod)
	b := &builder{pod: rest, own: own, namespace: namespace, settings: s, options: o, workload: workloadOf(pod, namespace)}
	if err := b.checkPod(); err != nil {
		return nil, nil, err
	}
	if err := b.prepare(); err != nil {
		return nil, nil, err
	}

	// The pod's own container goes first, so that what follows counts the
	// containers that are left.
	var ops []operation
	if own != nil {
		ops = append(ops, removeOp(own.path))
	}

	ops = append(ops, b.probeOps...)
	containers, err := b.containerOps()
	if err != nil {
		return nil, nil, err
	}

	ops = append(ops, containers...)
	ops = append(ops, b.volumeOps()...)
	more, err := b.podOps()
	if err != nil {
		return nil, nil, err
	}

	ops = append(ops, more...)
	meta, err := b.metadataOps()
	if err != nil {
		return nil, nil, err
	}

	patch, err = json.Marshal(append(ops, meta...))
	if err != nil {
		return nil, nil, fmt.Errorf("encode the patch: %w", err)
	}
	return patch, append(b.warnings, idleLabels(pod.Labels)...), nil
}

// metadataOps adds labels and annotations. Those that the pod sets itself win,
// except the ones that other proxies and the control plane rely on.
func (b *builder) metadataOps() ([]operation, error) {
	labels := map[string]string{
		"service.istio.io/canonical-name":     canonicalName(b.pod, b.workload),
		"service.istio.io/canonical-revision": canonicalRevision(b.pod),
		api.LabelRevision:                     b.settings.revision(),
	}

	if !b.gateway() {
		// A gateway ends mutual TLS where its Gateway resources say so, not
		// for whoever calls its pods.
		labels["security.istio.io/tlsMode"] = "istio"
	}

	status, err := b.status()
	if err != nil {
		return nil, err
	}

	annotations := map[string]string{}
	for k, v := range b.settings.Values.SidecarInjectorWebhook.InjectedAnnotations {
		annotations[k] = v
	}

	first := ProxyContainer
	if len(b.pod.Spec.Containers) > 0 {
		first = b.pod.Spec.Containers[0].Name
	}

	for k, v := range map[string]string{
		"kubectl.kubernetes.io/default-container":      first,
		"kubectl.kubernetes.io/default-logs-container": first,
	} {
		if b.pod.Annotations[k] == "" {
			annotations[k] = v
		}
	}

	for k, v := range b.scrape.annotations {
		annotations[k] = v
	}
	annotations[StatusAnnotation] = status
	ops := mapOps("/metadata/labels", b.pod.Labels, labels)
	return append(ops, mapOps("/metadata/annotations", b.pod.Annotations, annotations)...), nil
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
	switch {
	case b.gateway():
		initContainers = nil
	case b.native:
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
