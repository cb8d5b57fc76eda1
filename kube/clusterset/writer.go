package clusterset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
)

// LabelManagedBy is on the ServiceImports that are written here, with ManagedBy as
// its value. All others are somebody else's, and are left alone.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "isthmus-discovery"
)

const (
	// pause is the least time between two looks: services change all the time.
	pause = time.Second
	// again is after how long it is tried again when something failed, or the
	// cluster does not have the kind; and patrol after how long it is looked
	// whether somebody else has changed what was written.
	again  = 30 * time.Second
	patrol = 10 * time.Minute
)

// Writer keeps the ServiceImports of one cluster.
type Writer struct {
	clients kube.Clients
	log     *slog.Logger
	// imports are those that are to be there, with a channel that closes when
	// they may be others.
	imports func() (model.Imports, <-chan struct{})
	told    map[string]bool // ServiceImports of others of which it was said
}

// NewWriter makes a Writer. Run, which one replica calls at a time, starts it.
func NewWriter(clients kube.Clients, imports func() (model.Imports, <-chan struct{}), log *slog.Logger) *Writer {
	return &Writer{clients: clients, log: log, imports: imports, told: map[string]bool{}}
}

// Run writes until ctx ends.
func (w *Writer) Run(ctx context.Context) {
	var written model.Imports
	var next time.Time // when it is to be written, whether it is the same or not
	for {
		want, changed := w.imports()
		if !reflect.DeepEqual(want, written) || !time.Now().Before(next) {
			written, next = want, time.Now().Add(patrol)
			if err := w.write(ctx, want); err != nil && ctx.Err() == nil {
				w.log.Warn("cannot write ServiceImports; trying again", "error", err, "in", again)
				next = time.Now().Add(again)
			}
		}
		if !wait(ctx, changed, time.Until(next)) {
			return
		}
	}
}

// wait returns after a pause when there is news, or it is time; false when ctx
// ends.
func wait(ctx context.Context, changed <-chan struct{}, most time.Duration) bool {
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-late.C:
	}

	rest := time.NewTimer(pause)
	defer rest.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-rest.C:
	}
	return true
}

// write makes the cluster's ServiceImports be those that are wanted. One that fails
// keeps no other from being written. While clusters have yet to be read, none is
// taken away.
func (w *Writer) write(ctx context.Context, imports model.Imports) error {
	want := imports.List
	gvr, err := served(ctx, w.clients, "serviceimports")
	if err != nil {
		return err
	}
	if gvr.Empty() {
		if len(want) == 0 {
			return nil
		}
		return fmt.Errorf("services are exported, and this cluster does not have the kind ServiceImport (%s): apply its CRD", kube.GroupMultiCluster)
	}

	client := w.clients.Dynamic.Resource(gvr)
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	there := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		u := &list.Items[i]
		there[u.GetNamespace()+"/"+u.GetName()] = u
	}

	var failed []error
	for i := range want {
		key := want[i].Namespace + "/" + want[i].Name
		old := there[key]
		delete(there, key)
		if old != nil && !ours(old) {
			if !w.told[key] {
				w.told[key] = true
				w.log.Warn("a ServiceImport is managed by somebody else and is left as it is", "namespace", want[i].Namespace, "name", want[i].Name)
			}
			continue
		}
		failed = append(failed, writeOne(ctx, client, gvr, old, &want[i]))
	}

	// In order, so that of several errors the message is the same each time.
	for _, key := range slices.Sorted(maps.Keys(there)) {
		u := there[key]
		if ours(u) && imports.Complete {
			failed = append(failed, remove(ctx, client, u))
		}
	}
	return errors.Join(failed...)
}
