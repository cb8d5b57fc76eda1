package remotesecret

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Held is a Secret by which a control plane reads a cluster.
type Held struct {
	Namespace, Name string
	// Key is the cluster's name; Alone tells that the Secret holds no other.
	Key   string
	Alone bool
}

// String names the Secret for people.
func (h Held) String() string {
	if h.Alone {
		return fmt.Sprintf("Secret %s/%s", h.Namespace, h.Name)
	}
	return fmt.Sprintf("key %s of Secret %s/%s", h.Key, h.Namespace, h.Name)
}

// ClusterName is what the istiod of the cluster at cfg calls the cluster; empty
// when there is none.
func ClusterName(ctx context.Context, cfg *rest.Config, namespace string) (string, error) {
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return "", err
	}
	m := &maker{Options: Options{Namespace: namespace}, config: cfg, kube: kube}
	name, err := m.ownName(ctx)
	if err != nil {
		return "", m.explain(err)
	}
	return name, nil
}

// Readers finds, in the cluster at reading, the Secrets by which its control
// plane reads the cluster of that name, whose API server is the one at cfg. A
// Secret whose kubeconfig trusts another authority is another cluster's of the
// same name: that is an error, and nothing to be deleted.
func Readers(ctx context.Context, reading kubernetes.Interface, namespace, name string, cfg *rest.Config) ([]Held, error) {
	list, err := reading.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: Label + "=true"})
	if err != nil {
		return nil, fmt.Errorf("list the Secrets by which other clusters are read: %w", err)
	}
	var out []Held
	for i := range list.Items {
		s := &list.Items[i]
		kubeconfig, ok := s.Data[name]
		if !ok {
			continue
		}
		h := Held{Namespace: s.Namespace, Name: s.Name, Key: name, Alone: len(s.Data) == 1}
		if other, err := ofAnother(kubeconfig, cfg); err == nil && other {
			return nil, fmt.Errorf("%s is of another cluster that is called %q as well: its kubeconfig trusts another authority; delete it by hand if it is meant", h, name)
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Held) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// ofAnother tells whether a kubeconfig is surely not of the API server at cfg.
func ofAnother(kubeconfig []byte, cfg *rest.Config) (bool, error) {
	theirs, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return false, err
	}
	ours := rest.CopyConfig(cfg)
	if err := rest.LoadTLSFiles(ours); err != nil {
		return false, err
	}
	known := len(ours.CAData) > 0 && len(theirs.CAData) > 0
	return known && !bytes.Equal(bytes.TrimSpace(ours.CAData), bytes.TrimSpace(theirs.CAData)), nil
}

// Forget lets the control plane of the cluster at reading read another no
// longer. That it was forgotten already is no error.
func Forget(ctx context.Context, reading kubernetes.Interface, h Held) error {
	secrets := reading.CoreV1().Secrets(h.Namespace)
	var err error
	if h.Alone {
		err = secrets.Delete(ctx, h.Name, metav1.DeleteOptions{})
	} else {
		var patch []byte
		if patch, err = json.Marshal(map[string]any{"data": map[string]any{h.Key: nil}}); err != nil {
			return err
		}
		_, err = secrets.Patch(ctx, h.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s: %w", h, err)
	}
	return nil
}
