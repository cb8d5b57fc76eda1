package kube

import (
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// tellSidecars says of each Sidecar whether another one holds instead. That depends on
// all of them, so that a change of one is told of on others.
func (r *Reader) tellSidecars(txn model.ReadTxn) {
	all := r.sidecars(txn)
	notes := compile.SidecarNotes(all)
	for _, s := range all {
		at := ref{kindSidecar, s.Namespace, s.Name}
		if r.told[at].err != nil {
			// The row is that of the last good edit; why this one is none has been said.
			continue
		}
		r.tell(at, outcome{notes: notes[s.Key()]})
	}
}

// sidecars are the Sidecars of the Reader's cluster.
func (r *Reader) sidecars(txn model.ReadTxn) []*model.Sidecar {
	return rowsOf(r.cfg.Cluster, r.store.Sidecars, txn)
}

// checkSidecar says whether another Sidecar will hold instead of one that is about to be
// applied.
func (r *Reader) checkSidecar(obj *api.Object) []string {
	candidate := compile.Sidecar(r.cfg.Cluster, obj)
	all := []*model.Sidecar{candidate}
	newest := time.Time{}
	for _, s := range r.sidecars(r.store.Read()) {
		if s.Key() == candidate.Key() {
			candidate.Created = s.Created // an edit
			continue
		}
		all = append(all, s)
		if s.Created.After(newest) {
			newest = s.Created
		}
	}

	if candidate.Created.IsZero() {
		// A new one is younger than all others.
		candidate.Created = newest.Add(time.Second)
	}
	return compile.SidecarNotes(all)[candidate.Key()]
}
