package compile

import (
	"cmp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// Labels of pods and nodes that the mesh reads.
const (
	labelTLSMode           = "security.istio.io/tlsMode"
	labelNetwork           = "topology.istio.io/network"
	labelSubzone           = "topology.istio.io/subzone"
	labelCanonicalName     = "service.istio.io/canonical-name"
	labelCanonicalRevision = "service.istio.io/canonical-revision"
	tlsModeMutual          = "istio"
)

// NodeLocality reads a node's place from its labels.
func NodeLocality(node *corev1.Node) model.Locality {
	return model.MakeLocality(node.Labels[corev1.LabelTopologyRegion],
		node.Labels[corev1.LabelTopologyZone], node.Labels[labelSubzone])
}

// Workload makes the row of a pod. It is nil for pods without an address, on
// the network of their node, or finished: none of them has a sidecar or is
// reached through the mesh as itself.
func Workload(c model.ClusterID, network string, pod *corev1.Pod, locality model.Locality) *model.Workload {
	if pod.Status.PodIP == "" || pod.Spec.HostNetwork ||
		pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	w := &model.Workload{
		Cluster:   c,
		Namespace: pod.Namespace,
		Name:      pod.Name,
		Account:   pod.Spec.ServiceAccountName,
		Labels:    pod.Labels,
		Node:      pod.Spec.NodeName,
		Locality:  locality,
		Network:   cmp.Or(pod.Labels[labelNetwork], network),
		TLS:       pod.Labels[labelTLSMode] == tlsModeMutual,
		Owner:     owner(pod),
	}
	if w.Account == "" {
		w.Account = "default"
	}
	for _, ip := range pod.Status.PodIPs {
		w.Addresses = append(w.Addresses, ip.IP)
	}
	if len(w.Addresses) == 0 {
		w.Addresses = []string{pod.Status.PodIP}
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, ctr := range containers {
			for _, p := range ctr.Ports {
				if p.Name == "" || (p.Protocol != "" && p.Protocol != corev1.ProtocolTCP) {
					continue
				}
				if w.Ports == nil {
					w.Ports = map[string]uint16{}
				}
				w.Ports[p.Name] = uint16(p.ContainerPort)
			}
		}
	}
	return w
}

// owner is the name of what the pod belongs to in people's eyes: the
// Deployment rather than its ReplicaSet.
func owner(pod *corev1.Pod) string {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return pod.Name
	}
	if ref.Kind == "ReplicaSet" {
		if hash := pod.Labels["pod-template-hash"]; hash != "" {
			return strings.TrimSuffix(ref.Name, "-"+hash)
		}
	}
	return ref.Name
}

// describe is the description of a workload that travels with its endpoints.
func describe(w *model.Workload) string {
	name := cmp.Or(w.Labels[labelCanonicalName], w.Labels["app.kubernetes.io/name"], w.Labels["app"], w.Owner)
	revision := cmp.Or(w.Labels[labelCanonicalRevision], w.Labels["app.kubernetes.io/version"], w.Labels["version"], "latest")
	return strings.Join([]string{w.Owner, w.Namespace, name, revision, string(w.Cluster)}, ";")
}
