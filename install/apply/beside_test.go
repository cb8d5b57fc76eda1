package apply

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/values"
)

// accountNamed is a small object for an inventory.
func accountNamed(name string) render.Object {
	return render.Object{Component: render.Pilot, Unstructured: &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"namespace": "istio-system", "name": name},
	}}}
}

// besideCluster has a control plane, and a gateway that was installed beside it.
func besideCluster(t *testing.T) *Client {
	t.Helper()
	var objs []runtime.Object
	for _, name := range []string{"istiod", "gateway"} {
		objs = append(objs, &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name}})
	}
	c := &Client{dyn: dynamicfake.NewSimpleDynamicClient(scheme.Scheme, objs...), kube: fake.NewClientset()}
	for addition, name := range map[string]string{"": "istiod", "eastwest": "gateway"} {
		o := accountNamed(name)
		e := entryOf(o)
		e.Intent = o.Unstructured
		e.Hash, _ = hashOf(o.Unstructured)
		inv := Inventory{Revision: "default", Addition: addition, Namespace: "istio-system", Entries: []Entry{e},
			Spec: "hub: h\nprofile: default\ncomponents: {pilot: {enabled: true}}\nmeshConfig: {trustDomain: td}\nvalues: {global: {network: n1, multiCluster: {clusterName: main0}}, pilot: {image: x}}"}
		if err := c.save(t.Context(), inv); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestAdditionStandsBeside: what is installed by a file of its own takes nothing
// of the control plane away, nor the other way round.
func TestAdditionStandsBeside(t *testing.T) {
	c := besideCluster(t)
	for _, d := range []Desired{
		{Revision: "default", Namespace: "istio-system", Objects: []render.Object{accountNamed("istiod")}},
		{Revision: "default", Namespace: "istio-system", Addition: "eastwest", Objects: []render.Object{accountNamed("gateway")}},
		{Revision: "default", Namespace: "istio-system", Addition: "another"},
	} {
		plan, err := c.Plan(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if n := plan.Count(Delete); n > 0 {
			t.Errorf("addition %q deletes %d objects", d.Addition, n)
		}
	}

	// A gateway that is no longer wanted goes with its own file.
	plan, err := c.Plan(t.Context(), Desired{Revision: "default", Namespace: "istio-system", Addition: "eastwest"})
	if err != nil || plan.Count(Delete) != 1 || plan.Steps[0].Entry.Name != "gateway" {
		t.Errorf("%v, %+v", err, plan.Steps)
	}
}

// TestAdditionIsRemoved: alone when it is named, else with its revision.
func TestAdditionIsRemoved(t *testing.T) {
	c := besideCluster(t)
	for addition, want := range map[string]string{"eastwest": "gateway", "": "istiod gateway", "none": ""} {
		removal, err := c.PlanRemoval(t.Context(), "default", addition, false)
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "none of revision default is not installed; installed are: revision default, eastwest of revision default") {
				t.Errorf("an addition that is not there: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range removal.Entries {
			got = append(got, e.Name)
		}
		names := strings.Fields(want)
		slices.Sort(got)
		slices.Sort(names)
		if !slices.Equal(got, names) {
			t.Errorf("removing %q takes %q, want %q", addition, got, names)
		}
	}

	removal, err := c.PlanRemoval(t.Context(), "default", "eastwest", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, inv := range removal.inventories {
		if err := c.forget(t.Context(), inv); err != nil {
			t.Fatal(err)
		}
	}
	if invs, err := c.Inventories(t.Context()); err != nil || len(invs) != 1 || invs[0].Addition != "" {
		t.Errorf("left are %+v, %v", invs, err)
	}
}

// TestBeside: an addition has the mesh's settings, and of the control plane's
// components nothing.
func TestBeside(t *testing.T) {
	c := besideCluster(t)
	addition := values.File{Name: "f", Data: []byte("apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: eastwest}\nspec: {profile: empty, values: {global: {network: n2}}}")}
	config, err := values.Resolve(values.Input{Files: []values.File{addition}, Hub: "own", Tag: "v"})
	if err != nil || config.Addition != "eastwest" {
		t.Fatalf("%+v, %v", config, err)
	}
	base, err := c.Beside(t.Context(), config)
	if err != nil || base == nil {
		t.Fatalf("%v, %v", base, err)
	}
	config, err = values.Resolve(values.Input{Files: []values.File{*base, addition}, Hub: "own", Tag: "v"})
	if err != nil {
		t.Fatal(err)
	}
	global := config.Spec.Values.Global
	if config.Addition != "eastwest" || config.Spec.Hub != "h" || config.ClusterName() != "main0" || global.Network != "n2" || global.TrustDomain != "td" ||
		config.Spec.Components.Pilot.On() || config.Spec.Values.Pilot.Image != "" {
		t.Errorf("the addition is %+v", config.Spec)
	}

	for name, in := range map[string]values.Input{
		"a control plane": {},
		"without a name":  {Sets: []string{"profile=empty"}},
	} {
		config, err := values.Resolve(in)
		if err != nil {
			t.Fatal(err)
		}
		if base, err := c.Beside(t.Context(), config); base != nil || err != nil {
			t.Errorf("%s is laid over %v, %v", name, base, err)
		}
	}
}
