package kube

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// writeAuthorization writes the row of an AuthorizationPolicy. One that is wrong must not
// open what somebody believes shut: the last version that was right stays in force, and
// where there was none, what of the object can be carried out does, and the rest lets
// nobody in.
func (r *Reader) writeAuthorization(txn model.WriteTxn, c ref) {
	key := (&model.AuthorizationPolicy{Cluster: r.cfg.Cluster, Namespace: c.namespace, Name: c.name}).Key()
	u, _ := r.kinds.get(c)
	if u == nil || ofOtherRevision(u.GetLabels(), r.cfg.Revision) {
		delete(r.told, c)
		r.store.Policies.Remove(txn, key)
		return
	}

	var obj *api.Object
	raw, err := u.MarshalJSON()
	if err == nil {
		obj, err = api.Decode(raw)
	}
	if err == nil {
		r.tell(c, outcome{notes: api.Warnings(obj)})
		r.putAuthorization(txn, key, compile.AuthorizationPolicy(r.cfg.Cluster, obj))
		return
	}

	row := carriedOut(r.cfg.Cluster, c, obj, raw)
	// The status that was written comes back as an event: then what stands is this row.
	if old, _, stands := r.store.Policies.Get(txn, r.store.Policies.ByKey(key)); stands && !reflect.DeepEqual(old, row) {
		r.tell(c, outcome{err: fmt.Errorf("%w; until it is corrected, what was in force of it before stays so", err)})
		return
	}
	r.tell(c, outcome{err: fmt.Errorf("%w; until it is corrected, what of it cannot be carried out lets nobody in", err)})
	r.putAuthorization(txn, key, row)
}

// carriedOut is what of an object that is wrong can be carried out; obj is nil where not
// even its head was read.
func carriedOut(cluster model.ClusterID, c ref, obj *api.Object, raw []byte) *model.AuthorizationPolicy {
	if obj == nil {
		obj = &api.Object{}
	}
	obj.Namespace, obj.Name = c.namespace, c.name
	if obj.Spec != nil {
		return compile.AuthorizationPolicy(cluster, obj)
	}
	return closedPolicy(cluster, obj, raw)
}

// putAuthorization writes a row, or removes it where the object decides nothing.
func (r *Reader) putAuthorization(txn model.WriteTxn, key string, row *model.AuthorizationPolicy) {
	if row == nil {
		r.store.Policies.Remove(txn, key)
		return
	}
	r.store.Policies.Put(txn, row)
}

// closedPolicy reads of an object, which holds fields that this version does not know,
// whom it selects and what it does.
func closedPolicy(c model.ClusterID, obj *api.Object, raw []byte) *model.AuthorizationPolicy {
	var head struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			Action     string            `json:"action"`
			TargetRef  json.RawMessage   `json:"targetRef"`
			TargetRefs []json.RawMessage `json:"targetRefs"`
		} `json:"spec"`
	}
	// What cannot be read even so selects all of the namespace.
	_ = json.Unmarshal(raw, &head)

	dryRun, _ := api.DryRun(obj.Annotations)
	spec := &head.Spec
	if dryRun || spec.Action == "AUDIT" || len(spec.TargetRef) > 0 || len(spec.TargetRefs) > 0 {
		return nil
	}
	return compile.ClosedPolicy(c, obj, spec.Selector.MatchLabels, spec.Action == "DENY" || spec.Action == "CUSTOM")
}
