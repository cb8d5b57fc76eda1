package ca

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// publisher keeps the ConfigMap istio-ca-root-cert in every namespace equal to
// the trust bundle. It writes only where it differs, so several replicas do not
// fight.
type publisher struct {
	a          *Authority
	queue      workqueue.TypedRateLimitingInterface[string]
	namespaces informers.SharedInformerFactory
	configMaps informers.SharedInformerFactory
}

func newPublisher(a *Authority) *publisher {
	p := &publisher{
		a:          a,
		queue:      workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 30*time.Second)),
		namespaces: informers.NewSharedInformerFactoryWithOptions(a.client, 0, informers.WithTransform(stripNamespace)),
		configMaps: informers.NewSharedInformerFactoryWithOptions(a.client, 0,
			informers.WithTransform(stripConfigMap),
			informers.WithTweakListOptions(func(o *metav1.ListOptions) {
				o.FieldSelector = fields.OneTermEqualSelector("metadata.name", ConfigMapRoot).String()
			})),
	}
	return p
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) error {
	defer p.queue.ShutDown()
	nsInformer := p.namespaces.Core().V1().Namespaces().Informer()
	cmInformer := p.configMaps.Core().V1().ConfigMaps().Informer()
	if _, err := nsInformer.AddEventHandler(enqueue(func(o metav1.Object) { p.queue.Add(o.GetName()) })); err != nil {
		return fmt.Errorf("follow namespaces: %w", err)
	}

	if _, err := cmInformer.AddEventHandler(enqueue(func(o metav1.Object) {
		if o.GetName() == ConfigMapRoot {
			p.queue.Add(o.GetNamespace())
		}
	})); err != nil {
		return fmt.Errorf("follow config maps: %w", err)
	}

	p.namespaces.Start(ctx.Done())
	p.configMaps.Start(ctx.Done())
	defer p.namespaces.Shutdown()
	defer p.configMaps.Shutdown()

	if !cache.WaitForCacheSync(ctx.Done(), nsInformer.HasSynced, cmInformer.HasSynced) {
		return nil
	}

	worked := make(chan struct{})
	go func() {
		defer close(worked)
		for p.work(ctx) {
		}
	}()

	for {
		// Taken before the roots are read, so that no change is missed.
		changed := p.a.Changed()
		p.all()
		select {
		case <-ctx.Done():
			p.queue.ShutDown()
			<-worked
			return nil
		case <-changed:
		}
	}
}

// all queues every namespace.
func (p *publisher) all() {
	for _, name := range p.namespaces.Core().V1().Namespaces().Informer().GetStore().ListKeys() {
		p.queue.Add(name)
	}
}

// work handles one namespace, and tells whether there may be more.
func (p *publisher) work(ctx context.Context) bool {
	name, down := p.queue.Get()
	if down {
		return false
	}
	defer p.queue.Done(name)

	if err := p.publish(ctx, name); err != nil && ctx.Err() == nil {
		p.a.metrics.published.WithLabelValues("error").Inc()
		p.a.cfg.Logger.Warn("cannot publish the root", "namespace", name, "error", err)
		p.queue.AddRateLimited(name)
		return true
	}
	p.queue.Forget(name)
	return true
}

// publish writes the root into one namespace if it is not there.
func (p *publisher) publish(ctx context.Context, name string) error {
	ns, err := p.namespaces.Core().V1().Namespaces().Lister().Get(name)
	if apierrors.IsNotFound(err) || err == nil && (ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating) {
		return nil
	}
	if err != nil {
		return err
	}

	root := string(p.a.RootPEM())
	have, err := p.configMaps.Core().V1().ConfigMaps().Lister().ConfigMaps(name).Get(ConfigMapRoot)
	if err == nil && have.Data[FileRoot] == root {
		return nil
	}

	_, err = p.a.client.CoreV1().ConfigMaps(name).Apply(ctx,
		applycorev1.ConfigMap(ConfigMapRoot, name).
			WithLabels(map[string]string{"istio.io/config": "true"}).
			WithData(map[string]string{FileRoot: root}),
		metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	// The informer learns of a namespace's end later than the API server does.
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	if err != nil {
		return err
	}

	p.a.metrics.published.WithLabelValues("written").Inc()
	return nil
}

// enqueue makes an event handler that hands every object over.
func enqueue(add func(metav1.Object)) cache.ResourceEventHandler {
	handle := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		if o, ok := obj.(metav1.Object); ok {
			add(o)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, obj any) { handle(obj) },
		DeleteFunc: handle,
	}
}

// stripNamespace keeps in memory what publish looks at.
func stripNamespace(obj any) (any, error) {
	if ns, ok := obj.(*corev1.Namespace); ok {
		ns.ManagedFields, ns.Annotations, ns.Labels, ns.Spec = nil, nil, nil, corev1.NamespaceSpec{}
	}
	return obj, nil
}

func stripConfigMap(obj any) (any, error) {
	if cm, ok := obj.(*corev1.ConfigMap); ok {
		cm.ManagedFields, cm.Annotations, cm.BinaryData = nil, nil, nil
	}
	return obj, nil
}
