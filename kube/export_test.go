package kube

import (
	"context"
	"log/slog"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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

// TestExportsSayWhatTheServiceSays: all of it, the mesh's or not, and as it changes.
func TestExportsSayWhatTheServiceSays(t *testing.T) {
	seconds, h2c := int32(10), "kubernetes.io/h2c"
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "dns"},
		Spec: corev1.ServiceSpec{
			ClusterIP:       "10.96.0.53",
			Ports:           []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}},
			SessionAffinity: corev1.ServiceAffinityClientIP,
			SessionAffinityConfig: &corev1.SessionAffinityConfig{
				ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds},
			},
		},
	}
	c := newCluster(t, svc)
	offered := export("shop", "dns")
	offered.SetUID("u1")
	offered.SetGeneration(3)
	if err := unstructured.SetNestedStringMap(offered.Object, map[string]string{"a": "b"}, "spec", "exportedLabels"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.dyn.Resource(exportsResource).Namespace("shop").Create(t.Context(), offered, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	becomes := func(what string, offer *model.Offer) {
		t.Helper()
		c.eventually(what, func(txn model.ReadTxn) bool {
			e, _, _ := c.store.Exports.Get(txn, c.store.Exports.ByKey(model.ExportKey("c1", "shop", "dns")))
			return e != nil && e.UID == "u1" && e.Generation == 3 && e.Labelled && reflect.DeepEqual(e.Offer, offer)
		})
	}
	becomes("the Service as it is", &model.Offer{
		Ports:    []model.ServicePort{{Name: "dns", Number: 53, Transport: "UDP"}},
		Affinity: model.Affinity{ByClientIP: true, Timeout: 10},
	})

	svc = svc.DeepCopy()
	svc.Spec.ClusterIP, svc.Spec.SessionAffinity, svc.Spec.SessionAffinityConfig = corev1.ClusterIPNone, corev1.ServiceAffinityNone, nil
	svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "web", Port: 80, AppProtocol: &h2c})
	if _, err := c.kube.CoreV1().Services("shop").Update(t.Context(), svc, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	becomes("the Service as it is now", &model.Offer{
		Headless: true,
		Ports:    []model.ServicePort{{Name: "dns", Number: 53, Transport: "UDP"}, {Name: "web", Number: 80, Transport: "TCP", AppProtocol: h2c}},
	})

	svc = svc.DeepCopy()
	svc.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}
	if _, err := c.kube.CoreV1().Services("shop").Update(t.Context(), svc, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	becomes("a name for something else", &model.Offer{Alias: true})

	if err := c.kube.CoreV1().Services("shop").Delete(t.Context(), "dns", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	becomes("no Service", nil)
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
