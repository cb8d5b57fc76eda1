package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// writeCredential writes what gateways need of a Secret.
func (r *Reader) writeCredential(txn model.WriteTxn, c ref) {
	if s, ok := lookup[*corev1.Secret](r.builtins.secrets, c.namespace, c.name); ok {
		if row := compile.Credential(r.cfg.Cluster, s); row != nil {
			r.store.Credentials.Put(txn, row)
			return
		}
	}
	r.store.Credentials.Remove(txn, model.CredentialKey(r.cfg.Cluster, c.namespace, c.name))
}

// tellGateways says of each Gateway what of it changes nothing. That depends on the
// others, and on Secrets.
func (r *Reader) tellGateways(txn model.ReadTxn) {
	all := r.gateways(txn)
	notes := compile.ServerNotes(all, func(name string) *model.Credential {
		c, _, _ := r.store.Credentials.Get(txn, r.store.Credentials.ByKey(model.CredentialKey(r.cfg.Cluster, r.cfg.Namespace, name)))
		return c
	})
	for _, g := range all {
		c := ref{kindGateway, g.Namespace, g.Name}
		if obj, _ := r.decode(c); obj != nil {
			r.tell(c, outcome{notes: slices.Concat(api.Warnings(obj), notes[g.Key()])})
		}
	}
}

// gateways are the Gateways of the Reader's cluster.
func (r *Reader) gateways(txn model.ReadTxn) []*model.Gateway {
	var out []*model.Gateway
	for g := range r.store.Gateways.All(txn) {
		if g.Cluster == r.cfg.Cluster {
			out = append(out, g)
		}
	}
	return out
}
