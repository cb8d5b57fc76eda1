// Package entries keeps a dns.Names up to date with the ServiceEntries of one
// Kubernetes cluster. It answers no queries itself.
package entries

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dns"
	"github.com/isthmus-mesh/isthmus/internal/wake"
)

// quiet is how long events are gathered before the table is built again: a
// batch of edits then costs one build.
const quiet = 20 * time.Millisecond

// resource is the ServiceEntry of the stable API version.
func resource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: api.GroupNetworking, Version: "v1", Resource: "serviceentries"}
}

// Watcher follows the ServiceEntries of all namespaces.
type Watcher struct {
	client dynamic.Interface
	names  *dns.Names
	estate api.Estate
	log    *slog.Logger
}

// New returns a watcher that keeps names; log may be nil. The estate says which
// namespace is the mesh's root, and how names are made up.
func New(client dynamic.Interface, names *dns.Names, estate api.Estate, log *slog.Logger) *Watcher {
	if log == nil {
		log = slog.Default()
	}
	return &Watcher{client: client, names: names, estate: estate, log: log}
}

// entry is what is kept of an object: its decoded form, or nothing when it is
// not valid. The API server's wordy form is dropped on arrival.
type entry struct {
	metav1.ObjectMeta
	object *api.Object
}

// Run watches until the context ends. While the API server is away, the last
// table stays; before the first list has arrived, the names have no table.
func (w *Watcher) Run(ctx context.Context) error {
	informer := dynamicinformer.NewFilteredDynamicInformer(w.client, resource(), metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	if err := informer.SetTransform(w.decode); err != nil {
		return fmt.Errorf("watch ServiceEntries: %w", err)
	}

	err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		w.log.Warn("ServiceEntries cannot be watched; the last known names stay", "err", err)
	})
	if err != nil {
		return fmt.Errorf("watch ServiceEntries: %w", err)
	}

	changed := wake.NewSignal()

	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed.Send() },
		UpdateFunc: func(any, any) { changed.Send() },
		DeleteFunc: func(any) { changed.Send() },
	})
	if err != nil {
		return fmt.Errorf("watch ServiceEntries: %w", err)
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.RunWithContext(ctx)
	}()
	defer func() { <-done }()

	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return nil // the context has ended
	}

	for {
		w.rebuild(informer.GetStore())
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}

		select {
		case <-ctx.Done():
			return nil
		case <-time.After(quiet):
		}
	}
}

// decode is the informer's transform. An object that is not valid is kept
// without content, so that it harms no other and is logged once per change.
func (w *Watcher) decode(in any) (any, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return in, nil // decoded already, or the mark of a deletion
	}

	e := &entry{ObjectMeta: metav1.ObjectMeta{Namespace: u.GetNamespace(), Name: u.GetName(), ResourceVersion: u.GetResourceVersion(), UID: u.GetUID()}}
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("encode ServiceEntry %s/%s: %w", e.Namespace, e.Name, err)
	}

	object, err := api.Decode(raw)
	if err != nil {
		w.log.Warn("ServiceEntry skipped: it is not valid", "namespace", e.Namespace, "name", e.Name, "err", err)
		return e, nil
	}
	e.object = object
	return e, nil
}

func (w *Watcher) rebuild(store cache.Store) {
	var objects []*api.Object
	for _, item := range store.List() {
		if e, ok := item.(*entry); ok && e.object != nil {
			objects = append(objects, e.object)
		}
	}
	table := dns.NewTable(dns.Hosts(objects, w.estate))
	w.names.Set(table)
	w.log.Debug("names rebuilt", "entries", len(objects), "hosts", table.Len())
}
