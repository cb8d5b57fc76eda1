package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/wake"
)

// StatusWriter writes a condition on configuration objects that are not wholly
// in force, and takes it back when they are corrected; and it keeps the
// addresses that the hosts of ServiceEntries were given in their status.
// Objects of which there is nothing to say are left alone. One replica writes
// at a time: Run is called by the leader; reports are taken always. A nil
// StatusWriter takes reports and drops them.
type StatusWriter struct {
	client dynamic.Interface
	log    *slog.Logger
	// pace bounds how often objects are asked for and written; nil for no bound.
	pace flowcontrol.RateLimiter

	mu      sync.Mutex // guards pending
	pending map[statusKey]statusReport
	some    wake.Signal // there is something to write
}

type statusKey struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

type statusReport struct {
	generation int64
	// version is the resourceVersion of the object that the outcome was worked out
	// from: it is written on no other.
	version string
	outcome outcome
	// unread tells that nobody has read the object's status: before it is
	// written, it is to be read.
	unread bool
}

// NewStatusWriter makes a StatusWriter for the objects of one cluster.
func NewStatusWriter(client dynamic.Interface, log *slog.Logger) *StatusWriter {
	return &StatusWriter{
		client: client, log: log,
		pending: map[statusKey]statusReport{}, some: wake.NewSignal(),
	}
}

// report notes what became of an object. Repeating what the object's status says
// already costs nothing.
func (w *StatusWriter) report(resource schema.GroupVersionResource, u *unstructured.Unstructured, o outcome) {
	if w == nil {
		return
	}

	key := statusKey{resource, u.GetNamespace(), u.GetName()}
	if stands(u, o) {
		w.mu.Lock()
		delete(w.pending, key)
		w.mu.Unlock()
		return
	}

	w.mu.Lock()
	w.pending[key] = statusReport{generation: u.GetGeneration(), version: cmp.Or(o.version, u.GetResourceVersion()), outcome: o}
	w.mu.Unlock()

	w.some.Send()
}

// reportUnread notes what became of an object of which only the metadata is
// known.
func (w *StatusWriter) reportUnread(resource schema.GroupVersionResource, namespace, name string, o outcome) {
	w.mu.Lock()
	w.pending[statusKey{resource, namespace, name}] = statusReport{outcome: o, unread: true}
	w.mu.Unlock()

	w.some.Send()
}

// forget drops what was noted of an object that is gone.
func (w *StatusWriter) forget(resource schema.GroupVersionResource, namespace, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pending, statusKey{resource, namespace, name})
}

// stands tells whether an object's status says all that there is to say.
func stands(u *unstructured.Unstructured, o outcome) bool {
	c := readCondition(u)
	if o.entry && !maps.Equal(readAddresses(u), o.addresses) {
		return false
	}
	if o.err != nil {
		// Of an older generation the same words would not count.
		return c.status == metav1.ConditionFalse && c.message == o.message() && c.generation == u.GetGeneration()
	}
	return c.status != metav1.ConditionFalse && c.message == o.message()
}

// condition is the condition on an object; its zero value is none.
type condition struct {
	status     metav1.ConditionStatus
	message    string
	generation int64
}

func readCondition(u *unstructured.Unstructured) condition {
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return condition{}
	}

	for _, item := range conditions {
		m, ok := item.(map[string]any)
		if !ok || m["type"] != api.ConditionReconciled {
			continue
		}
		var c condition
		s, _ := m["status"].(string)
		c.status = metav1.ConditionStatus(s)
		c.message, _ = m["message"].(string)
		// The CRD takes a number or a string.
		c.generation, _ = strconv.ParseInt(fmt.Sprint(m["observedGeneration"]), 10, 64)
		return c
	}

	return condition{}
}

// readAddresses reads the addresses that an object's status holds, by host. It
// is nil when there are none.
func readAddresses(u *unstructured.Unstructured) map[string]netip.Addr {
	list, _, err := unstructured.NestedSlice(u.Object, "status", "addresses")
	if err != nil {
		return nil
	}

	var out map[string]netip.Addr
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}

		value, _ := m["value"].(string)
		host, _ := m["host"].(string)
		addr, err := netip.ParseAddr(value)
		if err != nil {
			continue
		}
		if out == nil {
			out = map[string]netip.Addr{}
		}
		out[host] = addr
	}

	return out
}

// Run writes what is reported until ctx ends.
func (w *StatusWriter) Run(ctx context.Context) {
	for {
		w.writePending(ctx)

		select {
		case <-ctx.Done():
			return
		case <-w.some:
		}
	}
}

// writePending writes what has been reported so far.
func (w *StatusWriter) writePending(ctx context.Context) {
	w.mu.Lock()
	work := w.pending
	w.pending = map[statusKey]statusReport{}
	w.mu.Unlock()

	for k, r := range work {
		err := w.writePaced(ctx, k, r)
		switch {
		case ctx.Err() != nil:
			// It is to be done when this replica leads again.
			w.putBack(k, r)
		case apierrors.IsConflict(err) && r.unread:
			// Who watches the metadata alone does not report anew for every
			// change: the object is read again.
			w.putBack(k, r)
			w.some.Send()
		case apierrors.IsConflict(err):
			// The object has changed since, be it by a write of this one. That
			// comes to the Reader too, which works it out anew and reports: the
			// addresses that a status holds, say, are what it goes by.
		case err != nil:
			w.log.Warn("cannot write the status of a configuration object", "resource", k.resource.Resource,
				"namespace", k.namespace, "name", k.name, "error", err)
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

// writePaced writes what was reported, in its turn.
func (w *StatusWriter) writePaced(ctx context.Context, k statusKey, r statusReport) error {
	if w.pace != nil {
		if err := w.pace.Wait(ctx); err != nil {
			return err
		}
	}
	if r.unread {
		return w.readAndWrite(ctx, k, r)
	}
	return w.write(ctx, k, r, nil)
}

// readAndWrite writes what was reported of an object that nobody has read, if it
// does not say so already. Conditions of others, who may act on it, stay.
func (w *StatusWriter) readAndWrite(ctx context.Context, k statusKey, r statusReport) error {
	// A list of one, and no get: it is all that the account of the control
	// plane may do.
	list, err := w.client.Resource(k.resource).Namespace(k.namespace).List(ctx, listOne(k.name))
	if err != nil {
		return err
	}

	for i := range list.Items {
		u := &list.Items[i]
		if u.GetName() != k.name || stands(u, r.outcome) {
			continue
		}

		r.generation, r.version = u.GetGeneration(), u.GetResourceVersion()
		conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
		if err != nil {
			return err
		}

		others := slices.DeleteFunc(conditions, func(c any) bool {
			m, ok := c.(map[string]any)
			return ok && m["type"] == api.ConditionReconciled
		})
		return w.write(ctx, k, r, others)
	}

	return nil
}

// write merges what is to be said into the object's status, unless the object is not
// any more what the report was made from: the error is then a conflict. It replaces
// the list of conditions by its own and those of others.
func (w *StatusWriter) write(ctx context.Context, k statusKey, r statusReport, others []any) error {
	condition := map[string]any{
		"type":               api.ConditionReconciled,
		"status":             string(metav1.ConditionTrue),
		"reason":             "Accepted",
		"message":            r.outcome.message(),
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
		"observedGeneration": r.generation,
	}

	switch {
	case r.outcome.err != nil:
		condition["status"] = string(metav1.ConditionFalse)
		condition["reason"] = cmp.Or(r.outcome.reason, "Invalid")
	case len(r.outcome.notes) > 0:
		condition["reason"] = "AcceptedInPart"
	}

	status := map[string]any{"conditions": append(others, condition)}
	if r.outcome.entry {
		status["addresses"] = statusAddresses(r.outcome.addresses)
	}

	change := map[string]any{"status": status}
	if r.version != "" {
		change["metadata"] = map[string]any{"resourceVersion": r.version}
	}
	patch, err := json.Marshal(change)
	if err != nil {
		return err
	}

	_, err = w.client.Resource(k.resource).Namespace(k.namespace).Patch(ctx, k.name, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: "isthmus-discovery"}, "status")
	return err
}

// statusAddresses are ServiceEntryStatus.addresses, sorted by host; nil, which
// a merge patch takes for a removal, when there are none.
func statusAddresses(given map[string]netip.Addr) any {
	if len(given) == 0 {
		return nil
	}
	var list []any
	for _, host := range slices.Sorted(maps.Keys(given)) {
		list = append(list, map[string]any{"value": given[host].String(), "host": host})
	}
	return list
}
