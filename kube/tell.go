package kube

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// outcome is what became of a configuration object.
type outcome struct {
	// err says why it is not in force; nil when it is.
	err error
	// reason is the condition's, in one word, when err is not nil; "Invalid"
	// when empty.
	reason string
	// notes say what of it changes nothing.
	notes []string
	// addresses are those that the hosts of a ServiceEntry were given; entry
	// tells that the object is one.
	addresses map[string]netip.Addr
	entry     bool
	// version is that of the object that this was worked out from, where that may
	// be older than what the informer has by now; "" where it does not matter.
	version string
}

// message is the text for people.
func (o outcome) message() string {
	if o.err != nil {
		return o.err.Error()
	}
	return strings.Join(o.notes, "; ")
}

// same tells whether two outcomes say the same.
func (o outcome) same(other outcome) bool {
	return (o.err == nil) == (other.err == nil) && o.message() == other.message() && maps.Equal(o.addresses, other.addresses)
}

// tell says what became of an object: by its status, and, once per change, in
// the log. What is wholly in force is not spoken of.
func (r *Reader) tell(c ref, o outcome) {
	u, resource := r.kinds.get(c)
	if u == nil {
		delete(r.told, c)
		return
	}
	r.cfg.Status.report(resource, u, o)

	old, known := r.told[c]
	if o.message() == "" {
		delete(r.told, c)
		return
	}
	r.told[c] = o

	// The condition written on it comes back as an event: say it once.
	if known && old.same(o) {
		return
	}

	if o.err != nil {
		r.log.Warn("configuration object skipped", "kind", u.GetKind(), "namespace", c.namespace, "name", c.name, "error", o.err)
		return
	}
	r.log.Info("parts of a configuration object change nothing", "kind", u.GetKind(), "namespace", c.namespace, "name", c.name, "parts", o.message())
}

// NotInForce counts the objects of each kind that are not in force, wholly or
// in part; MeshConfig is 1 when something of the mesh configuration is not.
func (r *Reader) NotInForce() map[schema.GroupKind]int {
	r.mu.Lock()
	defer r.mu.Unlock()

	out := map[schema.GroupKind]int{}
	for c := range r.told {
		i := slices.IndexFunc(configKinds(), func(k configKind) bool { return k.kind == c.kind })
		if i >= 0 {
			k := configKinds()[i]
			out[schema.GroupKind{Group: k.group, Kind: string(k.api)}]++
		}
	}

	if r.meshTold != "" {
		out[meshKind] = 1
	}
	return out
}
