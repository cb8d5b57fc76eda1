package kube

import (
	"context"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/backoff"
)

// crdPoll is how often kinds that the cluster does not have are looked for.
const crdPoll = 5 * time.Second

// configKind is a kind of configuration, and where it is served.
type configKind struct {
	kind     kind
	api      api.Kind
	group    string
	resource string
	// optional kinds are not waited for: old clusters do not have them, and
	// an account made for an older version may not read them.
	optional bool
}

// configKinds are the kinds that are read. The newest version that the cluster
// serves is taken: they all carry the same fields.
func configKinds() []configKind {
	return []configKind{
		{kindEntry, api.KindServiceEntry, api.GroupNetworking, "serviceentries", false},
		{kindDestination, api.KindDestinationRule, api.GroupNetworking, "destinationrules", false},
		{kindGateway, api.KindGateway, api.GroupNetworking, "gateways", false},
		{kindPeer, api.KindPeerAuthentication, api.GroupSecurity, "peerauthentications", false},
		{kindRange, "ServiceCIDR", groupKubernetesNetworking, "servicecidrs", true},
	}
}

// groupKubernetesNetworking is Kubernetes' own group; it has ServiceCIDR since
// version 1.33.
const groupKubernetesNetworking = "networking.k8s.io"

// ofInterest tells whether a group has kinds that are read.
func ofInterest(group string) bool {
	return slices.ContainsFunc(configKinds(), func(c configKind) bool { return c.group == group })
}

// kinds follows the configuration kinds. They are read without generated types,
// each object decoded by itself: one that does not decode then spoils no other.
type kinds struct {
	r *Reader

	mu      sync.Mutex
	running map[kind]*kindWatch
	wg      sync.WaitGroup
}

type kindWatch struct {
	informer cache.SharedIndexInformer
	resource schema.GroupVersionResource
	cancel   context.CancelFunc
	synced   cache.InformerSynced
	optional bool
}

func newKinds(r *Reader) *kinds { return &kinds{r: r, running: map[kind]*kindWatch{}} }

// start looks for the kinds until the cluster has answered once, and waits for
// those that it has.
func (k *kinds) start(ctx context.Context) error {
	delays := backoff.Delays{First: 100 * time.Millisecond, Most: crdPoll}
	for {
		err := k.look(ctx)
		if err == nil {
			break
		}
		k.r.log.Warn("cannot ask the API server which kinds it has; trying again", "error", err)
		if err := delays.Wait(ctx); err != nil {
			return err
		}
	}

	k.mu.Lock()
	var synced []cache.InformerSynced
	for _, w := range k.running {
		if w.optional {
			continue
		}
		// A kind that goes away again meanwhile counts as read.
		synced = append(synced, func() bool { return w.synced() || w.informer.IsStopped() })
	}
	k.mu.Unlock()

	return waitAll(ctx, synced)
}

// follow looks for missing kinds until ctx ends.
func (k *kinds) follow(ctx context.Context) {
	tick := time.NewTicker(crdPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			k.wg.Wait()
			return
		case <-tick.C:
		}

		k.mu.Lock()
		complete := !slices.ContainsFunc(configKinds(), func(c configKind) bool { return !c.optional && k.running[c.kind] == nil })
		k.mu.Unlock()

		if complete {
			continue
		}
		if err := k.look(ctx); err != nil {
			k.r.log.Debug("cannot ask the API server which kinds it has", "error", err)
		}
	}
}

// look starts reading every kind that the cluster has and that is not read yet.
func (k *kinds) look(ctx context.Context) error {
	groups, err := k.r.clients.Kube.Discovery().ServerGroups()
	if err != nil {
		return err
	}

	for _, g := range groups.Groups {
		if !ofInterest(g.Name) {
			continue
		}

		list, err := k.r.clients.Kube.Discovery().ServerResourcesForGroupVersion(g.PreferredVersion.GroupVersion)
		if err != nil {
			return err
		}

		served := map[string]bool{}
		for _, res := range list.APIResources {
			served[res.Name] = true
		}

		for _, c := range configKinds() {
			if c.group == g.Name && served[c.resource] {
				if err := k.watch(ctx, c, g.PreferredVersion.Version); err != nil {
					return err
				}
			}
		}
	}

	return nil
}

func (k *kinds) watch(ctx context.Context, c configKind, version string) error {
	k.mu.Lock()
	defer k.mu.Unlock()

	if k.running[c.kind] != nil {
		return nil
	}

	ctx, cancel := context.WithCancel(ctx)
	gvr := schema.GroupVersionResource{Group: c.group, Version: version, Resource: c.resource}
	inf := dynamicinformer.NewFilteredDynamicInformer(k.r.clients.Dynamic, gvr, "", 0, cache.Indexers{}, nil).Informer()
	if err := inf.SetTransform(stripUnstructured); err != nil {
		cancel()
		return err
	}

	err := inf.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsNotFound(err) {
			k.lost(c)
			return
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
	if err != nil {
		cancel()
		return err
	}

	reg, err := inf.AddEventHandler(k.r.handler(c.kind))
	if err != nil {
		cancel()
		return err
	}

	k.running[c.kind] = &kindWatch{informer: inf, resource: gvr, cancel: cancel, synced: reg.HasSynced, optional: c.optional}
	k.wg.Go(func() { inf.RunWithContext(ctx) })
	return nil
}

// lost ends the reading of a kind whose CRD was deleted, and with it all its
// objects.
func (k *kinds) lost(c configKind) {
	k.mu.Lock()
	w := k.running[c.kind]
	delete(k.running, c.kind)
	k.mu.Unlock()

	if w == nil {
		return
	}

	k.r.log.Info("the cluster no longer has a kind", "kind", c.api)
	w.cancel()
	for _, obj := range w.informer.GetStore().List() {
		if u, ok := obj.(*unstructured.Unstructured); ok {
			k.r.queue.add(ref{c.kind, u.GetNamespace(), u.GetName()})
		}
	}
}

// get returns an object and the resource that it is served under, or nil.
func (k *kinds) get(r ref) (*unstructured.Unstructured, schema.GroupVersionResource) {
	k.mu.Lock()
	w := k.running[r.kind]
	k.mu.Unlock()
	if w == nil {
		return nil, schema.GroupVersionResource{}
	}
	u, _ := lookup[*unstructured.Unstructured](w.informer, r.namespace, r.name)
	return u, w.resource
}
