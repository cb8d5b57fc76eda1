package apply

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/api"
)

// defaultValidator is the validation webhook that sees every object, of whatever
// revision or none. All revisions' installations list it, and it calls one of
// them: the default, or, where there is none, the first that was installed.
const defaultValidator = "istiod-default-validator"

func isDefaultValidator(kind, name string) bool {
	return kind == "ValidatingWebhookConfiguration" && name == defaultValidator
}

// called is the Service that a webhook configuration calls; empty when none.
func called(u *unstructured.Unstructured) types.NamespacedName {
	var out types.NamespacedName
	hooks, _, _ := unstructured.NestedSlice(u.Object, "webhooks")
	for _, h := range hooks {
		m, _ := h.(map[string]any)
		out.Name, _, _ = unstructured.NestedString(m, "clientConfig", "service", "name")
		out.Namespace, _, _ = unstructured.NestedString(m, "clientConfig", "service", "namespace")
	}
	return out
}

// AnsweredByOther returns the Service of the other revision that the default
// validator calls, where it is not the intent's to have it called itself. The
// default revision takes it from every other; whether that other is still there
// is for the caller to find out.
func AnsweredByOther(intent, live *unstructured.Unstructured) (types.NamespacedName, bool) {
	if live == nil || !isDefaultValidator(intent.GetKind(), intent.GetName()) || intent.GetLabels()[api.LabelRevision] == api.DefaultRevision {
		return types.NamespacedName{}, false
	}
	other := called(live)
	return other, other.Name != "" && other != called(intent)
}

// answeredByInstalled is AnsweredByOther where that other is there.
func (c *Client) answeredByInstalled(ctx context.Context, intent, live *unstructured.Unstructured) (bool, error) {
	other, ok := AnsweredByOther(intent, live)
	if !ok {
		return false, nil
	}
	service, err := c.Get(ctx, corev1.SchemeGroupVersion.WithKind("Service"), other.Namespace, other.Name)
	return service != nil && service.GetDeletionTimestamp() == nil, err
}

// heir returns the default validator as one of the revisions that stay wants it,
// when it calls one that leaves; nil when nothing is to be done. A validator that
// calls nobody would lock everybody out of the configuration, or let all in.
func (c *Client) heir(ctx context.Context, leaving, staying []Inventory) (*unstructured.Unstructured, error) {
	for _, inv := range leaving {
		for _, e := range inv.Entries {
			if !isDefaultValidator(e.Kind, e.Name) || e.Intent == nil {
				continue
			}
			live, err := c.Get(ctx, e.GVK(), "", e.Name)
			if err != nil {
				return nil, named(e.ID(), err)
			}
			if live != nil && called(live) == called(e.Intent) {
				return wantedBy(staying, e), nil
			}
		}
	}
	return nil, nil
}

// wantedBy is the intent of the default revision among the inventories, or of the
// first one that has the entry.
func wantedBy(invs []Inventory, e Entry) *unstructured.Unstructured {
	var found *unstructured.Unstructured
	for i := range invs {
		if own := invs[i].entry(e); own != nil && own.Intent != nil && (found == nil || invs[i].Revision == api.DefaultRevision) {
			found = own.Intent
		}
	}
	return found
}

// handOver lets the heir be called. It is applied as rendered, with failurePolicy
// Ignore: the heir's control plane makes it Fail when it answers.
func (c *Client) handOver(ctx context.Context, heir *unstructured.Unstructured) error {
	if heir == nil {
		return nil
	}
	_, err := c.apply(ctx, heir, false)
	return named("ValidatingWebhookConfiguration/"+heir.GetName(), err)
}
