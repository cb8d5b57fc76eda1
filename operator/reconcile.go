package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/values"
	"github.com/isthmus-mesh/isthmus/install/verify"
)

// Finalizer holds an IstioOperator until what it stands for is removed.
const Finalizer = "istio-finalizer.install.istio.io"

// How soon a resource is looked at again.
const (
	afterConflict = 200 * time.Millisecond
	whileUnready  = 3 * time.Second
	whileHealthy  = 2 * time.Minute
	removeTimeout = 2 * time.Minute
)

// reconciler does the work for one resource at a time.
type reconciler struct {
	config  Config
	client  client.Client
	applier *apply.Client
}

func (r *reconciler) list(ctx context.Context) ([]unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(GVK())
	err := r.client.List(ctx, list)
	return list.Items, err
}

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(GVK())
	if err := r.client.Get(ctx, req.NamespacedName, u); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}

	u = u.DeepCopy()
	if u.GetDeletionTimestamp() != nil {
		return overtaken(r.remove(ctx, u))
	}

	// Before anything is applied: a resource that is deleted half-way must not
	// leave behind what it stood for.
	if controllerutil.AddFinalizer(u, Finalizer) {
		if err := r.client.Update(ctx, u); err != nil {
			return overtaken(err)
		}
	}

	config, err := r.resolve(ctx, u)
	if err != nil {
		// A resource that is wrong stays wrong until it is edited.
		return overtaken(r.report(ctx, u, status{Status: statusError, Message: err.Error()}))
	}

	st, err := r.install(ctx, u, config)
	if err != nil {
		st = status{Status: statusError, Message: err.Error(), Components: st.Components}
	}

	st.Warnings = config.Warnings
	reported, reportErr := overtaken(r.report(ctx, u, st))
	if err := errors.Join(err, reportErr); err != nil || reported.RequeueAfter > 0 {
		return reported, err
	}
	if st.Status != statusHealthy {
		return ctrl.Result{RequeueAfter: whileUnready}, nil
	}
	return ctrl.Result{RequeueAfter: whileHealthy}, nil
}

// resolve reads the resource as install reads a file.
func (r *reconciler) resolve(ctx context.Context, u *unstructured.Unstructured) (*values.Config, error) {
	doc := map[string]any{
		"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "spec": u.Object["spec"],
		"metadata": map[string]any{"name": u.GetName(), "namespace": u.GetNamespace()},
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}

	in := values.Input{Files: []values.File{{Name: u.GetName(), Data: data}}, Hub: r.config.Hub, Tag: r.config.Tag}
	config, err := values.Resolve(in)
	if err != nil {
		return nil, err
	}
	base, err := r.applier.Beside(ctx, config)
	if err != nil {
		return nil, err
	}
	if base != nil {
		in.Files = append([]values.File{*base}, in.Files...)
		if config, err = values.Resolve(in); err != nil {
			return nil, err
		}
	}
	return config, r.onlyOne(ctx, u)
}

// standsFor tells which installation a resource is about, as far as that can be
// told of one that is wrong: a revision, and the addition to it.
func standsFor(u *unstructured.Unstructured) (revision, addition string) {
	on := func(component string) bool {
		if v, ok, _ := unstructured.NestedBool(u.Object, "spec", "components", component, "enabled"); ok {
			return v
		}
		profile, _, _ := unstructured.NestedString(u.Object, "spec", "profile")
		return profile != "empty" // every other one has both
	}
	if !on("base") && !on("pilot") {
		addition = u.GetName()
	}
	revision, _, _ = unstructured.NestedString(u.Object, "spec", "revision")
	return cmp.Or(revision, api.DefaultRevision), addition
}

// onlyOne refuses a second resource for one revision, or one addition to it: the
// two would undo each other's work. The older one counts.
func (r *reconciler) onlyOne(ctx context.Context, u *unstructured.Unstructured) error {
	revision, addition := standsFor(u)
	list, err := r.list(ctx)
	if err != nil {
		return err
	}

	for _, other := range list {
		rev, add := standsFor(&other)
		if other.GetUID() == u.GetUID() || rev != revision || add != addition {
			continue
		}
		first, second := other.GetCreationTimestamp(), u.GetCreationTimestamp()
		if first.Before(&second) || first.Equal(&second) && other.GetUID() < u.GetUID() {
			return fmt.Errorf("revision %q is described by IstioOperator %s/%s already; give this one another spec.revision, or delete one of them",
				revision, other.GetNamespace(), other.GetName())
		}
	}

	return nil
}

// install applies what the resource stands for and looks how it fares.
func (r *reconciler) install(ctx context.Context, u *unstructured.Unstructured, config *values.Config) (status, error) {
	objs, err := render.Render(config, r.config.Charts)
	if err != nil {
		return status{}, err
	}

	desired, err := apply.NewDesired(config, objs, r.config.Version)
	if err != nil {
		return status{}, err
	}

	plan, err := r.applier.Plan(ctx, desired)
	if err != nil {
		return status{}, err
	}

	if n := plan.Changes(); n > 0 {
		r.config.Logger.Info("applying", "resource", u.GetNamespace()+"/"+u.GetName(), "create", plan.Count(apply.Create),
			"change", plan.Count(apply.Change), "delete", plan.Count(apply.Delete))
	}
	// Not waited for: the status tells how it goes, and other resources have
	// their turn meanwhile.
	if err := r.applier.Run(ctx, plan, apply.Options{NoWait: true, Timeout: time.Minute}); err != nil {
		return status{}, err
	}

	results, err := verify.Objects(ctx, r.applier, objs)
	if err != nil {
		return status{}, err
	}
	return summary(objs, results), nil
}

// remove takes out what the resource stood for, and lets it go.
func (r *reconciler) remove(ctx context.Context, u *unstructured.Unstructured) error {
	if !slices.Contains(u.GetFinalizers(), Finalizer) {
		return nil
	}

	// One that was refused for another stands for nothing.
	if r.onlyOne(ctx, u) == nil {
		revision, addition := standsFor(u)
		r.config.Logger.Info("removing", "resource", u.GetNamespace()+"/"+u.GetName(), "revision", revision, "addition", addition)
		if err := r.uninstall(ctx, revision, addition); err != nil {
			return err
		}
	}
	controllerutil.RemoveFinalizer(u, Finalizer)
	return client.IgnoreNotFound(r.client.Update(ctx, u))
}

func (r *reconciler) uninstall(ctx context.Context, revision, addition string) error {
	invs, err := r.applier.Inventories(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(invs, func(inv apply.Inventory) bool { return inv.Revision == revision && inv.Addition == addition }) {
		return nil
	}

	removal, err := r.applier.PlanRemoval(ctx, revision, addition, false)
	if err != nil {
		return err
	}
	return r.applier.Remove(ctx, removal, apply.Options{Timeout: removeTimeout})
}

// report writes the status, unless it is what is there.
func (r *reconciler) report(ctx context.Context, u *unstructured.Unstructured, st status) error {
	want := st.object(u.GetGeneration())

	// Each look ends here, and most find nothing new.
	have, _, _ := unstructured.NestedMap(u.Object, "status")
	if reflect.DeepEqual(want, have) {
		return nil
	}
	if st.Status == statusError {
		r.config.Logger.Error("cannot reconcile", "resource", u.GetNamespace()+"/"+u.GetName(), "error", st.Message)
	}
	u.Object["status"] = want
	return r.client.Status().Update(ctx, u)
}

// overtaken turns a write that another one overtook into a second look, soon.
// The other write need not bring one by itself: one that changes only labels or
// the status is no event here.
func overtaken(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: afterConflict}, nil
	}
	return ctrl.Result{}, err
}
