package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// The Multi-Cluster Services API, whose ServiceExports say which Services a cluster
// offers to all others. They are read from every cluster, remote ones too: they
// belong to the Services and not to the configuration.

// GroupMultiCluster is the API's group.
const GroupMultiCluster = "multicluster.x-k8s.io"

// exportKind is where ServiceExports are served.
func exportKind() configKind {
	return configKind{
		kind: kindExport, api: "ServiceExport", group: GroupMultiCluster, resource: "serviceexports", mayBeRefused: true,
	}
}

// writeExport writes the row of a ServiceExport, with what the Service of its name
// says: it is to be called when one of the two has changed.
func (r *Reader) writeExport(txn model.WriteTxn, namespace, name string) {
	row := &model.Export{Cluster: r.cfg.Cluster, Namespace: namespace, Name: name}
	u, _ := r.kinds.get(ref{kindExport, namespace, name})
	// One that is being deleted no longer offers anything (KEP-1645, Exporting
	// Services).
	if u == nil || u.GetDeletionTimestamp() != nil {
		r.store.Exports.Remove(txn, row.Key())
		return
	}

	row.Created = u.GetCreationTimestamp().UTC()
	row.UID, row.Generation = string(u.GetUID()), u.GetGeneration()
	for _, field := range []string{"exportedLabels", "exportedAnnotations"} {
		given, _, err := unstructured.NestedMap(u.Object, "spec", field)
		row.Labelled = row.Labelled || err == nil && len(given) > 0
	}
	if svc, ok := lookup[*corev1.Service](r.builtins.services, namespace, name); ok {
		row.Offer = compile.Offer(svc)
	}
	r.store.Exports.Put(txn, row)
}
