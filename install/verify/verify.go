package verify

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/render"
)

// Reader reads one object of a cluster: nil when it, or its kind, is not there.
type Reader interface {
	Get(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error)
}

// Result is what was found of one object.
type Result struct {
	ID string `json:"object"`
	// Problems is empty when the object is as it should be.
	Problems []string `json:"problems,omitempty"`
}

// parallel is how many objects are read at a time.
const parallel = 12

// Objects checks every object and returns one result each, in their order.
func Objects(ctx context.Context, r Reader, objs []render.Object) ([]Result, error) {
	out := make([]Result, len(objs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, o := range objs {
		g.Go(func() error {
			live, err := r.Get(ctx, o.GroupVersionKind(), o.GetNamespace(), o.GetName())
			if err != nil {
				return fmt.Errorf("%s: %w", o.ID(), err)
			}
			out[i] = Result{ID: o.ID(), Problems: check(o.Unstructured, live)}
			other, ok := apply.AnsweredByOther(o.Unstructured, live)
			if !ok {
				return nil
			}
			service, err := r.Get(ctx, corev1.SchemeGroupVersion.WithKind("Service"), other.Namespace, other.Name)
			if err == nil && service == nil {
				out[i].Problems = append(out[i].Problems, fmt.Sprintf("calls Service/%s/%s, which is not there; install this revision once more, and it will be called", other.Namespace, other.Name))
			}
			return err
		})
	}
	return out, g.Wait()
}

// check compares one object with what is there.
func check(want, live *unstructured.Unstructured) []string {
	if live == nil {
		return []string{"missing"}
	}
	if live.GetDeletionTimestamp() != nil {
		return []string{"being deleted"}
	}
	var out []string
	if _, ok := apply.AnsweredByOther(want, live); ok {
		return works(live) // how it is to be is that revision's to say
	}
	if apply.Foreign(want, live) {
		return works(live) // nor is it ours to say here
	}
	for _, d := range apply.Compare(apply.KeepOwned(want, live).Object, live.Object) {
		out = append(out, d.Problem())
	}
	return append(out, works(live)...)
}

// works reports what keeps an object that is as it should be from working.
func works(live *unstructured.Unstructured) []string {
	switch live.GetKind() {
	case "CustomResourceDefinition":
		if !apply.ConditionTrue(live, "Established") {
			return []string{"not established"}
		}
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		if !apply.Trusted(live) {
			return []string{"istiod has not written its root certificate into it"}
		}
	case "Deployment":
		var d appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &d); err != nil {
			return []string{err.Error()}
		}
		if !apply.RolledOut(&d) {
			return []string{fmt.Sprintf("not ready: %d of %d pods available", d.Status.AvailableReplicas, d.Status.Replicas)}
		}
	}
	return nil
}
