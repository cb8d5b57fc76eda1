package apiserver

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
)

func now() metav1.Time { return metav1.NewTime(time.Now().Truncate(time.Second)) }

func uid(revision int) types.UID { return types.UID(fmt.Sprintf("uid-%d", revision)) }

// serve answers requests for objects.
func (o *objects) serve(w http.ResponseWriter, r *http.Request) {
	p, ok := parsePath(r.URL.Path)
	if !ok {
		o.describeGroups(w, r)
		return
	}

	o.mu.Lock()
	kind, known := o.kinds[p.gvr]
	known = known && !o.missing[p.gvr.Resource]
	o.mu.Unlock()
	if !known || p.sub != "" && p.sub != "status" {
		fail(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
		return
	}

	switch {
	case r.Method == http.MethodGet && p.name == "":
		o.readMany(w, r, p, kind)
	case r.Method == http.MethodGet:
		o.get(w, p)
	case r.Method == http.MethodPost:
		o.create(w, r, p)
	case r.Method == http.MethodPut:
		o.update(w, r, p)
	case r.Method == http.MethodPatch:
		o.patch(w, r, p)
	case r.Method == http.MethodDelete:
		o.delete(w, p)
	default:
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "%s is not served", r.Method)
	}
}

func (o *objects) get(w http.ResponseWriter, p path) {
	o.mu.Lock()
	it := o.tableLocked(p.gvr).items[key(p.namespace, p.name)]
	o.mu.Unlock()
	if it == nil {
		fail(w, http.StatusNotFound, "NotFound", "%s not found", p)
		return
	}
	reply(w, http.StatusOK, it.object)
}

func (o *objects) create(w http.ResponseWriter, r *http.Request, p path) {
	u, err := o.body(r)
	if err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", "%v", err)
		return
	}
	u.SetNamespace(p.namespace)

	o.mu.Lock()
	defer o.mu.Unlock()
	if u.GetName() == "" {
		u.SetName(u.GetGenerateName() + strconv.Itoa(o.revision))
	}
	if o.tableLocked(p.gvr).items[key(p.namespace, u.GetName())] != nil {
		fail(w, http.StatusConflict, "AlreadyExists", "%s %q already exists", p.gvr.Resource, u.GetName())
		return
	}
	reply(w, http.StatusCreated, o.putLocked(p.gvr, u))
}

func (o *objects) update(w http.ResponseWriter, r *http.Request, p path) {
	u, err := o.body(r)
	if err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", "%v", err)
		return
	}

	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.tableLocked(p.gvr).items[key(p.namespace, p.name)]
	switch {
	case old == nil:
		fail(w, http.StatusNotFound, "NotFound", "%s not found", p)
	case u.GetResourceVersion() != "" && u.GetResourceVersion() != old.object.GetResourceVersion():
		fail(w, http.StatusConflict, "Conflict", "%s has been changed", p)
	default:
		reply(w, http.StatusOK, o.putLocked(p.gvr, u))
	}
}

// patch merges; a server-side apply counts as a merge that may create.
func (o *objects) patch(w http.ResponseWriter, r *http.Request, p path) {
	diff, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}

	o.mu.Lock()
	defer o.mu.Unlock()
	raw := []byte("{}")
	old := o.tableLocked(p.gvr).items[key(p.namespace, p.name)]
	switch {
	case old != nil:
		raw, err = json.Marshal(old.object)
	case r.Header.Get("Content-Type") != string(types.ApplyPatchType):
		fail(w, http.StatusNotFound, "NotFound", "%s not found", p)
		return
	}
	if err == nil {
		raw, err = jsonpatch.MergePatch(raw, diff)
	}
	u := &unstructured.Unstructured{}
	if err == nil {
		err = json.Unmarshal(raw, &u.Object)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", "%v", err)
		return
	}
	u.SetNamespace(p.namespace)
	u.SetName(p.name)
	reply(w, http.StatusOK, o.putLocked(p.gvr, u))
}

func (o *objects) delete(w http.ResponseWriter, p path) {
	o.mu.Lock()
	gone := o.dropLocked(p.gvr, key(p.namespace, p.name))
	o.mu.Unlock()
	if !gone {
		fail(w, http.StatusNotFound, "NotFound", "%s not found", p)
		return
	}
	reply(w, http.StatusOK, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
}

// body reads an object in JSON or protobuf.
func (o *objects) body(r *http.Request) (*unstructured.Unstructured, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(raw, nil, nil); err == nil {
		u, _, err := o.convert(obj)
		return u, err
	}
	u := &unstructured.Unstructured{}
	return u, json.Unmarshal(raw, &u.Object)
}

// selection is what a list or a watch asks for.
type selection struct {
	namespace string
	labels    labels.Selector
	fields    fields.Selector
}

func readSelection(r *http.Request, p path) (s selection, err error) {
	s.namespace = p.namespace
	if s.labels, err = labels.Parse(r.URL.Query().Get("labelSelector")); err != nil {
		return s, err
	}
	s.fields, err = fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	return s, err
}

func (s selection) has(u *unstructured.Unstructured) bool {
	return u != nil && (s.namespace == "" || s.namespace == u.GetNamespace()) &&
		s.labels.Matches(labels.Set(u.GetLabels())) &&
		s.fields.Matches(fields.Set{"metadata.name": u.GetName(), "metadata.namespace": u.GetNamespace()})
}

// readMany lists or watches.
func (o *objects) readMany(w http.ResponseWriter, r *http.Request, p path, kind string) {
	s, err := readSelection(r, p)
	if err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", "%v", err)
		return
	}
	if r.URL.Query().Get("watch") != "" {
		o.watch(w, r, p, kind, s)
		return
	}

	items, revision := o.list(p, s)
	reply(w, http.StatusOK, map[string]any{
		"kind": kind + "List", "apiVersion": p.gvr.GroupVersion().String(),
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(revision)},
		"items":    items,
	})
}

func (o *objects) list(p path, s selection) (items []*unstructured.Unstructured, revision int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.tableLocked(p.gvr)
	items = []*unstructured.Unstructured{}
	for _, k := range slices.Sorted(maps.Keys(t.items)) {
		if u := t.items[k].object; s.has(u) {
			items = append(items, u)
		}
	}
	return items, o.revision
}

// watch streams changes; with sendInitialEvents it begins with all objects and a
// bookmark.
func (o *objects) watch(w http.ResponseWriter, r *http.Request, p path, kind string, s selection) {
	q := r.URL.Query()
	at, _ := strconv.Atoi(q.Get("resourceVersion"))
	initial := q.Get("sendInitialEvents") == "true"
	o.mu.Lock()
	t := o.tableLocked(p.gvr)
	expired := t.expired
	_, known := t.after(at)
	o.mu.Unlock()
	if !initial && at != 0 && !known {
		fail(w, http.StatusGone, "Expired", "too old resource version: %d", at)
		return
	}

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	events := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	if initial || at == 0 {
		var items []*unstructured.Unstructured
		items, at = o.list(p, s)
		for _, u := range items {
			_ = events.Encode(map[string]any{"type": "ADDED", "object": u})
		}
	}
	if initial {
		_ = events.Encode(map[string]any{"type": "BOOKMARK", "object": bookmark(p.gvr, kind, at)})
	}

	end := time.NewTimer(timeoutOf(q.Get("timeoutSeconds")))
	defer end.Stop()
	for {
		_ = flush.Flush()
		changes, more := o.next(p.gvr, at)
		for _, c := range changes {
			at = c.revision
			if sent := s.event(c); sent != nil && events.Encode(sent) != nil {
				return
			}
		}
		if len(changes) > 0 {
			continue
		}
		select {
		case <-more:
		case <-expired:
			_ = events.Encode(map[string]any{"type": "ERROR", "object": status(http.StatusGone, "Expired", "too old resource version")})
			_ = flush.Flush()
			return
		case <-end.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// next are the changes after a revision, and what closes when there are more.
func (o *objects) next(gvr schema.GroupVersionResource, at int) ([]change, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.tableLocked(gvr)
	changes, _ := t.after(at)
	return changes, t.changed
}

// event is what a watch says of a change; nil when it is none of its own.
func (s selection) event(c change) map[string]any {
	is, was := s.has(c.object), s.has(c.before)
	kind := c.kind
	switch {
	case !is && !was:
		return nil
	case c.kind != "DELETED" && is && !was:
		kind = "ADDED"
	case !is && was:
		kind = "DELETED"
	}
	return map[string]any{"type": kind, "object": c.object}
}

// bookmark tells a watch that all that there was has been sent.
func bookmark(gvr schema.GroupVersionResource, kind string, revision int) map[string]any {
	return map[string]any{
		"kind": kind, "apiVersion": gvr.GroupVersion().String(),
		"metadata": map[string]any{
			"resourceVersion": strconv.Itoa(revision),
			"annotations":     map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		},
	}
}

// describeGroups answers /api, /apis, /api/VERSION and /apis/GROUP/VERSION: which
// groups and kinds there are.
func (o *objects) describeGroups(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	groups, resources := map[string][]metav1.GroupVersionForDiscovery{}, []metav1.APIResource{}
	for gvr, kind := range o.kinds {
		gv := metav1.GroupVersionForDiscovery{GroupVersion: gvr.GroupVersion().String(), Version: gvr.Version}
		if gvr.Group != "" && !slices.Contains(groups[gvr.Group], gv) {
			groups[gvr.Group] = append(groups[gvr.Group], gv)
		}
		at := "/apis/" + gv.GroupVersion
		if gvr.Group == "" {
			at = "/api/" + gvr.Version
		}
		if at == r.URL.Path && !o.missing[gvr.Resource] {
			resources = append(resources, metav1.APIResource{Name: gvr.Resource, Kind: kind, Namespaced: true})
		}
	}

	switch {
	case r.URL.Path == "/api":
		reply(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
	case r.URL.Path == "/apis":
		list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		for name, versions := range groups {
			list.Groups = append(list.Groups, metav1.APIGroup{Name: name, Versions: versions, PreferredVersion: versions[0]})
		}
		reply(w, http.StatusOK, list)
	case len(resources) > 0:
		reply(w, http.StatusOK, metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, APIResources: resources})
	default:
		fail(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
	}
}
