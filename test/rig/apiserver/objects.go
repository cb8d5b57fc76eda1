package apiserver

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// objects are what the server keeps.
type objects struct {
	mu       sync.Mutex
	revision int // that of the last change
	kinds    map[schema.GroupVersionResource]string
	missing  map[string]bool // resources that are not served
	tables   map[schema.GroupVersionResource]*resource
}

// resource is the objects of one kind, and what became of them.
type resource struct {
	items map[string]*item // by namespace/name
	log   []change         // in the order of revisions
	// since is the revision from which on the log is whole.
	since   int
	changed chan struct{} // closed at the next change
	expired chan struct{} // closed when running watches are to end with 410
}

// item is an object. It is not changed: the next state is another item.
type item struct {
	object   *unstructured.Unstructured
	revision int
}

// change is one event of watches.
type change struct {
	revision int
	kind     string // ADDED, MODIFIED, DELETED
	object   *unstructured.Unstructured
	before   *unstructured.Unstructured // nil when it was ADDED
}

func newObjects() *objects {
	o := &objects{
		kinds: map[schema.GroupVersionResource]string{}, missing: map[string]bool{},
		tables: map[schema.GroupVersionResource]*resource{}, revision: 1,
	}
	for gvk := range scheme.Scheme.AllKnownTypes() {
		plural, _ := meta.UnsafeGuessKindToResource(gvk)
		o.kinds[plural] = gvk.Kind
	}
	return o
}

// Serve adds a kind that Kubernetes itself does not have.
func (o *objects) Serve(gvr schema.GroupVersionResource, kind string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kinds[gvr] = kind
}

// Without lets the server know nothing of some resources, such as
// "endpointslices", as an old one.
func (o *objects) Without(resources ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.missing)
	for _, r := range resources {
		o.missing[r] = true
	}
}

// Apply makes objects be as given.
func (o *objects) Apply(objs ...runtime.Object) error {
	for _, obj := range objs {
		u, gvr, err := o.convert(obj)
		if err != nil {
			return err
		}
		o.mu.Lock()
		o.putLocked(gvr, u)
		o.mu.Unlock()
	}
	return nil
}

// Delete deletes objects; only their names count.
func (o *objects) Delete(objs ...runtime.Object) error {
	for _, obj := range objs {
		u, gvr, err := o.convert(obj)
		if err != nil {
			return err
		}
		o.mu.Lock()
		o.dropLocked(gvr, key(u.GetNamespace(), u.GetName()))
		o.mu.Unlock()
	}
	return nil
}

// Expire forgets what happened so far: watches that run end with 410, and those
// that ask for an older revision than now are refused with it (compaction).
func (o *objects) Expire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.revision++
	for _, t := range o.tables {
		t.log, t.since = nil, o.revision
		close(t.expired)
		t.expired = make(chan struct{})
	}
}

// convert gives the object as it is kept, and where.
func (o *objects) convert(obj runtime.Object) (*unstructured.Unstructured, schema.GroupVersionResource, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if gvk.Empty() {
		kinds, _, err := scheme.Scheme.ObjectKinds(obj)
		if err != nil {
			return nil, schema.GroupVersionResource{}, err
		}
		gvk = kinds[0]
	}

	raw, err := json.Marshal(obj)
	if err != nil {
		return nil, schema.GroupVersionResource{}, err
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &u.Object); err != nil {
		return nil, schema.GroupVersionResource{}, err
	}
	u.SetGroupVersionKind(gvk)

	gvr, _ := meta.UnsafeGuessKindToResource(gvk)
	o.mu.Lock()
	defer o.mu.Unlock()
	for known, kind := range o.kinds {
		if known.GroupVersion() == gvk.GroupVersion() && kind == gvk.Kind && known.Resource != gvr.Resource {
			if _, guessed := o.kinds[gvr]; !guessed {
				gvr = known
			}
		}
	}
	return u, gvr, nil
}

func key(namespace, name string) string { return namespace + "/" + name }

func (o *objects) tableLocked(gvr schema.GroupVersionResource) *resource {
	t := o.tables[gvr]
	if t == nil {
		t = &resource{items: map[string]*item{}, changed: make(chan struct{}), expired: make(chan struct{})}
		o.tables[gvr] = t
	}
	return t
}

// putLocked keeps an object under its name and gives it as it is kept.
func (o *objects) putLocked(gvr schema.GroupVersionResource, u *unstructured.Unstructured) *unstructured.Unstructured {
	t := o.tableLocked(gvr)
	k := key(u.GetNamespace(), u.GetName())
	old := t.items[k]
	o.revision++

	u.SetResourceVersion(strconv.Itoa(o.revision))
	c := change{revision: o.revision, kind: "ADDED", object: u}
	if old != nil {
		c.kind, c.before = "MODIFIED", old.object
		u.SetUID(old.object.GetUID())
		u.SetCreationTimestamp(old.object.GetCreationTimestamp())
	}
	if u.GetUID() == "" {
		u.SetUID(uid(o.revision))
	}
	if created := u.GetCreationTimestamp(); created.IsZero() {
		u.SetCreationTimestamp(now())
	}

	t.items[k] = &item{object: u, revision: o.revision}
	t.note(c)
	return u
}

func (o *objects) dropLocked(gvr schema.GroupVersionResource, k string) bool {
	t := o.tableLocked(gvr)
	old := t.items[k]
	if old == nil {
		return false
	}
	delete(t.items, k)
	o.revision++
	last := old.object.DeepCopy()
	last.SetResourceVersion(strconv.Itoa(o.revision))
	t.note(change{revision: o.revision, kind: "DELETED", object: last, before: old.object})
	return true
}

// note tells watches of a change.
func (t *resource) note(c change) {
	t.log = append(t.log, c)
	close(t.changed)
	t.changed = make(chan struct{})
}

// after are the changes after a revision; false when they are forgotten.
func (t *resource) after(revision int) ([]change, bool) {
	if revision < t.since {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(t.log, revision+1, func(c change, at int) int { return c.revision - at })
	return t.log[i:], true
}

// path is a request's place.
type path struct {
	gvr             schema.GroupVersionResource
	namespace, name string
	sub             string
}

// parsePath reads /api/VERSION/… and /apis/GROUP/VERSION/….
func parsePath(text string) (p path, ok bool) {
	parts := strings.Split(strings.Trim(text, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		p.gvr.Version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		p.gvr.Group, p.gvr.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return p, false
	}

	if parts[0] == "namespaces" && len(parts) >= 3 && !(len(parts) == 3 && (parts[2] == "status" || parts[2] == "finalize")) {
		p.namespace, parts = parts[1], parts[2:]
	}
	p.gvr.Resource = parts[0]
	if len(parts) > 1 {
		p.name = parts[1]
	}
	if len(parts) > 2 {
		p.sub = strings.Join(parts[2:], "/")
	}
	return p, true
}

func (p path) String() string { return fmt.Sprintf("%s %s/%s", p.gvr.Resource, p.namespace, p.name) }

// timeoutOf reads the timeout of a watch.
func timeoutOf(text string) time.Duration {
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	return time.Hour
}
