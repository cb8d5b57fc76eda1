package clusterset

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/model"
)

// writeConditions brings what is to be said into the status of a ServiceExport, if
// it does not say so already. written is what was last said of it by this process.
func writeConditions(ctx context.Context, all dynamic.NamespaceableResourceInterface, u *unstructured.Unstructured, state, written model.ExportState, now time.Time) error {
	there, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return fmt.Errorf("ServiceExport %s/%s: status.conditions: %w", u.GetNamespace(), u.GetName(), err)
	}
	list, changed := merge(there, state, written, now)
	if !changed {
		return nil
	}

	patch, err := json.Marshal(map[string]any{
		// With the version that was read: who came between is not written over.
		"metadata": map[string]any{"resourceVersion": u.GetResourceVersion()},
		"status":   map[string]any{"conditions": list},
	})
	if err != nil {
		return err
	}
	_, err = all.Namespace(u.GetNamespace()).Patch(ctx, u.GetName(), types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: ManagedBy}, "status")
	if apierrors.IsNotFound(err) {
		return nil // it is gone
	}
	if err != nil {
		return fmt.Errorf("ServiceExport %s/%s: status: %w", u.GetNamespace(), u.GetName(), err)
	}
	return nil
}

// merge gives the list of conditions as it is to be. Those of others, and the order,
// stay as they are.
func merge(there []any, state, written model.ExportState, now time.Time) (list []any, changed bool) {
	list = append(list, there...)
	for _, c := range state.Conditions {
		at, old := find(list, c.Type)
		if old != nil && c.Unsure && !said(written, c.Type) {
			continue
		}

		want := map[string]any{
			"type": c.Type, "status": string(statusOf(c)), "reason": c.Reason, "message": c.Message,
			"observedGeneration": state.Generation, "lastTransitionTime": now.UTC().Format(time.RFC3339),
		}
		if old == nil {
			list, changed = append(list, want), true
			continue
		}
		if old["status"] == want["status"] {
			want["lastTransitionTime"] = old["lastTransitionTime"]
		}
		if !same(old, want) {
			list[at], changed = want, true
		}
	}
	return list, changed
}

// find gives the condition of a type and its place; nil when there is none.
func find(list []any, kind string) (int, map[string]any) {
	for i, item := range list {
		if m, ok := item.(map[string]any); ok && m["type"] == kind {
			return i, m
		}
	}
	return -1, nil
}

// same compares conditions. Numbers that come from a server are int64.
func same(a, b map[string]any) bool {
	for _, field := range []string{"status", "reason", "message", "observedGeneration"} {
		if a[field] != b[field] {
			return false
		}
	}
	return true
}

// said tells whether this process has said that a condition holds: it may take that
// back.
func said(written model.ExportState, kind string) bool {
	for _, c := range written.Conditions {
		if c.Type == kind {
			return c.Holds
		}
	}
	return false
}

func statusOf(c model.Condition) metav1.ConditionStatus {
	if c.Holds {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}
