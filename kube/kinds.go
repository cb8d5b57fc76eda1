package kube

import (
	"context"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/backoff"
)

// How often kinds that the cluster does not have are looked for: in a remote
// cluster, of which the mesh needs none, less often.
const (
	crdPoll       = 5 * time.Second
	crdPollRemote = 30 * time.Second
)

// configKind is a kind of configuration, and where it is served.
type configKind struct {
	kind     kind
	api      api.Kind
	group    string
	resource string
	// optional kinds are not waited for: old clusters do not have them, and
	// an account made for an older version may not read them.
	optional bool
	// mayBeRefused kinds are waited for, unless the account may not read them:
	// it may be one of an older version, or of another mesh.
	mayBeRefused bool
}

// configKinds are the kinds that are read. The newest version that the cluster
// serves is taken: they all carry the same fields.
func configKinds() []configKind {
	return []configKind{
		{kind: kindEntry, api: api.KindServiceEntry, group: api.GroupNetworking, resource: "serviceentries"},
		{kind: kindDestination, api: api.KindDestinationRule, group: api.GroupNetworking, resource: "destinationrules"},
		{kind: kindVirtual, api: api.KindVirtualService, group: api.GroupNetworking, resource: "virtualservices"},
		{kind: kindSidecar, api: api.KindSidecar, group: api.GroupNetworking, resource: "sidecars"},
		{kind: kindGateway, api: api.KindGateway, group: api.GroupNetworking, resource: "gateways"},
		{kind: kindPeer, api: api.KindPeerAuthentication, group: api.GroupSecurity, resource: "peerauthentications"},
		{kind: kindAuthorization, api: api.KindAuthorizationPolicy, group: api.GroupSecurity, resource: "authorizationpolicies"},
		{kind: kindAuthentication, api: api.KindRequestAuthentication, group: api.GroupSecurity, resource: "requestauthentications"},
		{kind: kindRange, api: "ServiceCIDR", group: groupKubernetesNetworking, resource: "servicecidrs", optional: true},
		exportKind(),
	}
}

// groupKubernetesNetworking is Kubernetes' own group; it has ServiceCIDR since
// version 1.33.
const groupKubernetesNetworking = "networking.k8s.io"

// ofInterest tells whether a group has kinds that are read.
func (k *kinds) ofInterest(group string) bool {
	return slices.ContainsFunc(k.wanted, func(c configKind) bool { return c.group == group })
}

// kinds follows the configuration kinds. They are read without generated types,
// each object decoded by itself: one that does not decode then spoils no other.
type kinds struct {
	r      *Reader
	wanted []configKind
	poll   time.Duration // between looks for those that are missing

	mu      sync.Mutex
	running map[kind]*kindWatch
	told    map[kind]string // why a kind is not read, as it was last said
	wg      sync.WaitGroup
}

type kindWatch struct {
	informer cache.SharedIndexInformer
	resource schema.GroupVersionResource
	cancel   context.CancelFunc
	synced   cache.InformerSynced
	optional bool
}

func newKinds(r *Reader) *kinds {
	k := &kinds{r: r, wanted: configKinds(), poll: crdPoll, running: map[kind]*kindWatch{}, told: map[kind]string{}}
	if r.cfg.Remote {
		k.wanted, k.poll = []configKind{exportKind()}, crdPollRemote
	}
	return k
}

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
	tick := time.NewTicker(k.poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			k.wg.Wait()
			return
		case <-tick.C:
		}

		k.mu.Lock()
		complete := !slices.ContainsFunc(k.wanted, func(c configKind) bool { return !c.optional && k.running[c.kind] == nil })
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
	// With the context, or an API server that hangs would hold the Reader up
	// when it is to end.
	asked := discovery.ToDiscoveryInterfaceWithContext(k.r.clients.Kube.Discovery())
	groups, err := asked.ServerGroupsWithContext(ctx)
	if err != nil {
		return err
	}

	for _, g := range groups.Groups {
		if !k.ofInterest(g.Name) {
			continue
		}

		list, err := asked.ServerResourcesForGroupVersionWithContext(ctx, g.PreferredVersion.GroupVersion)
		if err != nil {
			return err
		}

		served := map[string]bool{}
		for _, res := range list.APIResources {
			served[res.Name] = true
		}

		for _, c := range k.wanted {
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
		switch {
		case apierrors.IsNotFound(err):
			k.lost(c, "the cluster no longer has a kind")
			return
		case apierrors.IsForbidden(err) && c.mayBeRefused:
			k.lost(c, "a kind may not be read: none of its objects counts until the account may list and watch it")
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

// lost ends the reading of a kind whose CRD was deleted, or that may not be read,
// and with it all its objects. It is said once why.
func (k *kinds) lost(c configKind, why string) {
	k.mu.Lock()
	w := k.running[c.kind]
	delete(k.running, c.kind)
	told := k.told[c.kind] == why
	k.told[c.kind] = why
	k.mu.Unlock()

	if w == nil {
		return
	}

	if !told {
		k.r.log.Warn(why, "kind", c.api)
	}
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
