package kube

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// writeAuthentication writes the row of a RequestAuthentication. One that is wrong must not
// let tokens pass that somebody believes verified: the last version that was right stays in
// force, and where there was none, no token is good of which it could not be read by what.
func (r *Reader) writeAuthentication(txn model.WriteTxn, c ref) {
	key := (&model.RequestAuthentication{Cluster: r.cfg.Cluster, Namespace: c.namespace, Name: c.name}).Key()
	u, _ := r.kinds.get(c)
	if u == nil || ofOtherRevision(u.GetLabels(), r.cfg.Revision) {
		delete(r.told, c)
		r.store.Authentications.Remove(txn, key)
		return
	}

	var obj *api.Object
	raw, err := u.MarshalJSON()
	if err == nil {
		obj, err = api.Decode(raw)
	}
	if err == nil {
		r.tell(c, outcome{notes: api.Warnings(obj)})
		r.putAuthentication(txn, key, compile.RequestAuthentication(r.cfg.Cluster, obj))
		return
	}

	row := closedAuthentication(r.cfg.Cluster, c, obj, raw)
	// The status that was written comes back as an event: then what stands is this row.
	if old, _, stands := r.store.Authentications.Get(txn, r.store.Authentications.ByKey(key)); stands && !reflect.DeepEqual(old, row) {
		r.tell(c, outcome{err: fmt.Errorf("%w; until it is corrected, what was in force of it before stays so", err)})
		return
	}
	r.tell(c, outcome{err: fmt.Errorf("%w; until it is corrected, no token passes that it could not be read about", err)})
	r.putAuthentication(txn, key, row)
}

// putAuthentication writes a row, or removes it where the object decides nothing.
func (r *Reader) putAuthentication(txn model.WriteTxn, key string, row *model.RequestAuthentication) {
	if row == nil {
		r.store.Authentications.Remove(txn, key)
		return
	}
	r.store.Authentications.Put(txn, row)
}

// closedAuthentication is what counts of an object that is wrong; obj is nil where not even
// its head was read.
func closedAuthentication(cluster model.ClusterID, c ref, obj *api.Object, raw []byte) *model.RequestAuthentication {
	if obj == nil {
		obj = &api.Object{}
	}
	obj.Namespace, obj.Name = c.namespace, c.name
	if obj.Spec != nil {
		return compile.RequestAuthentication(cluster, obj)
	}

	var head struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			TargetRef  json.RawMessage   `json:"targetRef"`
			TargetRefs []json.RawMessage `json:"targetRefs"`
		} `json:"spec"`
	}
	// What cannot be read even so selects all of the namespace.
	_ = json.Unmarshal(raw, &head)
	if len(head.Spec.TargetRef) > 0 || len(head.Spec.TargetRefs) > 0 {
		return nil
	}
	return compile.ClosedAuthentication(cluster, obj, head.Spec.Selector.MatchLabels)
}
