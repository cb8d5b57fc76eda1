package clusterset

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	fakediscovery "k8s.io/client-go/discovery/fake"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
)

var exportsResource = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceexports"}

// exporters are clusters with ServiceExports, and an ExportWriter for them.
type exporters struct {
	*testing.T
	clusters map[model.ClusterID]*fakedynamic.FakeDynamicClient
	writer   *ExportWriter
	now      time.Time
	log      bytes.Buffer
}

// newExporters makes clusters each of which exports shop/web.
func newExporters(t *testing.T, names ...model.ClusterID) *exporters {
	e := &exporters{T: t, clusters: map[model.ClusterID]*fakedynamic.FakeDynamicClient{}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	k := fake.NewClientset()
	k.Discovery().(*fakediscovery.FakeDiscovery).Resources = []*metav1.APIResourceList{{
		GroupVersion: exportsResource.GroupVersion().String(),
		APIResources: []metav1.APIResource{{Name: "serviceexports", Kind: "ServiceExport", Namespaced: true}},
	}}
	for _, name := range names {
		e.clusters[name] = fakedynamic.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
			map[schema.GroupVersionResource]string{exportsResource: "ServiceExportList"}, exportOf("web"))
	}
	clients := func(c model.ClusterID) kube.Clients {
		if e.clusters[c] == nil {
			return kube.Clients{}
		}
		return kube.Clients{Kube: k, Dynamic: e.clusters[c]}
	}
	e.writer = NewExportWriter(clients, nil, slog.New(slog.NewTextHandler(&e.log, nil)))
	e.writer.now = func() time.Time { return e.now }
	e.writer.targets = map[model.ClusterID]*target{}
	return e
}

func exportOf(name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport"}}
	u.SetNamespace("shop")
	u.SetName(name)
	u.SetUID("uid-" + types.UID(name))
	return u
}

// state is what is to be said of shop/web of a cluster.
func state(c model.ClusterID, conditions ...model.Condition) model.ExportState {
	return model.ExportState{Cluster: c, Namespace: "shop", Name: "web", UID: "uid-web", Generation: 2, Conditions: conditions}
}

func valid(holds bool) model.Condition {
	return model.Condition{Type: "Valid", Holds: holds, Reason: "Because", Message: "so it is"}
}

// conditions are those of shop/web in a cluster, by type.
func (e *exporters) conditions(c model.ClusterID) map[string]map[string]any {
	e.Helper()
	u, err := e.clusters[c].Resource(exportsResource).Namespace("shop").Get(e.Context(), "web", metav1.GetOptions{})
	if err != nil {
		e.Fatal(err)
	}
	list, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		e.Fatal(err)
	}
	out := map[string]map[string]any{}
	for _, item := range list {
		m := item.(map[string]any)
		out[m["type"].(string)] = m
	}
	return out
}

// patches counts those that a cluster has had.
func (e *exporters) patches(c model.ClusterID) (n int) {
	for _, a := range e.clusters[c].Actions() {
		if a.GetVerb() == "patch" {
			n++
		}
	}
	return n
}

// TestConditionsAreWritten: in the cluster of each export, once for each change, and
// with the time at which they turned.
func TestConditionsAreWritten(t *testing.T) {
	e := newExporters(t, "c1", "c2")
	e.writer.round(t.Context(), []model.ExportState{state("c1", valid(true)), state("c2", valid(false))})
	for c, status := range map[model.ClusterID]string{"c1": "True", "c2": "False"} {
		want := map[string]any{
			"type": "Valid", "status": status, "reason": "Because", "message": "so it is",
			"observedGeneration": int64(2), "lastTransitionTime": "2026-01-01T00:00:00Z",
		}
		if got := e.conditions(c)["Valid"]; !reflect.DeepEqual(got, want) {
			t.Errorf("in %s it is said %v, want %v", c, got, want)
		}
	}

	// The same again, and on patrol, costs no writing.
	for range 3 {
		e.now = e.now.Add(patrol)
		e.writer.round(t.Context(), []model.ExportState{state("c1", valid(true)), state("c2", valid(false))})
	}
	if e.patches("c1") != 1 || e.patches("c2") != 1 {
		t.Errorf("%d and %d writes of one thing", e.patches("c1"), e.patches("c2"))
	}

	// Other words are no turn; another status is.
	e.now = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	reworded := valid(true)
	reworded.Message = "still so"
	e.writer.round(t.Context(), []model.ExportState{state("c1", reworded), state("c2", valid(true))})
	if got := e.conditions("c1")["Valid"]; got["message"] != "still so" || got["lastTransitionTime"] != "2026-01-01T00:00:00Z" {
		t.Errorf("after other words it is said %v", got)
	}
	if got := e.conditions("c2")["Valid"]; got["status"] != "True" || got["lastTransitionTime"] != "2026-01-02T00:00:00Z" {
		t.Errorf("after a turn it is said %v", got)
	}
}

// TestConditionsOfOthersStay: those of types that are not ours.
func TestConditionsOfOthersStay(t *testing.T) {
	e := newExporters(t, "c1")
	u := exportOf("web")
	theirs := map[string]any{"type": "example.com/Seen", "status": "True", "reason": "Yes", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"}
	if err := unstructured.SetNestedSlice(u.Object, []any{theirs}, "status", "conditions"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.clusters["c1"].Resource(exportsResource).Namespace("shop").Update(t.Context(), u, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.writer.round(t.Context(), []model.ExportState{state("c1", valid(true))})
	got := e.conditions("c1")
	if !reflect.DeepEqual(got["example.com/Seen"], theirs) || got["Valid"]["status"] != "True" {
		t.Errorf("the conditions are %v", got)
	}
}

// TestUnsureConditionsYield: to what somebody has said who may know better, but not
// to what was said here before.
func TestUnsureConditionsYield(t *testing.T) {
	conflict := model.Condition{Type: "Conflict", Holds: true, Reason: "PortConflict", Message: "80"}
	none := model.Condition{Type: "Conflict", Reason: "NoConflicts", Unsure: true}
	e := newExporters(t, "c1")
	e.writer.round(t.Context(), []model.ExportState{state("c1", conflict)})

	// Another process, which does not know.
	e.writer.targets = map[model.ClusterID]*target{}
	e.writer.round(t.Context(), []model.ExportState{state("c1", none)})
	if got := e.conditions("c1")["Conflict"]; got["status"] != "True" {
		t.Errorf("the conflict that another knows of has become %v", got)
	}

	// This one has said it, and takes it back.
	e.writer.targets = map[model.ClusterID]*target{}
	e.writer.round(t.Context(), []model.ExportState{state("c1", conflict)})
	e.writer.round(t.Context(), []model.ExportState{state("c1", none)})
	if got := e.conditions("c1")["Conflict"]; got["status"] != "False" {
		t.Errorf("a conflict that is over is %v", got)
	}
}

// TestTwoControlPlanesThatDisagree write when they change their minds, and not
// because the other has written.
func TestTwoControlPlanesThatDisagree(t *testing.T) {
	e := newExporters(t, "c1")
	other := NewExportWriter(e.writer.clients, nil, slog.New(slog.DiscardHandler))
	other.now, other.targets = e.writer.now, map[model.ClusterID]*target{}
	for range 20 {
		e.writer.round(t.Context(), []model.ExportState{state("c1", valid(true))})
		other.round(t.Context(), []model.ExportState{state("c1", valid(false))})
		e.now = e.now.Add(pause)
	}
	if n := e.patches("c1"); n != 2 {
		t.Errorf("%d writes by two", n)
	}
}

// TestWhatIsNotAllowedIsSaidOnce: an account of an older version may not write; the
// other clusters are written all the same.
func TestWhatIsNotAllowedIsSaidOnce(t *testing.T) {
	e := newExporters(t, "c1", "c2")
	e.clusters["c2"].PrependReactor("patch", "serviceexports", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(exportsResource.GroupResource(), "web", nil)
	})
	for i := range 30 {
		// Something new each time.
		c := valid(i%2 == 0)
		e.writer.round(t.Context(), []model.ExportState{state("c1", c), state("c2", c)})
		e.now = e.now.Add(pause)
	}
	if n := e.patches("c1"); n != 30 {
		t.Errorf("%d writes where it is allowed", n)
	}
	if n := e.patches("c2"); n != 1 {
		t.Errorf("%d attempts where it is not", n)
	}
	if n := strings.Count(e.log.String(), "may not patch serviceexports/status"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, &e.log)
	}
	if got := e.writer.Refused(); !slices.Equal(slices.Collect(maps.Keys(got)), []model.ClusterID{"c2"}) {
		t.Errorf("refused are %v", got)
	}

	// On patrol it is tried again, and may have been allowed meanwhile.
	e.clusters["c2"].ReactionChain = e.clusters["c2"].ReactionChain[1:]
	e.now = e.now.Add(patrol)
	e.writer.round(t.Context(), []model.ExportState{state("c1", valid(true)), state("c2", valid(true))})
	if got := e.conditions("c2")["Valid"]; got["status"] != "True" || len(e.writer.Refused()) != 0 {
		t.Errorf("it is said %v, refused are %v", got, e.writer.Refused())
	}
}

// TestFailuresWait: what failed is tried again in its time, and a cluster that is
// taken out is forgotten.
func TestFailuresWait(t *testing.T) {
	e := newExporters(t, "c1")
	broken := true
	e.clusters["c1"].PrependReactor("patch", "serviceexports", func(clienttesting.Action) (bool, runtime.Object, error) {
		return broken, nil, apierrors.NewInternalError(errors.New("broken"))
	})
	e.writer.round(t.Context(), []model.ExportState{state("c1", valid(true)), state("gone", valid(true))})
	e.writer.round(t.Context(), []model.ExportState{state("c1", valid(true)), state("gone", valid(true))})
	if n := e.patches("c1"); n != 1 {
		t.Errorf("%d attempts at once", n)
	}
	if !strings.Contains(e.log.String(), "cluster=gone error=\"there is no way to the API server\"") {
		t.Errorf("it is said\n%s", &e.log)
	}

	broken = false
	e.now = e.now.Add(again)
	e.writer.round(t.Context(), []model.ExportState{state("c1", valid(true))})
	if got := e.conditions("c1")["Valid"]; got["status"] != "True" {
		t.Errorf("it is said %v", got)
	}
	if len(e.writer.targets) != 1 {
		t.Errorf("%d clusters are kept in mind", len(e.writer.targets))
	}
}

// TestAnotherOfTheName: what was found out of an export that is gone is not said of
// the one that has taken its place.
func TestAnotherOfTheName(t *testing.T) {
	e := newExporters(t, "c1")
	s := state("c1", valid(true))
	s.UID = "another"
	e.writer.round(t.Context(), []model.ExportState{s})
	if n := e.patches("c1"); n != 0 {
		t.Errorf("%d writes", n)
	}
}
