package kube

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// Names of the indexes over EndpointSlices and pods.
const (
	indexService = "service" // slices by namespace/service
	indexPod     = "pod"     // slices by namespace/pod
	indexNode    = "node"    // pods by node
)

// builtins are the informers of the kinds that every cluster serves.
type builtins struct {
	services, slices, pods, nodes, namespaces cache.SharedIndexInformer
	// mesh follows the ConfigMap of the mesh configuration; nil where the
	// cluster has none to give.
	mesh cache.SharedIndexInformer
	// secrets are those of the control plane's namespace, with what gateways need of
	// them; nil for a remote cluster.
	secrets cache.SharedIndexInformer
}

// newBuiltins makes the informers and lets their events fill the queue. synced
// tells that all events of the first listing are in it.
func (r *Reader) newBuiltins() (c *builtins, synced []cache.InformerSynced, err error) {
	factory := informers.NewSharedInformerFactory(r.clients.Kube, 0)
	c = &builtins{
		services:   factory.Core().V1().Services().Informer(),
		slices:     factory.Discovery().V1().EndpointSlices().Informer(),
		pods:       factory.Core().V1().Pods().Informer(),
		nodes:      factory.Core().V1().Nodes().Informer(),
		namespaces: factory.Core().V1().Namespaces().Informer(),
	}
	if r.cfg.MeshConfigMap != "" {
		c.mesh = configMapInformer(r.clients.Kube, r.cfg.Namespace, r.cfg.MeshConfigMap)
	}

	if !r.cfg.Remote {
		c.secrets = informers.NewSharedInformerFactoryWithOptions(r.clients.Kube, 0, informers.WithNamespace(r.cfg.Namespace)).Core().V1().Secrets().Informer()
	}

	if err := c.slices.AddIndexers(cache.Indexers{indexService: sliceService, indexPod: slicePods}); err != nil {
		return nil, nil, err
	}
	if err := c.pods.AddIndexers(cache.Indexers{indexNode: podNode}); err != nil {
		return nil, nil, err
	}

	for _, i := range []struct {
		informer  cache.SharedIndexInformer
		transform cache.TransformFunc
		handler   cache.ResourceEventHandler
	}{
		{c.services, stripService, r.handler(kindService)},
		{c.slices, stripSlice, r.sliceHandler()},
		{c.pods, stripPod, r.handler(kindPod)},
		{c.nodes, stripNode, r.handler(kindNode)},
		{c.namespaces, stripNamespace, r.handler(kindNamespace)},
		{c.mesh, nil, r.handler(kindMesh)},
		{c.secrets, stripSecret, r.handler(kindSecret)},
	} {
		if i.informer == nil {
			continue
		}
		if i.transform != nil {
			if err := i.informer.SetTransform(i.transform); err != nil {
				return nil, nil, err
			}
		}

		missing, err := noteMissing(i.informer)
		if err != nil {
			return nil, nil, err
		}
		reg, err := i.informer.AddEventHandler(i.handler)
		if err != nil {
			return nil, nil, err
		}
		synced = append(synced, func() bool { return reg.HasSynced() || missing.Load() })
	}

	return c, synced, nil
}

// noteMissing tells whether the API server does not serve what an informer asks
// for: an old one has no EndpointSlices of version 1. There is nothing to wait
// for then; the informer goes on asking, and finds what appears later.
func noteMissing(inf cache.SharedIndexInformer) (*atomic.Bool, error) {
	missing := &atomic.Bool{}
	return missing, inf.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		missing.Store(apierrors.IsNotFound(err))
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
}

func (c *builtins) all() []cache.SharedIndexInformer {
	out := []cache.SharedIndexInformer{c.services, c.slices, c.pods, c.nodes, c.namespaces}
	if c.mesh != nil {
		out = append(out, c.mesh)
	}
	if c.secrets != nil {
		out = append(out, c.secrets)
	}
	return out
}

// handler queues each object that changes, under its own name.
func (r *Reader) handler(k kind) cache.ResourceEventHandler {
	add := func(obj any) {
		if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = d.Obj
		}
		if m, ok := obj.(metav1.Object); ok {
			r.queue.add(ref{k, m.GetNamespace(), m.GetName()})
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    add,
		UpdateFunc: func(_, obj any) { add(obj) },
		DeleteFunc: add,
	}
}

// sliceHandler queues the service that a slice belongs to.
func (r *Reader) sliceHandler() cache.ResourceEventHandler {
	add := func(obj any) {
		if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = d.Obj
		}
		if s, ok := obj.(*discoveryv1.EndpointSlice); ok {
			if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
				r.queue.add(ref{kindSlice, s.Namespace, name})
			}
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: add,
		UpdateFunc: func(old, obj any) {
			// Its label may have changed: then two services are concerned.
			add(old)
			add(obj)
		},
		DeleteFunc: add,
	}
}

func sliceService(obj any) ([]string, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, fmt.Errorf("an EndpointSlice was expected, not %T", obj)
	}
	return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}, nil
}

func slicePods(obj any) ([]string, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, fmt.Errorf("an EndpointSlice was expected, not %T", obj)
	}
	var out []string
	for i := range s.Endpoints {
		if t := s.Endpoints[i].TargetRef; t != nil && t.Kind == "Pod" {
			out = append(out, s.Namespace+"/"+t.Name)
		}
	}
	return out, nil
}

func podNode(obj any) ([]string, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("a Pod was expected, not %T", obj)
	}
	return []string{p.Spec.NodeName}, nil
}

// waitAll waits until all are synced. It looks often: start-up is waited for.
func waitAll(ctx context.Context, synced []cache.InformerSynced) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()

	for _, s := range synced {
		for !s() {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-tick.C:
			}
		}
	}
	return nil
}

// only selects a single object by name.
func only(name string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
}
