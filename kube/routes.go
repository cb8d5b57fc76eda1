package kube

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// tellRoutes says of each VirtualService what of it others, or Gateways, leave without
// effect. That depends on all of them, so that a change of one is told of on others.
func (r *Reader) tellRoutes(txn model.ReadTxn) {
	all := r.routes(txn)
	notes := r.routeNotes(txn, all)
	for _, v := range all {
		r.tell(ref{kindVirtual, v.Namespace, v.Name}, outcome{notes: notes(v)})
	}
}

// routeNotes says what of VirtualServices changes nothing beside each other and the
// Gateways.
func (r *Reader) routeNotes(txn model.ReadTxn, all []*model.VirtualService) func(*model.VirtualService) []string {
	mesh := r.store.Mesh(txn, r.cfg.Cluster)
	inMesh := compile.RouteNotes(all, mesh.RootNamespace, r.cfg.ClusterDomain, mesh.RouteExports)
	atGateways := compile.GatewayNotes(all, r.gateways(txn))
	return func(v *model.VirtualService) []string { return slices.Concat(inMesh[v.Key()], atGateways[v.Key()]) }
}

// routes are the VirtualServices of the Reader's cluster.
func (r *Reader) routes(txn model.ReadTxn) []*model.VirtualService {
	return rowsOf(r.cfg.Cluster, r.store.Virtuals, txn)
}

// rowsOf are the rows of a table that were read from a cluster.
func rowsOf[R model.Row](c model.ClusterID, t model.Table[R], txn model.ReadTxn) []R {
	var out []R
	for row := range t.All(txn) {
		if row.ReadFrom() == c {
			out = append(out, row)
		}
	}
	return out
}

// checkRoutes says what of a VirtualService that is about to be applied others route.
func (r *Reader) checkRoutes(obj *api.Object) []string {
	txn := r.store.Read()
	candidate := compile.VirtualService(r.cfg.Cluster, obj, r.cfg.ClusterDomain)
	all := []*model.VirtualService{candidate}
	newest := time.Time{}
	for _, v := range r.routes(txn) {
		if v.Key() == candidate.Key() {
			candidate.Created = v.Created // an edit
			continue
		}
		all = append(all, v)
		if v.Created.After(newest) {
			newest = v.Created
		}
	}

	if candidate.Created.IsZero() {
		// A new one is younger than all others.
		candidate.Created = newest.Add(time.Second)
	}
	return r.routeNotes(txn, all)(candidate)
}
