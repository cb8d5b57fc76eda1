package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// rootConfigMap is where the control plane publishes the root certificate, in
// every namespace.
const rootConfigMap = "istio-ca-root-cert"

// caSecret is where a control plane without cacerts keeps its own root key.
const caSecret = "istio-ca-secret"

// removeMade removes what the control plane wrote while it ran: its own root
// key, the root certificate in every namespace, its leases. cacerts is the
// user's.
func (c *Client) removeMade(ctx context.Context, r *Removal) error {
	list, err := c.kube.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + rootConfigMap})
	if err != nil {
		return fmt.Errorf("list root certificates: %w", err)
	}

	var errs []error
	ignore := func(id string, err error) {
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, named(id, err))
		}
	}

	err = forEach(ctx, list.Items, func(ctx context.Context, cm corev1.ConfigMap) error {
		err := c.kube.CoreV1().ConfigMaps(cm.Namespace).Delete(ctx, rootConfigMap, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return named("ConfigMap/"+cm.Namespace+"/"+rootConfigMap, err)
	})
	errs = append(errs, err)

	for _, inv := range r.inventories {
		ns := inv.Namespace
		ignore("Secret/"+ns+"/"+caSecret, c.kube.CoreV1().Secrets(ns).Delete(ctx, caSecret, metav1.DeleteOptions{}))
		leases, err := c.kube.CoordinationV1().Leases(ns).List(ctx, metav1.ListOptions{})
		ignore("leases in "+ns, err)
		if leases == nil {
			continue
		}
		for _, l := range leases.Items {
			if strings.HasPrefix(l.Name, "istio-") || strings.HasPrefix(l.Name, "isthmus-") {
				ignore("Lease/"+ns+"/"+l.Name, c.kube.CoordinationV1().Leases(ns).Delete(ctx, l.Name, metav1.DeleteOptions{}))
			}
		}
	}
	return errors.Join(errs...)
}

// removeNamespaces removes the namespaces that the installation made, unless
// something of the user's is in them. It returns those that are leaving, and does
// not wait until they are gone.
func (c *Client) removeNamespaces(ctx context.Context, r *Removal, namespaces []Entry) (map[string]bool, error) {
	leaving := map[string]bool{}
	for _, e := range namespaces {
		foreign, err := c.foreign(ctx, e.Name, r)
		if err != nil {
			return nil, named(e.ID(), err)
		}
		if len(foreign) > 0 {
			r.Kept = append(r.Kept, fmt.Sprintf("%s: it holds %s", e.ID(), strings.Join(foreign, ", ")))
			continue
		}

		for _, inv := range r.inventories {
			if inv.Namespace == e.Name {
				if err := c.hold(ctx, inv, true); err != nil {
					return nil, err
				}
			}
		}

		if err := c.remove(ctx, e.GVK(), "", e.Name); err != nil {
			return nil, named(e.ID(), err)
		}
		leaving[e.Name] = true
	}
	return leaving, nil
}

// foreign lists what users put into a namespace: all that is neither part of the
// removal nor made by Kubernetes or the control plane.
func (c *Client) foreign(ctx context.Context, ns string, r *Removal) ([]string, error) {
	ours := map[string]bool{
		"ConfigMap/" + ns + "/kube-root-ca.crt": true, "ConfigMap/" + ns + "/" + rootConfigMap: true,
		"Secret/" + ns + "/" + caSecret: true,
	}
	for _, e := range r.Entries {
		ours[e.ID()] = true
	}

	kinds := []schema.GroupVersionResource{
		{Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "secrets"},
		{Version: "v1", Resource: "services"}, {Version: "v1", Resource: "persistentvolumeclaims"},
		{Group: "apps", Version: "v1", Resource: "deployments"}, {Group: "apps", Version: "v1", Resource: "daemonsets"},
		{Group: "apps", Version: "v1", Resource: "statefulsets"}, {Group: "batch", Version: "v1", Resource: "jobs"},
	}

	var mu sync.Mutex
	var out []string
	err := forEach(ctx, kinds, func(ctx context.Context, gvr schema.GroupVersionResource) error {
		list, err := c.dyn.Resource(gvr).Namespace(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}

		mu.Lock()
		defer mu.Unlock()
		for _, u := range list.Items {
			kind, _, _ := unstructured.NestedString(u.Object, "type")
			switch {
			case u.GetDeletionTimestamp() != nil, u.GetLabels()[inventoryLabel] != "",
				ours[u.GetKind()+"/"+ns+"/"+u.GetName()], kind == string(corev1.SecretTypeServiceAccountToken):
			default:
				out = append(out, u.GetKind()+" "+u.GetName())
			}
		}
		return nil
	})

	slices.Sort(out)
	return out, err
}

// purgeGrace is how long pods of a mesh that goes altogether may take, seconds.
// Kubernetes looks into a namespace five seconds after its deletion, and if pods
// are still there, again only after half their grace period.
const purgeGrace = 2

// hurry deletes the pods of Deployments in namespaces that are leaving, before
// their Deployments are deleted: a grace period cannot be cut short once it has
// begun. Nothing makes new pods, for a namespace that is leaving takes none.
func (c *Client) hurry(ctx context.Context, entries []Entry, leaving map[string]bool) error {
	return forEach(ctx, entries, func(ctx context.Context, e Entry) error {
		if e.Kind != "Deployment" || e.Intent == nil || !leaving[e.Namespace] {
			return nil
		}
		match, _, err := unstructured.NestedStringMap(e.Intent.Object, "spec", "selector", "matchLabels")
		if err != nil || len(match) == 0 {
			return err
		}
		grace := int64(purgeGrace)
		err = c.kube.CoreV1().Pods(e.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &grace},
			metav1.ListOptions{LabelSelector: labels.SelectorFromSet(match).String()})
		return named("pods of "+e.ID(), err)
	})
}
