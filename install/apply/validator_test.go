package apply

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/render"
)

// validatorOf is the default validator as a revision renders it.
func validatorOf(revision, policy string) render.Object {
	service := "istiod"
	if revision != api.DefaultRevision {
		service += "-" + revision
	}
	return object("ValidatingWebhookConfiguration", defaultValidator, m{
		"apiVersion": "admissionregistration.k8s.io/v1",
		"metadata":   m{"name": defaultValidator, "labels": m{api.LabelRevision: revision}},
		"webhooks": []any{m{
			"name": "validation.istio.io", "failurePolicy": policy,
			"clientConfig": m{"service": m{"name": service, "namespace": "istio-system"}},
		}},
	})
}

// validatorCluster is a cluster with the Services of revisions, whose default
// validator is the last one that was applied.
func validatorCluster(t *testing.T, live *unstructured.Unstructured, services ...string) *Client {
	t.Helper()
	var objs []runtime.Object
	for _, name := range services {
		service := object("Service", name, nil)
		service.SetAPIVersion("v1")
		service.SetNamespace("istio-system")
		objs = append(objs, service.Unstructured)
	}
	hooks := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}
	dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		hooks: "ValidatingWebhookConfigurationList",
	}, objs...)
	dyn.PrependReactor("get", hooks.Resource, func(clienttesting.Action) (bool, runtime.Object, error) {
		if live == nil {
			return false, nil, nil
		}
		return true, live.DeepCopy(), nil
	})
	dyn.PrependReactor("patch", hooks.Resource, func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch := action.(clienttesting.PatchActionImpl)
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(patch.Patch); err != nil {
			return true, nil, err
		}
		if len(patch.PatchOptions.DryRun) == 0 {
			live = u
		}
		return true, u.DeepCopy(), nil
	})
	return &Client{dyn: dyn, kube: fake.NewClientset()}
}

// installedRevision puts the inventory of a revision into the cluster.
func installedRevision(t *testing.T, c *Client, revision string) {
	t.Helper()
	o := validatorOf(revision, "Ignore")
	e := entryOf(o)
	e.Intent = o.Unstructured
	inv := Inventory{Revision: revision, Namespace: "istio-system", Entries: []Entry{e}}
	if err := c.save(t.Context(), inv); err != nil {
		t.Fatal(err)
	}
}

// TestDefaultValidatorHasOneRevision: it calls the default revision, which takes
// it from any other; between others, whoever has it keeps it, until his Service
// is gone.
func TestDefaultValidatorHasOneRevision(t *testing.T) {
	for name, c := range map[string]struct {
		live     *unstructured.Unstructured
		services []string
		revision string
		want     Action
		calls    string
	}{
		"nobody has it": {
			nil, nil, "canary", Create, "istiod-canary",
		},
		"another comes": {
			validatorOf("default", "Fail").Unstructured, []string{"istiod"}, "canary", Keep, "istiod",
		},
		"a third comes": {
			validatorOf("blue", "Fail").Unstructured, []string{"istiod-blue"}, "canary", Keep, "istiod-blue",
		},
		"the default comes": {
			validatorOf("canary", "Fail").Unstructured, []string{"istiod-canary"}, "default", Change, "istiod",
		},
		"whom it called is gone": {
			validatorOf("blue", "Fail").Unstructured, nil, "canary", Change, "istiod-canary",
		},
	} {
		client := validatorCluster(t, c.live, c.services...)
		plan, err := client.Plan(t.Context(), Desired{Revision: c.revision, Namespace: "istio-system",
			Objects: []render.Object{validatorOf(c.revision, "Ignore")}})
		if err != nil {
			t.Fatal(err)
		}
		s := plan.Steps[0]
		if s.Action != c.want || called(s.intent).Name != c.calls {
			t.Errorf("%s: %s, calls %s; want %s, %s", name, s.Action, called(s.intent), c.want, c.calls)
		}
		hooks, _, _ := unstructured.NestedSlice(s.intent.Object, "webhooks")
		if policy := hooks[0].(m)["failurePolicy"]; s.Action != Keep && policy != "Ignore" {
			t.Errorf("%s: failurePolicy %s before the control plane answers", name, policy)
		}
		if own := plan.Steps[0].rendered; called(own).Name == "" || own.GetLabels()[api.LabelRevision] != c.revision {
			t.Errorf("%s: the inventory forgets what the revision itself would have", name)
		}
	}
}

// TestDefaultValidatorIsHandedOver: when the revision that it calls goes, or has
// no control plane any more, it calls one that stays.
func TestDefaultValidatorIsHandedOver(t *testing.T) {
	live := func(t *testing.T, c *Client) *unstructured.Unstructured {
		t.Helper()
		u, err := c.Get(t.Context(), validatorOf("default", "").GroupVersionKind(), "", defaultValidator)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	cluster := func(t *testing.T) *Client {
		c := validatorCluster(t, validatorOf("default", "Fail").Unstructured, "istiod", "istiod-canary", "istiod-blue")
		installedRevision(t, c, "default")
		installedRevision(t, c, "canary")
		return c
	}
	t.Run("removal", func(t *testing.T) {
		c := cluster(t)
		removal, err := c.PlanRemoval(t.Context(), "default", "", false)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(removal.Kept, func(s string) bool { return strings.Contains(s, "calls revision canary from now on") }) {
			t.Errorf("the plan does not say so: %q", removal.Kept)
		}
		if err := c.Remove(t.Context(), removal, Options{}); err != nil {
			t.Fatal(err)
		}
		if got := called(live(t, c)).Name; got != "istiod-canary" {
			t.Errorf("calls %s", got)
		}
	})
	t.Run("removal of the one that is not called", func(t *testing.T) {
		c := cluster(t)
		removal, err := c.PlanRemoval(t.Context(), "canary", "", false)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Remove(t.Context(), removal, Options{}); err != nil {
			t.Fatal(err)
		}
		if got := called(live(t, c)).Name; got != "istiod" {
			t.Errorf("calls %s", got)
		}
	})
	t.Run("an installation without control plane", func(t *testing.T) {
		c := cluster(t)
		plan, err := c.Plan(t.Context(), Desired{Revision: "default", Namespace: "istio-system"})
		if err != nil {
			t.Fatal(err)
		}
		r := &run{client: c, plan: plan}
		if err := r.prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := called(live(t, c)).Name; got != "istiod-canary" {
			t.Errorf("calls %s", got)
		}
		if e := entryOf(validatorOf("default", "")); func() bool { inv := r.inventory(); return inv.entry(e) != nil }() {
			t.Error("the inventory still has what is another revision's")
		}
	})
}
