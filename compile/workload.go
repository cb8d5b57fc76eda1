package compile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// Labels that the mesh reads.
const (
	// LabelNetwork puts a pod, or all pods of a node or a cluster, into a
	// network (on the pod, the node, the namespace of the control plane). A
	// Service that has it is a gateway through which others reach the network.
	LabelNetwork = "topology.istio.io/network"

	labelTLSMode           = "security.istio.io/tlsMode"
	labelSubzone           = "topology.istio.io/subzone"
	labelLocality          = "topology.istio.io/locality"
	labelLocalityBefore    = "istio-locality" // its older name
	labelCanonicalName     = "service.istio.io/canonical-name"
	labelCanonicalRevision = "service.istio.io/canonical-revision"
	tlsModeMutual          = "istio"
)

// Workload makes the row of a pod. It is nil for pods without an address, on
// the network of their node, or finished: none of them has a sidecar or is
// reached through the mesh as itself.
func Workload(c model.ClusterID, pod *corev1.Pod, node Node) *model.Workload {
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
		Locality:  cmp.Or(labelledLocality(pod.Labels), node.Locality),
		Network:   cmp.Or(pod.Labels[LabelNetwork], node.Network),
		TLS:       pod.Labels[labelTLSMode] == tlsModeMutual,
		Capture:   capture(pod),
		Router:    isRouter(pod),
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

	// Init containers are among them: native sidecars serve ports, too.
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

// PodAnswers tells whether the last that the kubelet has said of a pod is that it is
// ready: its containers are, and so are the conditions that the pod asks for besides
// (readiness gates). The condition Ready itself is not the kubelet's alone: the node
// controller takes it away from the pods of a node that it does not hear of, and
// leaves the others as they were.
func PodAnswers(pod *corev1.Pod) bool {
	holds := func(kind corev1.PodConditionType) bool {
		return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == kind && c.Status == corev1.ConditionTrue
		})
	}
	for _, gate := range pod.Spec.ReadinessGates {
		if !holds(gate.ConditionType) {
			return false
		}
	}
	return pod.DeletionTimestamp == nil && holds(corev1.ContainersReady)
}

// Containers of a pod whose arguments are read.
const (
	proxyContainer = "istio-proxy"
	initContainer  = "istio-init"
)

// ReadsArgs tells whether the arguments of a container of this name are read;
// of all others package kube keeps none.
func ReadsArgs(container string) bool {
	return container == proxyContainer || container == initContainer
}

// isRouter tells whether the pod's proxy was started as a gateway.
func isRouter(pod *corev1.Pod) bool {
	for _, c := range pod.Spec.Containers {
		if c.Name == proxyContainer {
			return slices.Contains(c.Args, "router")
		}
	}
	return false
}

// capture reads which ports are redirected to the proxy from the arguments of
// the container that redirects them: what is in force, whether it came from the
// pod's annotations (traffic.sidecar.istio.io/excludeInboundPorts and
// includeInboundPorts) or from the mesh's values. It is nil when all ports are.
func capture(pod *corev1.Pod) *model.Capture {
	var c model.Capture
	for _, ctr := range pod.Spec.InitContainers {
		if ctr.Name != initContainer {
			continue
		}
		if list, ok := argument(ctr.Args, "--include-inbound-ports"); ok {
			var all bool
			c.Only, all = portList(list)
			c.Some = !all
		}
		if list, ok := argument(ctr.Args, "--exclude-inbound-ports"); ok {
			c.Except, _ = portList(list)
		}
	}

	if !c.Some && len(c.Except) == 0 {
		return nil
	}
	return &c
}

// argument finds the value that follows a flag.
func argument(args []string, flag string) (string, bool) {
	for i, a := range args {
		if a == flag && i+1 < len(args) {
			return args[i+1], true
		}
		if v, ok := strings.CutPrefix(a, flag+"="); ok {
			return v, true
		}
	}
	return "", false
}

// portList reads ports with commas between them; "*" is all.
func portList(s string) (ports []uint16, all bool) {
	for _, part := range splitList(s) {
		if part == "*" {
			all = true
			continue
		}
		// The init container refuses a list that is not one, and the pod
		// with it does not start.
		if n, err := strconv.ParseUint(part, 10, 16); err == nil {
			ports = append(ports, uint16(n))
		}
	}

	slices.Sort(ports)
	return slices.Compact(ports), all
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
