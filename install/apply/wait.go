package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/render"
)

// wait blocks until the objects of a stage do what later stages rely on.
func (r *run) wait(ctx context.Context, stage render.Stage, steps []Step) error {
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	defer r.waiting("")
	switch stage {
	case render.StageCRDs:
		return r.waitCRDs(ctx, steps)
	case render.StageWorkloads:
		return r.waitDeployments(ctx, steps)
	case render.StageWebhooks:
		if err := r.waitWebhooks(ctx, steps); err != nil {
			return err
		}
		if r.options.Addresses {
			return r.waitAddresses(ctx)
		}
	}
	return nil
}

// until lists and watches one resource and calls done with each object that
// pending names, until none is left.
func (r *run) until(ctx context.Context, gvr schema.GroupVersionResource, namespace string, pending map[string]bool, done func(*unstructured.Unstructured) (bool, error)) error {
	see := func(u *unstructured.Unstructured) error {
		key := u.GetNamespace() + "/" + u.GetName()
		if !pending[key] {
			return nil
		}
		ready, err := done(u)
		if ready {
			delete(pending, key)
		}
		return err
	}

	for {
		err := watchOnce(ctx, r.client.dyn.Resource(gvr).Namespace(namespace), pending, see)
		switch {
		case len(pending) == 0:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !passing(err) && !apierrors.IsResourceExpired(err):
			return err
		}
	}
}

// watchOnce shows see every object there is, and then every change, until
// nothing is pending or the watch ends.
func watchOnce(ctx context.Context, res dynamic.ResourceInterface, pending map[string]bool, see func(*unstructured.Unstructured) error) error {
	list, err := res.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}

	for i := range list.Items {
		if err := see(&list.Items[i]); err != nil {
			return err
		}
	}
	if len(pending) == 0 {
		return nil
	}

	w, err := res.Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		return err
	}
	defer w.Stop()

	for ev := range w.ResultChan() {
		switch u, ok := ev.Object.(*unstructured.Unstructured); {
		case ev.Type == watch.Error:
			return apierrors.FromObject(ev.Object)
		case ok && ev.Type != watch.Deleted:
			if err := see(u); err != nil {
				return err
			}
		}
		if len(pending) == 0 {
			return nil
		}
	}
	return nil
}

// waitCRDs waits until the API server serves the kinds.
func (r *run) waitCRDs(ctx context.Context, steps []Step) error {
	pending := map[string]bool{}
	for _, s := range steps {
		if s.Action != Keep {
			pending["/"+s.Entry.Name] = true
		}
	}
	if len(pending) == 0 {
		return nil
	}
	r.waiting("the API server to serve the Istio APIs")
	gvr := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	err := r.until(ctx, gvr, "", pending, func(u *unstructured.Unstructured) (bool, error) {
		return ConditionTrue(u, "Established"), nil
	})
	if err != nil {
		return fmt.Errorf("CRDs not established: %s: %w", strings.Join(slices.Sorted(maps.Keys(pending)), ", "), err)
	}
	return nil
}

// ConditionTrue reports whether an object has a status condition.
func ConditionTrue(u *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == kind && m["status"] == "True"
	})
}

// awaited are the Deployments that an installation waits for, by NAMESPACE/NAME.
type awaited struct {
	pending   map[string]bool
	component map[string]string
	// left counts the Deployments of a component.
	left map[string]int
	// namespace is the one that all of them are in, or empty, which is all.
	namespace string
}

func awaitedDeployments(steps []Step) awaited {
	a := awaited{pending: map[string]bool{}, component: map[string]string{}, left: map[string]int{}}
	for _, s := range steps {
		if s.Entry.Kind != "Deployment" {
			continue
		}
		if len(a.pending) == 0 {
			a.namespace = s.Entry.Namespace
		} else if a.namespace != s.Entry.Namespace {
			a.namespace = metav1.NamespaceAll
		}

		key := s.Entry.Namespace + "/" + s.Entry.Name
		a.pending[key] = true
		a.component[key] = s.Entry.Component
		a.left[s.Entry.Component]++
	}
	return a
}

// waitDeployments waits until every Deployment runs its newest template, and
// reports components as theirs get there.
func (r *run) waitDeployments(ctx context.Context, steps []Step) error {
	a := awaitedDeployments(steps)
	if len(a.pending) == 0 {
		return nil
	}

	r.waiting("Deployments " + strings.Join(slices.Sorted(maps.Keys(a.pending)), ", "))
	err := r.until(ctx, appsv1.SchemeGroupVersion.WithResource("deployments"), a.namespace, a.pending, func(u *unstructured.Unstructured) (bool, error) {
		var d appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &d); err != nil {
			return false, err
		}
		if !RolledOut(&d) {
			return false, nil
		}
		name := a.component[u.GetNamespace()+"/"+u.GetName()]
		if a.left[name]--; a.left[name] == 0 {
			r.report(name)
		}
		return true, nil
	})
	if err == nil {
		return nil
	}
	return r.whyNotReady(a.pending, err)
}

// waitWebhooks waits until the webhooks have been given the root certificate of
// their server, and until a request gets through to it.
func (r *run) waitWebhooks(ctx context.Context, steps []Step) error {
	for _, s := range steps {
		if r.servesNobody(s) {
			continue
		}
		gvr := admissionv1.SchemeGroupVersion.WithResource(strings.ToLower(s.Entry.Kind) + "s")
		r.waiting(s.Entry.ID())
		err := r.until(ctx, gvr, "", map[string]bool{"/" + s.Entry.Name: true}, func(u *unstructured.Unstructured) (bool, error) {
			return Trusted(u), nil
		})
		if err != nil {
			return fmt.Errorf("%s: istiod has not written the root certificate of its webhooks into it; see its log (kubectl logs -n %s -l app=istiod): %w",
				s.Entry.ID(), r.plan.Desired.Namespace, err)
		}
		if s.Entry.Kind == "MutatingWebhookConfiguration" {
			if err := r.probeInjection(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// servesNobody reports whether a webhook's Deployment is scaled to zero: then
// nobody will answer.
func (r *run) servesNobody(s Step) bool {
	hooks, _, _ := unstructured.NestedSlice(s.intent.Object, "webhooks")
	for _, h := range hooks {
		m, _ := h.(map[string]any)
		name, _, _ := unstructured.NestedString(m, "clientConfig", "service", "name")
		ns, _, _ := unstructured.NestedString(m, "clientConfig", "service", "namespace")
		d, err := r.client.kube.AppsV1().Deployments(ns).Get(context.Background(), name, metav1.GetOptions{})
		if err == nil && d.Spec.Replicas != nil && *d.Spec.Replicas == 0 {
			return true
		}
	}
	return false
}

// Trusted reports whether every webhook of a configuration has a CA bundle.
func Trusted(u *unstructured.Unstructured) bool {
	hooks, _, _ := unstructured.NestedSlice(u.Object, "webhooks")
	for _, h := range hooks {
		m, _ := h.(map[string]any)
		if b, _, _ := unstructured.NestedString(m, "clientConfig", "caBundle"); b == "" {
			return false
		}
	}
	return len(hooks) > 0
}

// probeInjection asks the API server to pretend to create a pod that wants a
// sidecar. Whatever comes back but "failed calling webhook" shows that the
// webhook answers.
func (r *run) probeInjection(ctx context.Context) error {
	labels := map[string]string{"sidecar.istio.io/inject": "true"}
	if rev := r.plan.Desired.Revision; rev != api.DefaultRevision {
		labels[api.LabelRevision] = rev
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "isthmus-probe-", Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "probe", Image: "none"}}},
	}
	ns := r.plan.Desired.Namespace
	for {
		_, err := r.client.kube.CoreV1().Pods(ns).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the injection webhook does not answer: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// waitAddresses waits until the LoadBalancer Services have an address.
func (r *run) waitAddresses(ctx context.Context) error {
	byNamespace := map[string]map[string]bool{}
	for _, s := range r.plan.Steps {
		if s.intent == nil || s.Entry.Kind != "Service" {
			continue
		}
		if t, _, _ := unstructured.NestedString(s.intent.Object, "spec", "type"); t == "LoadBalancer" {
			if byNamespace[s.Entry.Namespace] == nil {
				byNamespace[s.Entry.Namespace] = map[string]bool{}
			}
			byNamespace[s.Entry.Namespace][s.Entry.Namespace+"/"+s.Entry.Name] = true
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(byNamespace)) {
		pending := byNamespace[ns]
		r.waiting("an address for " + strings.Join(slices.Sorted(maps.Keys(pending)), ", "))
		err := r.until(ctx, corev1.SchemeGroupVersion.WithResource("services"), ns, pending, func(u *unstructured.Unstructured) (bool, error) {
			ingress, _, _ := unstructured.NestedSlice(u.Object, "status", "loadBalancer", "ingress")
			return len(ingress) > 0, nil
		})
		if err != nil {
			return fmt.Errorf("no address for the LoadBalancer Services %s: does this cluster have anything that gives them one? %w",
				strings.Join(slices.Sorted(maps.Keys(pending)), ", "), err)
		}
	}
	return nil
}
