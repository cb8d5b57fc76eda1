package clusterset

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	fakediscovery "k8s.io/client-go/discovery/fake"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
)

var importsResource = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceimports"}

// stage is a cluster with ServiceImports, and a Writer for it.
type stage struct {
	*testing.T
	dyn    *fakedynamic.FakeDynamicClient
	writer *Writer
}

func newStage(t *testing.T, objects ...runtime.Object) *stage {
	k := fake.NewClientset()
	k.Discovery().(*fakediscovery.FakeDiscovery).Resources = []*metav1.APIResourceList{{
		GroupVersion: importsResource.GroupVersion().String(),
		APIResources: []metav1.APIResource{{Name: "serviceimports", Kind: "ServiceImport", Namespaced: true}},
	}}
	dyn := fakedynamic.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{importsResource: "ServiceImportList"}, objects...)
	return &stage{T: t, dyn: dyn, writer: NewWriter(kube.Clients{Kube: k, Dynamic: dyn}, nil, slog.New(slog.DiscardHandler))}
}

func (s *stage) write(in model.Imports) {
	s.Helper()
	if err := s.writer.write(context.Background(), in); err != nil {
		s.Fatal(err)
	}
}

// get is nil when there is no such ServiceImport.
func (s *stage) get(name string) *unstructured.Unstructured {
	s.Helper()
	u, err := s.dyn.Resource(importsResource).Namespace("shop").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		s.Fatal(err)
	}
	return u
}

func web() model.Import {
	return model.Import{
		Namespace: "shop", Name: "web", Address: netip.MustParseAddr("242.1.2.3"),
		Ports: []model.ServicePort{
			{Name: "http", Number: 80, Transport: "TCP", AppProtocol: "http"},
			{Number: 81, Transport: "UDP"},
		},
		Affinity: model.Affinity{ByClientIP: true, Timeout: 10},
		Clusters: []model.ClusterID{"c1", "c2"},
	}
}

// TestImportsAreWritten: with all that is known of them, again when that changes,
// and no longer than somebody exports.
func TestImportsAreWritten(t *testing.T) {
	s := newStage(t)
	db := model.Import{
		Namespace: "shop", Name: "db", Headless: true,
		Ports: []model.ServicePort{{Name: "tcp", Number: 5432, Transport: "TCP"}}, Clusters: []model.ClusterID{"c2"},
	}
	s.write(model.Imports{List: []model.Import{db, web()}, Complete: true})

	for name, want := range map[string]map[string]any{
		"web": {
			"spec": map[string]any{
				"type": "ClusterSetIP", "ips": []any{"242.1.2.3"},
				"ports": []any{
					map[string]any{"name": "http", "port": int64(80), "protocol": "TCP", "appProtocol": "http"},
					map[string]any{"port": int64(81), "protocol": "UDP"},
				},
				"sessionAffinity":       "ClientIP",
				"sessionAffinityConfig": map[string]any{"clientIP": map[string]any{"timeoutSeconds": int64(10)}},
			},
			"status": map[string]any{"clusters": []any{map[string]any{"cluster": "c1"}, map[string]any{"cluster": "c2"}}},
		},
		"db": {
			"spec": map[string]any{
				"type": "Headless", "sessionAffinity": "None",
				"ports": []any{map[string]any{"name": "tcp", "port": int64(5432), "protocol": "TCP"}},
			},
			"status": map[string]any{"clusters": []any{map[string]any{"cluster": "c2"}}},
		},
	} {
		got := s.get(name)
		if got == nil || !reflect.DeepEqual(got.Object["spec"], want["spec"]) || !reflect.DeepEqual(got.Object["status"], want["status"]) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}

	fewer := web()
	fewer.Ports, fewer.Clusters = fewer.Ports[:1], fewer.Clusters[1:]
	s.write(model.Imports{List: []model.Import{fewer}, Complete: true})
	if s.get("db") != nil {
		t.Error("what nobody exports any more is still there")
	}
	if got := s.get("web"); !reflect.DeepEqual(got.Object["spec"], any(specOf(&fewer))) ||
		!reflect.DeepEqual(got.Object["status"], any(map[string]any{"clusters": []any{map[string]any{"cluster": "c2"}}})) {
		t.Errorf("after a change it is %v", got)
	}

	s.dyn.ClearActions()
	s.write(model.Imports{List: []model.Import{fewer}, Complete: true})
	for _, a := range s.dyn.Actions() {
		if !slices.Contains([]string{"list", "watch"}, a.GetVerb()) {
			t.Errorf("nothing has changed, and there was %v", a)
		}
	}
}

// TestNothingGoesBeforeAllIsRead: a cluster that has yet to be read may export it.
func TestNothingGoesBeforeAllIsRead(t *testing.T) {
	s := newStage(t)
	s.write(model.Imports{List: []model.Import{web()}, Complete: true})
	s.write(model.Imports{})
	if s.get("web") == nil {
		t.Error("it is gone, though not all clusters are read")
	}
	s.write(model.Imports{Complete: true})
	if s.get("web") != nil {
		t.Error("it is still there")
	}
}

// TestImportsOfOthersStay: whether the mesh would write one of the name or not.
func TestImportsOfOthersStay(t *testing.T) {
	others := func(name string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport", "spec": map[string]any{"type": "ClusterSetIP", "ports": []any{}},
		}}
		u.SetNamespace("shop")
		u.SetName(name)
		return u
	}
	s := newStage(t, others("web"), others("db"))
	s.write(model.Imports{List: []model.Import{web()}, Complete: true})
	for _, name := range []string{"web", "db"} {
		if got := s.get(name); got == nil || !reflect.DeepEqual(got.Object, others(name).Object) {
			t.Errorf("%s is %v", name, got)
		}
	}
}
