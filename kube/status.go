package kube

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// conditionReconciled is the condition (IstioCondition.type) that tells whether
// an object is in force.
const conditionReconciled = "Reconciled"

// StatusWriter writes a condition on configuration objects that are skipped,
// and takes it back when they are corrected. Objects that were never wrong are
// left alone. One replica writes at a time: Run is called by the leader; reports
// are taken always. A nil StatusWriter takes reports and drops them.
type StatusWriter struct {
	client dynamic.Interface
	log    *slog.Logger

	mu      sync.Mutex
	pending map[statusKey]statusReport
	some    chan struct{}
}

type statusKey struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

type statusReport struct {
	generation int64
	err        string // empty: the object is right
}

// NewStatusWriter makes a StatusWriter for the objects of one cluster.
func NewStatusWriter(client dynamic.Interface, log *slog.Logger) *StatusWriter {
	return &StatusWriter{
		client: client, log: log,
		pending: map[statusKey]statusReport{}, some: make(chan struct{}, 1),
	}
}

// report notes whether an object is in force. Repeating what the object's status
// says already costs nothing.
func (w *StatusWriter) report(resource schema.GroupVersionResource, u *unstructured.Unstructured, err error) {
	if w == nil {
		return
	}
	key := statusKey{resource, u.GetNamespace(), u.GetName()}
	rep := statusReport{generation: u.GetGeneration()}
	if err != nil {
		rep.err = err.Error()
	}
	was, message := reconciled(u)
	if err != nil && was == metav1.ConditionFalse && message == rep.err || err == nil && was != metav1.ConditionFalse {
		return
	}
	w.mu.Lock()
	w.pending[key] = rep
	w.mu.Unlock()
	select {
	case w.some <- struct{}{}:
	default:
	}
}

// reconciled reads the condition of an object.
func reconciled(u *unstructured.Unstructured) (status metav1.ConditionStatus, message string) {
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return "", ""
	}
	for _, c := range conditions {
		m, ok := c.(map[string]any)
		if !ok || m["type"] != conditionReconciled {
			continue
		}
		s, _ := m["status"].(string)
		message, _ = m["message"].(string)
		return metav1.ConditionStatus(s), message
	}
	return "", ""
}

// Run writes what is reported until ctx ends.
func (w *StatusWriter) Run(ctx context.Context) {
	for {
		w.mu.Lock()
		work := w.pending
		w.pending = map[statusKey]statusReport{}
		w.mu.Unlock()
		for k, r := range work {
			if err := w.write(ctx, k, r); err != nil && ctx.Err() == nil {
				w.log.Warn("cannot write the status of a configuration object", "resource", k.resource.Resource,
					"namespace", k.namespace, "name", k.name, "error", err)
			}
			if ctx.Err() != nil {
				w.putBack(k, r)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-w.some:
		}
	}
}

func (w *StatusWriter) putBack(k statusKey, r statusReport) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, newer := w.pending[k]; !newer {
		w.pending[k] = r
	}
}

// write merges the condition into the object's status. It replaces the list:
// this is the only condition that the mesh keeps.
func (w *StatusWriter) write(ctx context.Context, k statusKey, r statusReport) error {
	condition := map[string]any{
		"type":               conditionReconciled,
		"status":             string(metav1.ConditionTrue),
		"reason":             "Accepted",
		"message":            "",
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
	}
	if r.err != "" {
		condition["status"] = string(metav1.ConditionFalse)
		condition["reason"] = "Invalid"
		condition["message"] = r.err
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{condition}}})
	if err != nil {
		return err
	}
	_, err = w.client.Resource(k.resource).Namespace(k.namespace).Patch(ctx, k.name, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: "isthmus-discovery"}, "status")
	return err
}
