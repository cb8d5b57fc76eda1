package kube

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/compile"
)

// The functions here cut objects down to what is read of them before they are
// kept: a control plane's memory is mostly other people's objects. They are
// cache.TransformFuncs; the object is the caller's own, so it may be changed.

func stripMeta(m *metav1.ObjectMeta) {
	m.ManagedFields = nil
	m.Finalizers = nil
	maps.DeleteFunc(m.Annotations, func(name, _ string) bool { return !compile.ReadsAnnotation(name) })
	if len(m.Annotations) == 0 {
		m.Annotations = nil
	}
}

func stripPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}

	stripMeta(&pod.ObjectMeta)
	var conditions []corev1.PodCondition
	if compile.PodAnswers(pod) {
		conditions = podAnswers
	}
	pod.Spec = corev1.PodSpec{
		NodeName:           pod.Spec.NodeName,
		ServiceAccountName: pod.Spec.ServiceAccountName,
		HostNetwork:        pod.Spec.HostNetwork,
		InitContainers:     stripContainers(pod.Spec.InitContainers),
		Containers:         stripContainers(pod.Spec.Containers),
	}
	pod.Status = corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, PodIPs: pod.Status.PodIPs, Conditions: conditions}
	return pod, nil
}

// podAnswers is what is kept of the conditions of a pod of which compile.PodAnswers
// is true. All such pods share it, and nobody changes it.
var podAnswers = []corev1.PodCondition{{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}}

// stripContainers keeps the ports that have a name, and the arguments of the
// mesh's own containers.
func stripContainers(in []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for _, c := range in {
		var ports []corev1.ContainerPort
		for _, p := range c.Ports {
			if p.Name != "" {
				ports = append(ports, p)
			}
		}
		kept := corev1.Container{Ports: ports}
		if compile.ReadsArgs(c.Name) {
			kept.Name, kept.Args = c.Name, c.Args
		}
		if len(ports) > 0 || kept.Name != "" {
			out = append(out, kept)
		}
	}

	return out
}

func stripService(obj any) (any, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return obj, nil
	}
	stripMeta(&svc.ObjectMeta)
	svc.Status = corev1.ServiceStatus{LoadBalancer: svc.Status.LoadBalancer}
	return svc, nil
}

func stripSlice(obj any) (any, error) {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return obj, nil
	}

	stripMeta(&slice.ObjectMeta)
	slice.OwnerReferences = nil
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		e.DeprecatedTopology, e.Hints = nil, nil
		if e.TargetRef != nil {
			e.TargetRef.UID, e.TargetRef.ResourceVersion = "", ""
		}
	}
	return slice, nil
}

func stripNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	stripMeta(&node.ObjectMeta)
	// Heartbeats stand in the conditions: what is kept must not change with them.
	var ready []corev1.NodeCondition
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			ready = append(ready, corev1.NodeCondition{Type: c.Type, Status: c.Status})
		}
	}
	node.Spec = corev1.NodeSpec{}
	node.Status = corev1.NodeStatus{Addresses: node.Status.Addresses, Conditions: ready}
	return node, nil
}

func stripNamespace(obj any) (any, error) {
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return obj, nil
	}
	stripMeta(&ns.ObjectMeta)
	ns.Spec, ns.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	return ns, nil
}

func stripUnstructured(obj any) (any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	u.SetManagedFields(nil)
	annotations := u.GetAnnotations()
	// The copy that kubectl apply leaves is as large as the object.
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	u.SetAnnotations(annotations)
	return u, nil
}

// stripSecret keeps what gateways show and judge by: neither tokens nor ways to other
// clusters are held here, nor the key of the mesh's own authority.
func stripSecret(obj any) (any, error) {
	s, ok := obj.(*corev1.Secret)
	if !ok {
		return obj, nil
	}
	data := map[string][]byte{}
	if s.Type == corev1.SecretTypeTLS || s.Type == corev1.SecretTypeOpaque || s.Type == "" {
		for _, name := range compile.CredentialKeys() {
			if v, has := s.Data[name]; has {
				data[name] = v
			}
		}
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, ResourceVersion: s.ResourceVersion, UID: s.UID}, Data: data}, nil
}
