package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
)

// oldestKubernetes is the oldest version that installations are made for.
const oldestKubernetes = "1.27.0"

// Finding is one thing that a check before an installation found.
type Finding struct {
	// Blocks is true when an installation would fail or do harm.
	Blocks bool   `json:"blocks"`
	Text   string `json:"text"`
}

// Precheck looks for what would keep d from being installed. It changes nothing.
func (c *Client) Precheck(ctx context.Context, d Desired) ([]Finding, error) {
	var out []Finding
	info, err := c.kube.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("ask the API server for its version: %w", err)
	}
	if v, err := version.ParseGeneric(info.GitVersion); err == nil && v.LessThan(version.MustParseGeneric(oldestKubernetes)) {
		out = append(out, Finding{true, fmt.Sprintf("Kubernetes %s is older than %s", info.GitVersion, oldestKubernetes)})
	}

	var access *AccessError
	if err := c.CheckAccess(ctx, d); errors.As(err, &access) {
		for _, m := range access.Missing {
			out = append(out, Finding{true, "this user may not " + m})
		}
	} else if err != nil {
		return nil, err
	}

	strangers, err := c.strangers(ctx, d)
	if err != nil {
		return nil, err
	}
	out = append(out, strangers...)

	hooks, err := c.deadWebhooks(ctx)
	if err != nil {
		return nil, err
	}
	out = append(out, hooks...)

	unheeded, err := c.Unheeded(ctx)
	if err != nil {
		out = append(out, Finding{false, "cannot tell which objects in the cluster have no effect: " + err.Error()})
	}
	for _, u := range unheeded {
		out = append(out, Finding{false, u.String()})
	}
	return out, nil
}

// strangers finds objects of the installation's names that no inventory knows:
// another mesh's, which an installation would take over.
func (c *Client) strangers(ctx context.Context, d Desired) ([]Finding, error) {
	invs, err := c.Inventories(ctx)
	if err != nil {
		return nil, err
	}

	known := map[string]bool{}
	for _, inv := range invs {
		for _, e := range inv.Entries {
			known[e.key()] = true
		}
	}

	var out []Finding
	for _, o := range d.Objects {
		if o.GetKind() != "Deployment" || known[entryOf(o).key()] {
			continue
		}
		live, err := c.Get(ctx, o.GroupVersionKind(), o.GetNamespace(), o.GetName())
		if err != nil {
			return nil, named(o.ID(), err)
		}
		if live != nil {
			out = append(out, Finding{true, o.ID() + " is there and was not installed by this tool: an installation would take it over"})
		}
	}
	return out, nil
}

// deadWebhooks finds injection and validation webhooks of the mesh whose Service
// is gone: they refuse pods and configuration.
func (c *Client) deadWebhooks(ctx context.Context) ([]Finding, error) {
	list, err := c.kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}

	var out []Finding
	for _, cfg := range list.Items {
		if !strings.HasPrefix(cfg.Name, "istio-sidecar-injector") {
			continue
		}
		for _, h := range cfg.Webhooks {
			s := h.ClientConfig.Service
			if s == nil {
				continue
			}
			_, err := c.kube.CoreV1().Services(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				out = append(out, Finding{false, fmt.Sprintf("MutatingWebhookConfiguration/%s points to Service %s/%s, which does not exist: pods that want a sidecar are refused", cfg.Name, s.Namespace, s.Name)})
				break
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
