package kube

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/wake"
)

// reasonNotHonoured is the reason of the condition on an object of a kind that
// is not honoured.
const reasonNotHonoured = "NotHonoured"

// notHonouredPace bounds how many objects of kinds that are not honoured are
// looked at for their status, a second: there may be thousands when a mesh is
// taken over, and none of them is in a hurry.
const notHonouredPace = 10

// NotHonoured follows objects of kinds that the mesh does not act on, so that
// none of them is ignored in silence: those that were in the cluster before the
// validating webhook, or came while it was away. Each gets a condition where
// its kind has a status, and a line in the log for each change; Count is for
// metrics.
//
// Only the metadata of the objects is read, and little of that is kept.
type NotHonoured struct {
	clients  Clients
	revision string
	status   *StatusWriter
	log      *slog.Logger

	// How often kinds are looked for, and how long changes gather before they
	// are logged together.
	lookEvery, tellEvery time.Duration
	// lines is how many objects are named each time; the others are counted.
	lines int

	some wake.Signal // there is something to log
	wg   sync.WaitGroup

	mu      sync.Mutex
	running map[schema.GroupKind]context.CancelFunc
	objects map[notHonouredRef]notHonouredState
	changed map[notHonouredRef]api.ServedKind // since the last lines in the log
}

type notHonouredRef struct {
	kind            schema.GroupKind
	namespace, name string
}

// notHonouredState tells one edit of an object from the next. What only a status
// changes is none.
type notHonouredState struct {
	uid        types.UID
	generation int64
}

// NewNotHonoured makes a NotHonoured for the control plane of a revision:
// objects that are labelled for another are left to it.
func NewNotHonoured(clients Clients, revision string, log *slog.Logger) *NotHonoured {
	status := NewStatusWriter(clients.Dynamic, log)
	status.pace = flowcontrol.NewTokenBucketRateLimiter(notHonouredPace, notHonouredPace)
	return &NotHonoured{
		clients: clients, revision: revision, status: status, log: log,
		lookEvery: time.Minute, tellEvery: 10 * time.Second, lines: 20,
		some:    make(chan struct{}, 1),
		running: map[schema.GroupKind]context.CancelFunc{},
		objects: map[notHonouredRef]notHonouredState{},
		changed: map[notHonouredRef]api.ServedKind{},
	}
}

// WriteStatus writes conditions until ctx ends. It is for the leader.
func (n *NotHonoured) WriteStatus(ctx context.Context) { n.status.Run(ctx) }

// Count returns how many objects there are of each kind that has some.
func (n *NotHonoured) Count() map[schema.GroupKind]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[schema.GroupKind]int{}
	for r := range n.objects {
		out[r.kind]++
	}
	return out
}

// Run follows the kinds until ctx ends. Errors of the API server are logged and
// tried again.
func (n *NotHonoured) Run(ctx context.Context) error {
	defer n.wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// A CRD may come at any time. Asking costs the API server a little for
	// each control plane, so it is not done often.
	look := time.NewTimer(0)
	defer look.Stop()
	tell := time.NewTicker(n.tellEvery)
	defer tell.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			look.Reset(n.look(ctx))
		case <-tell.C:
			select {
			case <-n.some:
				n.tell()
			default:
			}
		}
	}
}

// look starts following the kinds that the cluster serves and that are not
// followed yet. It returns when to look again.
func (n *NotHonoured) look(ctx context.Context) time.Duration {
	served, err := api.NotHonouredIn(n.clients.Kube.Discovery())
	if err != nil {
		n.log.Warn("cannot look for kinds that are not honoured; trying again", "error", err)
		return min(n.lookEvery, crdPoll)
	}
	for _, k := range served {
		if err := n.follow(ctx, k); err != nil {
			n.log.Warn("cannot follow a kind that is not honoured", "kind", k.Kind, "error", err)
		}
	}
	return n.lookEvery
}

func (n *NotHonoured) follow(ctx context.Context, k api.ServedKind) error {
	gk := schema.GroupKind{Group: k.Group, Kind: k.Kind}
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.running[gk] != nil {
		return nil
	}

	gvr := schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Resource}
	inf := metadatainformer.NewFilteredMetadataInformer(n.clients.Metadata, gvr, "", 0, cache.Indexers{}, nil).Informer()
	if err := inf.SetTransform(stripMetadata); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	err := inf.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsNotFound(err) {
			n.lost(gk)
			return
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
	if err == nil {
		_, err = inf.AddEventHandler(n.handler(k, gvr))
	}

	if err != nil {
		cancel()
		return err
	}

	n.running[gk] = cancel
	n.wg.Go(func() { inf.RunWithContext(ctx) })
	return nil
}

// stripMetadata keeps what is read of an object's metadata.
func stripMetadata(obj any) (any, error) {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj, nil
	}

	kept := metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
	}
	if rev, ok := m.Labels[api.LabelRevision]; ok {
		kept.Labels = map[string]string{api.LabelRevision: rev}
	}
	m.ObjectMeta = kept
	return m, nil
}

// lost ends the following of a kind whose CRD was deleted, its objects with it.
func (n *NotHonoured) lost(gk schema.GroupKind) {
	n.mu.Lock()
	defer n.mu.Unlock()

	if cancel := n.running[gk]; cancel != nil {
		cancel()
	}
	delete(n.running, gk)
	for r := range n.objects {
		if r.kind == gk {
			delete(n.objects, r)
			delete(n.changed, r)
		}
	}
}

func (n *NotHonoured) handler(k api.ServedKind, gvr schema.GroupVersionResource) cache.ResourceEventHandler {
	set := func(obj any) {
		if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
			n.set(k, gvr, m)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = d.Obj
			}
			if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
				n.unset(k, gvr, m)
			}
		},
	}
}

// set notes an object as it now is.
func (n *NotHonoured) set(k api.ServedKind, gvr schema.GroupVersionResource, m *metav1.PartialObjectMetadata) {
	if ofOtherRevision(m.Labels, n.revision) {
		n.unset(k, gvr, m)
		return
	}
	ref := refOf(k, m)
	state := notHonouredState{m.UID, m.Generation}

	n.mu.Lock()
	old, known := n.objects[ref]
	changed := !known || old != state
	n.objects[ref] = state
	if changed {
		n.changed[ref] = k
	}
	n.mu.Unlock()

	if !changed {
		// Our own condition came back, or another's.
		return
	}

	n.some.Send()

	// Of a shared kind, the status belongs to the controller that acts on it.
	if k.Status && !k.Shared() {
		n.status.reportUnread(gvr, m.Namespace, m.Name, outcome{err: errors.New(k.Why()), reason: reasonNotHonoured})
	}
}

// unset forgets an object.
func (n *NotHonoured) unset(k api.ServedKind, gvr schema.GroupVersionResource, m *metav1.PartialObjectMetadata) {
	ref := refOf(k, m)
	n.mu.Lock()
	delete(n.objects, ref)
	delete(n.changed, ref)
	n.mu.Unlock()
	n.status.forget(gvr, m.Namespace, m.Name)
}

func refOf(k api.ServedKind, m *metav1.PartialObjectMetadata) notHonouredRef {
	return notHonouredRef{schema.GroupKind{Group: k.Group, Kind: k.Kind}, m.Namespace, m.Name}
}

// tell logs the objects that changed, security first. So many at most are named
// and the others are counted: a mesh that is taken over may have thousands.
func (n *NotHonoured) tell() {
	n.mu.Lock()
	changed := n.changed
	n.changed = map[notHonouredRef]api.ServedKind{}
	n.mu.Unlock()

	var refs []notHonouredRef
	for r := range changed {
		refs = append(refs, r)
	}

	slices.SortFunc(refs, func(a, b notHonouredRef) int {
		return cmp.Or(
			cmp.Compare(importance(changed[a]), importance(changed[b])),
			cmp.Compare(a.kind.Kind, b.kind.Kind), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})

	more := map[schema.GroupKind]int{}
	for i, r := range refs {
		if i >= n.lines {
			more[r.kind]++
			continue
		}
		n.line(changed[r], "namespace", r.namespace, "name", r.name)
	}

	for _, k := range api.NotHonouredKinds() {
		if count := more[schema.GroupKind{Group: k.Group, Kind: k.Kind}]; count > 0 {
			n.line(api.ServedKind{NotHonouredKind: k}, "objects", count)
		}
	}
}

// importance orders kinds: those of security, those of Istio, those that may be
// another controller's.
func importance(k api.ServedKind) int {
	switch {
	case k.Security:
		return 0
	case !k.Shared():
		return 1
	}
	return 2
}

func (n *NotHonoured) line(k api.ServedKind, which ...any) {
	level := slog.LevelWarn
	if k.Shared() {
		level = slog.LevelInfo
	}
	n.log.Log(context.Background(), level, "configuration object is not honoured",
		append(append([]any{"kind", k.Kind, "group", k.Group}, which...), "why", k.Why())...)
}
