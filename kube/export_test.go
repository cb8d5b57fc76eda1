package kube

import (
	"context"
	"log/slog"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	fakediscovery "k8s.io/client-go/discovery/fake"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/isthmus-mesh/isthmus/model"
)

// export makes a ServiceExport.
func export(namespace, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport"}}
	u.SetNamespace(namespace)
	u.SetName(name)
	u.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	return u
}

// TestExports: what a cluster exports are rows, whether there is such a Service or
// not, for as long as it does.
func TestExports(t *testing.T) {
	c := newCluster(t)
	exports := c.dyn.Resource(exportsResource).Namespace("shop")
	web, err := exports.Create(t.Context(), export("shop", "web"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	row := func(txn model.ReadTxn) *model.Export {
		e, _, _ := c.store.Exports.Get(txn, c.store.Exports.ByKey(model.ExportKey("c1", "shop", "web")))
		return e
	}
	c.eventually("the row", func(txn model.ReadTxn) bool {
		e := row(txn)
		return e != nil && e.Created.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	})

	web = web.DeepCopy()
	web.SetFinalizers([]string{"example.com/slow"})
	web.SetDeletionTimestamp(&metav1.Time{Time: time.Now()})
	if _, err := exports.Update(t.Context(), web, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("no row of what is being deleted", func(txn model.ReadTxn) bool { return row(txn) == nil })
}

// TestExportsMayBeRefused: an account that may not read what a cluster exports
// reads all else.
func TestExportsMayBeRefused(t *testing.T) {
	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	k := fake.NewClientset(shop()...)
	k.Discovery().(*fakediscovery.FakeDiscovery).Resources = []*metav1.APIResourceList{{
		GroupVersion: "multicluster.x-k8s.io/v1beta1",
		APIResources: []metav1.APIResource{{Name: "serviceexports", Kind: "ServiceExport", Namespaced: true}},
	}}
	dyn := fakedynamic.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{exportsResource: "ServiceExportList"})
	dyn.PrependReactor("list", "serviceexports", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(exportsResource.GroupResource(), "", nil)
	})

	r, err := NewReader(store, Clients{Kube: k, Dynamic: dyn}, Config{Cluster: "far", Remote: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	c := &cluster{t: t, store: store}
	c.eventually("the cluster is read", func(txn model.ReadTxn) bool {
		row, _, ok := store.Clusters.Get(txn, store.Clusters.ByKey("far"))
		return ok && row.Synced && store.Services.NumObjects(txn) == 1
	})
}
