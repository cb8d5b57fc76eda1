package clusters

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/model"
)

func exportOf(name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport"}}
	u.SetNamespace("shop")
	u.SetName(name)
	u.SetCreationTimestamp(metav1.Now())
	return u
}

// TestExportsOfRemoteClusters: they are there with the first rows of a cluster, and
// follow; a cluster that does not have the kind is read as any other.
func TestExportsOfRemoteClusters(t *testing.T) {
	w := newWorld(t)
	with, without := w.remote(), w.remote()
	exports := schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceexports"}
	with.Serve(exports, "ServiceExport")
	if err := with.Apply(exportOf("web")); err != nil {
		t.Fatal(err)
	}
	w.join("with", "with", with.Kubeconfig(""))
	w.join("without", "without", without.Kubeconfig(""))
	exported := func(c model.ClusterID, name string) bool {
		_, _, ok := w.store.Exports.Get(w.store.Read(), w.store.Exports.ByKey(model.ExportKey(c, "shop", name)))
		return ok
	}

	w.eventually("both are read", 10*time.Second, func() bool { return w.endpoints("with") != "" && w.endpoints("without") != "" })
	if !exported("with", "web") {
		t.Error("the cluster counts as read, and what it exports is not there")
	}
	if err := with.Apply(exportOf("db")); err != nil {
		t.Fatal(err)
	}
	w.eventually("the new export", 10*time.Second, func() bool { return exported("with", "db") })
	if err := with.Delete(exportOf("web")); err != nil {
		t.Fatal(err)
	}
	w.eventually("the export that ends", 10*time.Second, func() bool { return !exported("with", "web") })
}
