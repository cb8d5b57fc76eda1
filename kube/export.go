package kube

import "github.com/isthmus-mesh/isthmus/model"

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

// writeExport writes the row of a ServiceExport. All that counts of it is its
// name: what else it may hold (exportedLabels) concerns ServiceImports.
func (r *Reader) writeExport(txn model.WriteTxn, c ref) {
	row := &model.Export{Cluster: r.cfg.Cluster, Namespace: c.namespace, Name: c.name}
	u, _ := r.kinds.get(c)
	// One that is being deleted no longer offers anything (KEP-1645, Exporting
	// Services).
	if u == nil || u.GetDeletionTimestamp() != nil {
		r.store.Exports.Remove(txn, row.Key())
		return
	}
	row.Created = u.GetCreationTimestamp().UTC()
	r.store.Exports.Put(txn, row)
}
