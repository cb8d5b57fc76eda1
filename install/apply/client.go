package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/internal/backoff"
)

// FieldManager owns, in server-side apply, what the installer sets.
const FieldManager = "isthmus"

// parallel is how many requests are under way at a time.
const parallel = 12

// Client is the way to one cluster. It is safe for concurrent use.
type Client struct {
	dyn  dynamic.Interface
	kube kubernetes.Interface
	meta metadata.Interface
}

// NewClient makes a client. Server warnings are dropped: they speak of the
// product's manifests, not of what the user did.
func NewClient(cfg *rest.Config) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.WarningHandlerWithContext = rest.NoWarnings{}
	http, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfigAndClient(cfg, http)
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfigAndClient(cfg, http)
	if err != nil {
		return nil, err
	}
	partial, err := metadata.NewForConfigAndClient(metadata.ConfigFor(cfg), http)
	if err != nil {
		return nil, err
	}
	return &Client{dyn: dyn, kube: kube, meta: partial}, nil
}

// resource is the endpoint for objects like u.
func (c *Client) resource(gvk schema.GroupVersionKind, namespace string) dynamic.ResourceInterface {
	gvr := ResourceOf(gvk)
	if namespace == "" {
		return c.dyn.Resource(gvr)
	}
	return c.dyn.Resource(gvr).Namespace(namespace)
}

// ResourceOf returns the endpoint of a kind by the rules of English, which all
// kinds of Kubernetes and Istio follow. It spares the API server a discovery of
// all that it serves.
func ResourceOf(gvk schema.GroupVersionKind) schema.GroupVersionResource {
	gvr, _ := meta.UnsafeGuessKindToResource(gvk)
	if lower := strings.ToLower(gvk.Kind); strings.HasSuffix(lower, "ay") || strings.HasSuffix(lower, "ey") {
		gvr.Resource = lower + "s" // gateways, not gatewaies
	}
	return gvr
}

// Get reads an object; nil when it, or its kind, does not exist.
func (c *Client) Get(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	u, err := c.resource(gvk, namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return u, err
}

// apply sends an intent by server-side apply and returns what came of it.
// Fields that somebody else changed are taken back. An object that is on its way
// out is waited for and made anew.
func (c *Client) apply(ctx context.Context, u *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	body, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}

	force := true
	opts := metav1.PatchOptions{FieldManager: FieldManager, Force: &force}
	if dryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}

	goesAway := passing
	if render.IsBinding(u.GroupVersionKind()) {
		goesAway = passingForBinding
	}

	for {
		var out *unstructured.Unstructured
		err = retryWhile(ctx, goesAway, func() error {
			out, err = c.resource(u.GroupVersionKind(), u.GetNamespace()).Patch(ctx, u.GetName(), types.ApplyPatchType, body, opts)
			return err
		})
		if err != nil || dryRun || out.GetDeletionTimestamp() == nil {
			return out, err
		}
		if err := c.gone(ctx, out.GroupVersionKind(), out.GetNamespace(), out.GetName()); err != nil {
			return nil, err
		}
	}
}

// madeAnnotation marks the namespaces that an installation made. An inventory
// cannot say so yet when the namespace that it will be in is made.
const madeAnnotation = "install.istio.io/made-by"

// makeNamespace makes a namespace, after one of that name that is on its way out.
func (c *Client) makeNamespace(ctx context.Context, name string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{madeAnnotation: FieldManager}}}
	for {
		_, err := c.kube.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{FieldManager: FieldManager})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		live, err := c.kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err == nil && live.DeletionTimestamp == nil {
			return nil // somebody was faster
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if err := c.gone(ctx, corev1.SchemeGroupVersion.WithKind("Namespace"), "", name); err != nil {
			return err
		}
	}
}

// gone waits until an object that is being deleted is not there any more. It
// reads no more than the metadata: a CRD is large.
func (c *Client) gone(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) error {
	for {
		u, err := c.meta.Resource(ResourceOf(gvk)).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil && !passing(err):
			return err
		case err == nil && u.GetDeletionTimestamp() == nil:
			return nil // kept
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("still there: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// remove deletes an object; it is no error when it is not there. A Deployment
// is there until its pods are gone.
func (c *Client) remove(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) error {
	policy := metav1.DeletePropagationBackground
	if gvk.Kind == "Deployment" {
		policy = metav1.DeletePropagationForeground
	}
	err := retry(ctx, func() error {
		return c.resource(gvk, namespace).Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &policy})
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// retry repeats what failed for a reason that passes by itself.
func retry(ctx context.Context, do func() error) error {
	return retryWhile(ctx, passing, do)
}

// retryWhile repeats what failed for a reason that passing knows, five times
// within three seconds.
func retryWhile(ctx context.Context, passing func(error) bool, do func() error) error {
	delays := backoff.Delays{First: 100 * time.Millisecond, Most: 2 * time.Second}
	for attempt := 0; ; attempt++ {
		err := do()
		if err == nil || attempt == 5 || !passing(err) {
			return err
		}
		if ended := delays.Wait(ctx); ended != nil {
			return errors.Join(err, ended)
		}
	}
}

// passing reports whether an error is one that goes away: a server that is busy
// or restarts, a connection that broke, a write that another one overtook.
func passing(err error) bool {
	return apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsConflict(err) || apierrors.IsTimeout(err) ||
		utilnet.IsConnectionReset(err) || utilnet.IsConnectionRefused(err) || utilnet.IsProbableEOF(err)
}

// passingForBinding counts a role that is not there as well: the API server looks
// the role of a binding up in a memory of roles that is a moment behind what it has
// itself just stored, and further behind what another API server has.
func passingForBinding(err error) bool {
	return passing(err) || apierrors.IsNotFound(err)
}

// forEach runs do for every item, a dozen at a time, until the first error.
func forEach[T any](ctx context.Context, items []T, do func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, item := range items {
		g.Go(func() error { return do(ctx, item) })
	}
	return g.Wait()
}

// named says of which object an error speaks.
func named(id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", id, err)
}
