package kube

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/internal/wake"
)

func configMapInformer(client kubernetes.Interface, namespace, name string) cache.SharedIndexInformer {
	return informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithNamespace(namespace), informers.WithTweakListOptions(only(name)),
	).Core().V1().ConfigMaps().Informer()
}

// FollowConfigMap calls use with the data of a ConfigMap now and whenever it
// changes, until ctx ends. While the ConfigMap does not exist, the data is nil.
// Calls never overlap.
func FollowConfigMap(ctx context.Context, client kubernetes.Interface, namespace, name string, use func(map[string]string)) error {
	inf := configMapInformer(client, namespace, name)
	changed := wake.NewSignal()

	reg, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed.Send() },
		UpdateFunc: func(any, any) { changed.Send() },
		DeleteFunc: func(any) { changed.Send() },
	})
	if err != nil {
		return err
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		inf.Run(ctx.Done())
	}()
	defer func() { <-done }()

	if err := waitAll(ctx, []cache.InformerSynced{reg.HasSynced}); err != nil {
		return nil
	}

	var last map[string]string
	for first := true; ; first = false {
		data := configMapData(inf, namespace, name)
		if first || !maps.Equal(last, data) {
			use(data)
			last = data
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func configMapData(inf cache.SharedIndexInformer, namespace, name string) map[string]string {
	obj, ok, err := inf.GetStore().GetByKey(namespace + "/" + name)
	if err != nil || !ok {
		return nil
	}
	cm, ok := obj.(*corev1.ConfigMap)
	if !ok {
		return nil
	}
	return cm.Data
}

// ReadConfigMap reads a ConfigMap's data once; nil when it does not exist.
func ReadConfigMap(ctx context.Context, client kubernetes.Interface, namespace, name string) (map[string]string, error) {
	list, err := client.CoreV1().ConfigMaps(namespace).List(ctx, listOne(name))
	if err != nil || len(list.Items) == 0 {
		return nil, err
	}
	return list.Items[0].Data, nil
}

func listOne(name string) (o metav1.ListOptions) {
	only(name)(&o)
	return o
}
