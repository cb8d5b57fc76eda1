package clusterset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
)

// turnTime bounds what is written into one cluster at a time: one that hangs is not
// to keep the others waiting for longer.
const turnTime = 15 * time.Second

// ExportWriter writes on the ServiceExports of all clusters what became of them.
//
// Several control planes may do so for one cluster, each of which reads it. They see
// the same, as a rule, and write the same; where they do not, each writes when what
// it says itself changes, and on patrol: never because another has written.
type ExportWriter struct {
	// clients are the ways into a cluster; they are nil while there is none.
	clients func(model.ClusterID) kube.Clients
	// states are what is to be said, with a channel that closes when it may be
	// something else.
	states  func() ([]model.ExportState, <-chan struct{})
	log     *slog.Logger
	now     func() time.Time
	targets map[model.ClusterID]*target // of the goroutine of Run

	mu      sync.Mutex
	refused map[model.ClusterID]string
}

// NewExportWriter makes an ExportWriter. Run, which one replica calls at a time,
// starts it.
func NewExportWriter(clients func(model.ClusterID) kube.Clients, states func() ([]model.ExportState, <-chan struct{}), log *slog.Logger) *ExportWriter {
	return &ExportWriter{clients: clients, states: states, log: log, now: time.Now, refused: map[model.ClusterID]string{}}
}

// Run writes until ctx ends.
func (w *ExportWriter) Run(ctx context.Context) {
	// Whoever led meanwhile may have written something else.
	w.targets = map[model.ClusterID]*target{}
	for {
		states, changed := w.states()
		w.round(ctx, states)

		next := w.now().Add(patrol)
		for _, t := range w.targets {
			if t.next.Before(next) {
				next = t.next
			}
		}
		if !wait(ctx, changed, next.Sub(w.now())) {
			return
		}
	}
}

// Refused says of clusters in which nothing may be written why, and what to do.
func (w *ExportWriter) Refused() map[model.ClusterID]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.refused)
}

// round writes into each cluster what is new, or due.
func (w *ExportWriter) round(ctx context.Context, states []model.ExportState) {
	wanted := map[model.ClusterID]map[string]model.ExportState{}
	for _, s := range states {
		if wanted[s.Cluster] == nil {
			wanted[s.Cluster] = map[string]model.ExportState{}
		}
		wanted[s.Cluster][s.Namespace+"/"+s.Name] = s
	}

	// What is not told of any more has no exports, or cannot be reached: it is
	// looked at anew when it is back.
	for c := range w.targets {
		if wanted[c] == nil {
			delete(w.targets, c)
			w.setRefused(c, "")
		}
	}

	var turns sync.WaitGroup
	for c, want := range wanted {
		t := w.targets[c]
		if t == nil {
			t = &target{cluster: c, written: map[string]model.ExportState{}}
			w.targets[c] = t
		}
		turns.Go(func() { w.turn(ctx, t, want) })
	}
	turns.Wait()
}

// target is one cluster into which it is written.
type target struct {
	cluster model.ClusterID
	// written is what was last said, by namespace and name.
	written map[string]model.ExportState
	// next is when all is looked at, whether it is the same or not.
	next time.Time
	// failure is why the last turn failed, as it was told: there is none until next.
	failure string
}

// turn writes into one cluster.
func (w *ExportWriter) turn(ctx context.Context, t *target, want map[string]model.ExportState) {
	now := w.now()
	due := !now.Before(t.next)
	if t.failure != "" && !due {
		return
	}

	news := map[string]model.ExportState{}
	for key, s := range want {
		if due || !reflect.DeepEqual(t.written[key], s) {
			news[key] = s
		}
	}
	maps.DeleteFunc(t.written, func(key string, _ model.ExportState) bool {
		_, stays := want[key]
		return !stays
	})
	if due {
		t.next = now.Add(patrol)
	}
	if len(news) == 0 {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	err := w.write(ctx, t, news)
	w.settle(ctx, t, err)
}

// settle says how a turn has ended, each thing once, and when the next is.
func (w *ExportWriter) settle(ctx context.Context, t *target, err error) {
	refused, failure := "", ""
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		return
	case apierrors.IsConflict(err):
		// Somebody was faster: what has come of it is looked at.
		t.next = w.now().Add(pause)
		return
	case apierrors.IsForbidden(err):
		refused = "conditions of ServiceExports are not written, for the account may not patch serviceexports/status: install this version there, or add that to its ClusterRole"
		failure = refused // the error names an object, which may be another each time
		t.next = w.now().Add(patrol)
	default:
		failure = err.Error()
		t.next = w.now().Add(again)
	}
	w.setRefused(t.cluster, refused)

	if failure != "" && failure != t.failure {
		w.log.Warn("cannot write the status of ServiceExports", "cluster", string(t.cluster), "error", failure, "again", t.next.Sub(w.now()).Round(time.Second))
	}
	t.failure = failure
}

func (w *ExportWriter) setRefused(c model.ClusterID, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if why == "" {
		delete(w.refused, c)
		return
	}
	w.refused[c] = why
}

// write writes states into their cluster. One that fails keeps no other from being
// written, but for a refusal, which holds for all.
func (w *ExportWriter) write(ctx context.Context, t *target, news map[string]model.ExportState) error {
	clients := w.clients(t.cluster)
	if clients.Kube == nil {
		return fmt.Errorf("there is no way to the API server")
	}
	gvr, err := served(ctx, clients, "serviceexports")
	if err != nil || gvr.Empty() {
		return err
	}
	client := clients.Dynamic.Resource(gvr)
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}

	var failed []error
	for i := range list.Items {
		u := &list.Items[i]
		key := u.GetNamespace() + "/" + u.GetName()
		state, ok := news[key]
		if !ok || string(u.GetUID()) != state.UID {
			continue // another of the name: what is said of that one comes
		}
		err := writeConditions(ctx, client, u, state, t.written[key], w.now())
		if apierrors.IsForbidden(err) {
			return err
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		t.written[key] = state
	}
	if len(failed) == 1 {
		return failed[0]
	}
	return errors.Join(failed...)
}
