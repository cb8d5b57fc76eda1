package clusterset

import (
	"context"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/model"
)

func ours(u *unstructured.Unstructured) bool { return u.GetLabels()[LabelManagedBy] == ManagedBy }

// writeOne makes or changes a ServiceImport. Versions v1alpha1 and v1beta1 have the
// same fields. What others add to its spec is taken back.
func writeOne(ctx context.Context, all dynamic.NamespaceableResourceInterface, gvr schema.GroupVersionResource, old *unstructured.Unstructured, in *model.Import) error {
	client := all.Namespace(in.Namespace)
	spec, status := specOf(in), clustersOf(in)
	now := old
	var err error
	switch {
	case old == nil:
		u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
		u.SetAPIVersion(gvr.GroupVersion().String())
		u.SetKind("ServiceImport")
		u.SetNamespace(in.Namespace)
		u.SetName(in.Name)
		u.SetLabels(map[string]string{LabelManagedBy: ManagedBy})
		now, err = client.Create(ctx, u, metav1.CreateOptions{})
	case !reflect.DeepEqual(old.Object["spec"], any(spec)):
		now = old.DeepCopy()
		now.Object["spec"] = spec
		// With the version that was read: who came between is not written over.
		now, err = client.Update(ctx, now, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("ServiceImport %s/%s: %w", in.Namespace, in.Name, err)
	}

	if was, _, _ := unstructured.NestedSlice(now.Object, "status", "clusters"); reflect.DeepEqual(was, status) {
		return nil
	}
	now = now.DeepCopy()
	if err := unstructured.SetNestedSlice(now.Object, status, "status", "clusters"); err != nil {
		return fmt.Errorf("ServiceImport %s/%s: status: %w", in.Namespace, in.Name, err)
	}
	if _, err := client.UpdateStatus(ctx, now, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("ServiceImport %s/%s: status: %w", in.Namespace, in.Name, err)
	}
	return nil
}

func specOf(in *model.Import) map[string]any {
	ports := []any{}
	for _, p := range in.Ports {
		port := map[string]any{"port": int64(p.Number), "protocol": p.Transport}
		if p.Name != "" {
			port["name"] = p.Name
		}
		if p.AppProtocol != "" {
			port["appProtocol"] = p.AppProtocol
		}
		ports = append(ports, port)
	}
	spec := map[string]any{"type": "ClusterSetIP", "ports": ports}
	if in.Headless {
		spec["type"] = "Headless"
	}
	if in.Address.IsValid() {
		spec["ips"] = []any{in.Address.String()}
	}
	if a := in.Affinity; a.ByClientIP {
		spec["sessionAffinity"] = string(corev1.ServiceAffinityClientIP)
		if a.Timeout > 0 {
			spec["sessionAffinityConfig"] = map[string]any{"clientIP": map[string]any{"timeoutSeconds": int64(a.Timeout)}}
		}
	} else {
		spec["sessionAffinity"] = string(corev1.ServiceAffinityNone)
	}
	return spec
}

func clustersOf(in *model.Import) []any {
	out := make([]any, 0, len(in.Clusters))
	for _, c := range in.Clusters {
		out = append(out, map[string]any{"cluster": string(c)})
	}
	return out
}

// remove deletes what was read, and nothing that has taken its place meanwhile.
func remove(ctx context.Context, all dynamic.NamespaceableResourceInterface, u *unstructured.Unstructured) error {
	uid := u.GetUID()
	err := all.Namespace(u.GetNamespace()).Delete(ctx, u.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("ServiceImport %s/%s: delete: %w", u.GetNamespace(), u.GetName(), err)
	}
	return nil
}
