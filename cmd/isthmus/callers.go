package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// caller is a pod with a proxy of the mesh.
type caller struct{ namespace, name string }

func (c caller) String() string { return c.name + "." + c.namespace }

// mostCallers bounds the pods of a drill: each has a way through the API server.
const mostCallers = 20

// findCallers finds the pods that people name: POD, deploy/NAME, sts/NAME, ds/NAME,
// each with .NAMESPACE where it is another one.
func findCallers(ctx context.Context, client kubernetes.Interface, from []string, namespace string) ([]caller, error) {
	var out []caller
	for _, text := range from {
		name, ns, ok := strings.Cut(text, ".")
		if !ok {
			ns = namespace
		}
		pods, err := podsNamed(ctx, client, ns, name)
		if err != nil {
			return nil, err
		}
		for i := range pods {
			c := caller{ns, pods[i].Name}
			if !hasProxy(&pods[i]) {
				return nil, fmt.Errorf("pod %s has no proxy of the mesh: inject its namespace, and make the pod anew", c)
			}
			if !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	if len(out) > mostCallers {
		return nil, fmt.Errorf("%d pods are more than a drill takes, %d: name some of them", len(out), mostCallers)
	}
	return out, nil
}

// podsNamed are the running pods of a name, or of a workload.
func podsNamed(ctx context.Context, client kubernetes.Interface, namespace, name string) ([]corev1.Pod, error) {
	kind, workload, ok := strings.Cut(name, "/")
	if !ok {
		pod, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("there is no pod %s in namespace %s: name it as kubectl get pods does, with its namespace: --from POD.NAMESPACE", name, namespace)
		}
		if err != nil {
			return nil, err
		}
		return []corev1.Pod{*pod}, nil
	}
	if kind == "pod" || kind == "pods" || kind == "po" {
		return podsNamed(ctx, client, namespace, workload)
	}

	selector, err := selectorOf(ctx, client, kind, namespace, workload)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no %s in namespace %s: --from %s.NAMESPACE names another one", name, namespace, name)
	}
	if err != nil {
		return nil, err
	}
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(selector)})
	if err != nil {
		return nil, err
	}
	running := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil
	})
	if len(running) == 0 {
		return nil, fmt.Errorf("%s in namespace %s has no running pod", name, namespace)
	}
	return running, nil
}

// selectorOf is how a workload finds its pods.
func selectorOf(ctx context.Context, client kubernetes.Interface, kind, namespace, name string) (*metav1.LabelSelector, error) {
	switch kind {
	case "deploy", "deployment", "deployments":
		d, err := client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return d.Spec.Selector, nil
	case "sts", "statefulset", "statefulsets":
		s, err := client.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return s.Spec.Selector, nil
	case "ds", "daemonset", "daemonsets":
		d, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return d.Spec.Selector, nil
	}
	return nil, fmt.Errorf("%s/%s: a pod, deploy/NAME, sts/NAME or ds/NAME is possible", kind, name)
}

// hasProxy tells whether a pod is injected.
func hasProxy(pod *corev1.Pod) bool {
	return proxyContainer(pod) != nil
}

// proxyContainer is a pod's proxy; nil when it has none.
func proxyContainer(pod *corev1.Pod) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == "istio-proxy" {
				return &list[i]
			}
		}
	}
	return nil
}
