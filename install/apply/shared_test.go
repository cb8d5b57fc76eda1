package apply

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/isthmus-mesh/isthmus/install/render"
)

const exportsCRD = "serviceexports.multicluster.x-k8s.io"

// crd is a CRD in a version of its own, with labels.
func crd(name, version string, labels map[string]string) render.Object {
	o := render.Object{Component: render.Base, Unstructured: &unstructured.Unstructured{Object: m{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": m{"name": name}, "spec": m{"versions": []any{m{"name": version}}},
	}}}
	o.SetLabels(labels)
	return o
}

func ourCRD(name, version string) render.Object {
	return crd(name, version, map[string]string{render.ManagedByLabel: "isthmus"})
}

// crdCluster is a cluster that has one CRD; nil for none.
func crdCluster(live *unstructured.Unstructured) (*Client, *dynamicfake.FakeDynamicClient) {
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	var objs []runtime.Object
	if live != nil {
		objs = append(objs, live)
	}
	dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		crds: "CustomResourceDefinitionList",
	}, objs...)
	dyn.PrependReactor("patch", crds.Resource, func(a clienttesting.Action) (bool, runtime.Object, error) {
		u := &unstructured.Unstructured{}
		err := u.UnmarshalJSON(a.(clienttesting.PatchAction).GetPatch())
		return true, u, err
	})
	return &Client{dyn: dyn, kube: fake.NewClientset()}, dyn
}

// TestSharedCRDsAreNotTakenOver: CRDs of an API that others implement, too, are made
// where there are none, and changed where they are ours. What somebody else has
// installed stays, newer or older; and it is in no inventory, so that it does not go
// with us.
func TestSharedCRDsAreNotTakenOver(t *testing.T) {
	mine := []Inventory{{Revision: "default", Namespace: "istio-system", Entries: []Entry{entryOf(ourCRD(exportsCRD, "v1"))}}}
	canary := []Inventory{{Revision: "canary", Namespace: "istio-system", Entries: []Entry{entryOf(ourCRD(exportsCRD, "v1"))}}}
	theirs := crd(exportsCRD, "v1", map[string]string{"multicluster.x-k8s.io/release-version": "v0.9.0"})
	for _, tt := range []struct {
		name      string
		want      render.Object
		live      *unstructured.Unstructured
		installed []Inventory
		action    Action
		listed    bool // in the inventory afterwards
	}{
		{name: "there is none", want: ourCRD(exportsCRD, "v2"), action: Create, listed: true},
		{name: "another's", want: ourCRD(exportsCRD, "v2"), live: theirs.Unstructured, action: Leave},
		{name: "ours, applied by hand", want: ourCRD(exportsCRD, "v2"), live: ourCRD(exportsCRD, "v1").Unstructured, action: Change, listed: true},
		{name: "ours", want: ourCRD(exportsCRD, "v2"), live: ourCRD(exportsCRD, "v1").Unstructured, installed: mine, action: Change, listed: true},
		{name: "ours by another revision", want: ourCRD(exportsCRD, "v2"), live: ourCRD(exportsCRD, "v1").Unstructured, installed: canary, action: Change, listed: true},
		{name: "another's in the place of ours", want: ourCRD(exportsCRD, "v2"), live: theirs.Unstructured, installed: mine, action: Leave},
		{
			name: "the mesh's own kind", want: ourCRD("gateways.networking.istio.io", "v2"),
			live: crd("gateways.networking.istio.io", "v1", nil).Unstructured, action: Change, listed: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, dyn := crdCluster(tt.live)
			for _, inv := range tt.installed {
				if err := client.save(t.Context(), inv); err != nil {
					t.Fatal(err)
				}
			}
			desired := Desired{Revision: "default", Namespace: "istio-system", Objects: []render.Object{tt.want}}
			plan, err := client.Plan(t.Context(), desired)
			if err != nil {
				t.Fatal(err)
			}
			if s := plan.Steps[0]; s.Action != tt.action {
				t.Errorf("the plan is to %s it, want %s", s.Action, tt.action)
			}
			if left := tt.action == Leave; left != (plan.Changes() == 0) {
				t.Errorf("%d changes", plan.Changes())
			}

			if tt.action == Leave {
				if err := client.Run(t.Context(), plan, Options{}); err != nil {
					t.Fatal(err)
				}
				if slices.ContainsFunc(dyn.Actions(), func(a clienttesting.Action) bool { return a.GetVerb() == "patch" }) {
					t.Error("it was written, or tried to be")
				}
			}
			inv := (&run{client: client, plan: plan}).inventory()
			if listed := inv.entry(entryOf(tt.want)) != nil; listed != tt.listed {
				t.Errorf("it is in the inventory: %t, want %t", listed, tt.listed)
			}
		})
	}
}
