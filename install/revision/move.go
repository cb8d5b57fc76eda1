package revision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/apply"
)

// restartAnnotation is the one that kubectl rollout restart sets.
const restartAnnotation = "kubectl.kubernetes.io/restartedAt"

// Of returns the revision that injects into a namespace; "" when none does.
func Of(ns *corev1.Namespace) string {
	switch {
	case ns.Labels[api.LabelInjection] == "enabled":
		return api.DefaultRevision
	case ns.Labels[api.LabelInjection] != "":
		return ""
	}
	return ns.Labels[api.LabelRevision]
}

// Namespaces lists the namespaces that a revision injects into.
func Namespaces(ctx context.Context, client kubernetes.Interface, revision string) ([]string, error) {
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var out []string
	for _, ns := range list.Items {
		if Of(&ns) == revision {
			out = append(out, ns.Name)
		}
	}
	return out, nil
}

// Move puts a namespace under another revision and restarts its workloads, one
// namespace's at a time, so that half a mesh is never restarting. When they do
// not get ready within timeout, the namespace goes back.
func Move(ctx context.Context, client kubernetes.Interface, namespace, to string, timeout time.Duration) error {
	ns, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("namespace %s: %w", namespace, err)
	}
	from := Of(ns)
	if from == to {
		return nil
	}
	err = switchTo(ctx, client, namespace, to, timeout)
	if err == nil {
		return nil
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if undo := switchTo(back, client, namespace, from, timeout); undo != nil {
		return errors.Join(fmt.Errorf("namespace %s: %w", namespace, err), fmt.Errorf("and going back failed: %w", undo))
	}
	return fmt.Errorf("namespace %s went back to revision %q: %w", namespace, from, err)
}

func switchTo(ctx context.Context, client kubernetes.Interface, namespace, revision string, timeout time.Duration) error {
	if err := label(ctx, client, namespace, revision); err != nil {
		return err
	}
	if err := restart(ctx, client, namespace); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return waitReady(ctx, client, namespace)
}

// label makes a revision the injector of a namespace.
func label(ctx context.Context, client kubernetes.Interface, namespace, revision string) error {
	labels := map[string]any{api.LabelInjection: nil, api.LabelRevision: nil}
	switch revision {
	case "":
	case api.DefaultRevision:
		labels[api.LabelInjection] = "enabled"
	default:
		labels[api.LabelRevision] = revision
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	if _, err := client.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("label: %w", err)
	}
	return nil
}

// restart replaces the pods of every workload of a namespace.
func restart(ctx context.Context, client kubernetes.Interface, namespace string) error {
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{%q:%q}}}}}`,
		restartAnnotation, time.Now().UTC().Format(time.RFC3339Nano))
	apps := client.AppsV1()
	opts := metav1.PatchOptions{}

	deployments, err := apps.Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, d := range deployments.Items {
		if _, err := apps.Deployments(namespace).Patch(ctx, d.Name, types.StrategicMergePatchType, patch, opts); err != nil {
			return fmt.Errorf("restart Deployment %s: %w", d.Name, err)
		}
	}

	sets, err := apps.StatefulSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, s := range sets.Items {
		if _, err := apps.StatefulSets(namespace).Patch(ctx, s.Name, types.StrategicMergePatchType, patch, opts); err != nil {
			return fmt.Errorf("restart StatefulSet %s: %w", s.Name, err)
		}
	}

	daemons, err := apps.DaemonSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, d := range daemons.Items {
		if _, err := apps.DaemonSets(namespace).Patch(ctx, d.Name, types.StrategicMergePatchType, patch, opts); err != nil {
			return fmt.Errorf("restart DaemonSet %s: %w", d.Name, err)
		}
	}
	return nil
}

// waitReady blocks until all workloads of a namespace run their newest template.
func waitReady(ctx context.Context, client kubernetes.Interface, namespace string) error {
	for {
		waiting, err := unready(ctx, client, namespace)
		if err != nil {
			return err
		}
		if waiting == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", waiting, ctx.Err())
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// unready names a workload that is not ready yet; "" when all are.
func unready(ctx context.Context, client kubernetes.Interface, namespace string) (string, error) {
	deployments, err := client.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, d := range deployments.Items {
		if !apply.RolledOut(&d) {
			return "Deployment " + d.Name, nil
		}
	}

	sets, err := client.AppsV1().StatefulSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, d := range sets.Items {
		if !apply.SetRolledOut(&d) {
			return "StatefulSet " + d.Name, nil
		}
	}

	daemons, err := client.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, d := range daemons.Items {
		if !apply.DaemonsRolledOut(&d) {
			return "DaemonSet " + d.Name, nil
		}
	}
	return "", nil
}
