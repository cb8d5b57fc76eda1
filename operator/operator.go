package operator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	api "github.com/isthmus-mesh/isthmus/api/operator"
	"github.com/isthmus-mesh/isthmus/install/apply"
)

// Config is what the operator needs.
type Config struct {
	Rest *rest.Config
	// Namespace is the operator's own: its leader lease is there.
	Namespace string
	// Watch lists the namespaces whose resources count; empty: all.
	Watch []string
	// Hub and Tag are used when a resource names none.
	Hub, Tag string
	Version  string
	Charts   fs.FS
	Logger   *slog.Logger
	// MetricsAddr and HealthAddr are listened on; "0" turns one off.
	MetricsAddr, HealthAddr string
}

// GVK is the kind that is reconciled.
func GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: api.Group, Version: "v1alpha1", Kind: api.Kind}
}

// watched lists the kinds whose objects, when they are ours, are put right as
// soon as they change.
func watched() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "Deployment"},
		{Version: "v1", Kind: "Service"},
		{Version: "v1", Kind: "ConfigMap"},
		{Version: "v1", Kind: "ServiceAccount"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"},
		{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingWebhookConfiguration"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"},
	}
}

// Run reconciles until ctx ends. Of several replicas, the one that leads works.
func Run(ctx context.Context, c Config) error {
	if c.Namespace == "" || c.Rest == nil || c.Charts == nil {
		return errors.New("operator: Rest, Namespace and Charts are needed")
	}

	ctrl.SetLogger(logr.FromSlogHandler(c.Logger.Handler()))
	applier, err := apply.NewClient(c.Rest)
	if err != nil {
		return err
	}

	mgr, err := ctrl.NewManager(c.Rest, ctrl.Options{
		Cache: cacheOptions(c), LeaderElection: true, LeaderElectionID: "istio-operator-lock",
		LeaderElectionNamespace: c.Namespace, LeaderElectionReleaseOnCancel: true,
		Metrics:                server.Options{BindAddress: c.MetricsAddr},
		HealthProbeBindAddress: c.HealthAddr,
	})
	if err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := untilServed(ctx, mgr.GetRESTMapper(), c.Logger); err != nil {
		return fmt.Errorf("operator: %w", err)
	}

	r := &reconciler{config: c, client: mgr.GetClient(), applier: applier}
	if err := r.register(mgr); err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	return mgr.Start(ctx)
}

// untilServed waits until the API server knows IstioOperators. The kind is
// installed beside the operator, whose pod may be the faster of the two: were
// it to end for that, Kubernetes would let it wait ever longer before each new
// start.
func untilServed(ctx context.Context, mapper meta.RESTMapper, log *slog.Logger) error {
	kind := GVK()
	for said := false; ; said = true {
		_, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err == nil || !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
			return err
		}
		if !said {
			log.Info("waiting for the CRD of IstioOperator", "group", kind.Group, "version", kind.Version)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(kindInterval):
		}
	}
}

// kindInterval is how often untilServed asks.
const kindInterval = 500 * time.Millisecond

// cacheOptions keeps of watched kinds only what is ours.
func cacheOptions(c Config) cache.Options {
	ours := labels.SelectorFromSet(labels.Set{"app.kubernetes.io/managed-by": "isthmus"})
	byObject := map[client.Object]cache.ByObject{}
	for _, k := range watched() {
		byObject[metadataOf(k)] = cache.ByObject{Label: ours}
	}

	// Without a list, all namespaces are watched.
	resource := &unstructured.Unstructured{}
	resource.SetGroupVersionKind(GVK())
	if len(c.Watch) > 0 {
		namespaces := map[string]cache.Config{}
		for _, ns := range c.Watch {
			namespaces[ns] = cache.Config{}
		}
		byObject[resource] = cache.ByObject{Namespaces: namespaces}
	}
	return cache.Options{ByObject: byObject}
}

func metadataOf(k schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(k)
	return m
}

// register wires the watches: the resources themselves, and what they stand for.
func (r *reconciler) register(mgr ctrl.Manager) error {
	resource := &unstructured.Unstructured{}
	resource.SetGroupVersionKind(GVK())
	b := ctrl.NewControllerManagedBy(mgr).Named("istiooperator").
		For(resource, builder.WithPredicates(predicate.GenerationChangedPredicate{}))

	// The controllers of Deployments and of the autoscaler write their status
	// all the time: that is no edit.
	for _, k := range watched() {
		b = b.WatchesMetadata(metadataOf(k), handler.EnqueueRequestsFromMapFunc(r.everyResource),
			builder.WithPredicates(predicate.Or[client.Object](
				predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, noGeneration())))
	}
	return b.Complete(r)
}

// noGeneration lets pass changes of kinds that count no generations, but not of
// the inventory, a ConfigMap that the operator itself writes.
func noGeneration() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetGeneration() == 0 && o.GetLabels()["install.istio.io/inventory"] == ""
	})
}

// everyResource asks for all IstioOperators to be looked at: which of them an
// object belongs to, its inventory knows.
func (r *reconciler) everyResource(ctx context.Context, _ client.Object) []reconcile.Request {
	list, err := r.list(ctx)
	if err != nil {
		return nil
	}
	var out []reconcile.Request
	for _, u := range list {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&u)})
	}
	return out
}
