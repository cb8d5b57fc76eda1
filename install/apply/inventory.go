package apply

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/install/render"
)

// The ConfigMap that an inventory is kept in.
const (
	inventoryPrefix = "istio-installed-state-"
	inventoryLabel  = "install.istio.io/inventory"
	// additionLabel has the name of an addition.
	additionLabel = "install.istio.io/addition"
	// inventoryHold is the finalizer of an inventory whose objects are being
	// removed.
	inventoryHold = "install.istio.io/removal"

	keyObjects = "objects"
	keySpec    = "spec"
	keyVersion = "version"
	keyIntents = "intents.gz" // binary: the objects as JSON lines, compressed
)

// Inventory is what an installation put into a cluster.
type Inventory struct {
	Revision string
	// Addition is the name of an installation beside the revision's control
	// plane, such as a gateway's; "" for the control plane's own.
	Addition string
	// Namespace is the control plane's, where the inventory lives.
	Namespace string
	// Version is that of the installer.
	Version string
	// Spec is the complete IstioOperator spec, as YAML.
	Spec    string
	Entries []Entry
	// Leaving is true while a removal is under way, and after one that was
	// interrupted.
	Leaving bool
}

// Entry is one object of an inventory.
type Entry struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Component string `json:"component,omitempty"`
	// Hash is of the intent that was last applied with success; empty while
	// an application is under way.
	Hash string `json:"hash,omitempty"`
	// Intent is what was applied.
	Intent *unstructured.Unstructured `json:"-"`
	// Found is true of an object that was there before the first install:
	// it is not removed.
	Found bool `json:"found,omitempty"`
}

// GVK is the kind of the object.
func (e Entry) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: e.Group, Version: e.Version, Kind: e.Kind}
}

// key identifies the object, whatever version it is written in.
func (e Entry) key() string {
	return e.Group + "/" + e.Kind + "/" + e.Namespace + "/" + e.Name
}

// ID names the object for people: Kind/namespace/name.
func (e Entry) ID() string {
	return strings.Join(slices.DeleteFunc([]string{e.Kind, e.Namespace, e.Name}, func(s string) bool { return s == "" }), "/")
}

// entryOf makes the entry of an object, without a hash.
func entryOf(o render.Object) Entry {
	gvk := o.GroupVersionKind()
	return Entry{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind,
		Namespace: o.GetNamespace(), Name: o.GetName(), Component: o.Component}
}

// hashOf is a fingerprint of an intent.
func hashOf(u *unstructured.Unstructured) (string, error) {
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:12]), nil
}

// Inventories reads all inventories of a cluster, sorted by revision, the control
// plane's before its additions.
func (c *Client) Inventories(ctx context.Context) ([]Inventory, error) {
	list, err := c.kube.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{LabelSelector: inventoryLabel})
	if err != nil {
		return nil, fmt.Errorf("look for earlier installations: %w", err)
	}
	var out []Inventory
	for _, cm := range list.Items {
		inv, err := readInventory(&cm)
		if err != nil {
			return nil, err
		}
		out = append(out, *inv)
	}
	slices.SortFunc(out, func(a, b Inventory) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Addition, b.Addition))
	})
	return out, nil
}

// object is the name of the ConfigMap. A revision is a DNS label and holds no dot.
func (inv *Inventory) object() string {
	if inv.Addition != "" {
		return inventoryPrefix + inv.Revision + "." + inv.Addition
	}
	return inventoryPrefix + inv.Revision
}

// String names the installation for people.
func (inv *Inventory) String() string {
	if inv.Addition != "" {
		return inv.Addition + " of revision " + inv.Revision
	}
	return "revision " + inv.Revision
}

func readInventory(cm *corev1.ConfigMap) (*Inventory, error) {
	inv := &Inventory{Revision: cm.Labels[inventoryLabel], Addition: cm.Labels[additionLabel], Namespace: cm.Namespace,
		Version: cm.Data[keyVersion], Spec: cm.Data[keySpec], Leaving: slices.Contains(cm.Finalizers, inventoryHold)}
	err := json.Unmarshal([]byte(cm.Data[keyObjects]), &inv.Entries)
	if err == nil {
		err = inv.unpackIntents(cm.BinaryData[keyIntents])
	}
	if err != nil {
		return nil, fmt.Errorf("the inventory ConfigMap/%s/%s is damaged (%w); delete it, and the next install makes a new one", cm.Namespace, cm.Name, err)
	}
	return inv, nil
}

// save writes the inventory, by server-side apply so that it creates as well.
func (c *Client) save(ctx context.Context, inv Inventory) error {
	slices.SortFunc(inv.Entries, func(a, b Entry) int { return cmp.Compare(a.key(), b.key()) })
	objects, err := json.Marshal(inv.Entries)
	if err != nil {
		return err
	}

	cm := &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{
			Name: inv.object(), Namespace: inv.Namespace,
			Labels: map[string]string{inventoryLabel: inv.Revision},
		},
		Data:       map[string]string{keyObjects: string(objects), keySpec: inv.Spec, keyVersion: inv.Version},
		BinaryData: map[string][]byte{},
	}
	if inv.Addition != "" {
		cm.Labels[additionLabel] = inv.Addition
	}
	if cm.BinaryData[keyIntents], err = inv.packIntents(); err != nil {
		return err
	}

	body, err := json.Marshal(cm)
	if err != nil {
		return err
	}

	force := true
	err = retry(ctx, func() error {
		_, err := c.kube.CoreV1().ConfigMaps(inv.Namespace).Patch(ctx, cm.Name, types.ApplyPatchType, body,
			metav1.PatchOptions{FieldManager: FieldManager, Force: &force})
		return err
	})
	return named("inventory ConfigMap/"+inv.Namespace+"/"+cm.Name, err)
}

// hold keeps an inventory, or no longer, although its namespace is being deleted.
func (c *Client) hold(ctx context.Context, inv Inventory, on bool) error {
	maps := c.kube.CoreV1().ConfigMaps(inv.Namespace)
	err := retry(ctx, func() error {
		cm, err := maps.Get(ctx, inv.object(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		held := slices.Contains(cm.Finalizers, inventoryHold)
		if held == on || on && cm.DeletionTimestamp != nil {
			return nil
		}
		if on {
			cm.Finalizers = append(cm.Finalizers, inventoryHold)
		} else {
			cm.Finalizers = slices.DeleteFunc(cm.Finalizers, func(f string) bool { return f == inventoryHold })
		}
		_, err = maps.Update(ctx, cm, metav1.UpdateOptions{FieldManager: FieldManager})
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return named("inventory of "+inv.String(), err)
}

// packIntents compresses what was applied: most of it is CRDs, which shrink to
// a tenth.
func (inv *Inventory) packIntents() ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	enc := json.NewEncoder(zip)
	for _, e := range inv.Entries {
		if e.Intent != nil {
			if err := enc.Encode(e.Intent.Object); err != nil {
				return nil, named(e.ID(), err)
			}
		}
	}
	err := zip.Close()
	return out.Bytes(), err
}

// unpackIntents gives the entries their intents back.
func (inv *Inventory) unpackIntents(packed []byte) error {
	if len(packed) == 0 {
		return nil
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	byKey := map[string]int{}
	for i, e := range inv.Entries {
		byKey[e.key()] = i
	}
	lines := bufio.NewScanner(zip)
	lines.Buffer(nil, maxIntent)
	for lines.Scan() {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		if i, ok := byKey[entryOf(render.Object{Unstructured: u}).key()]; ok {
			inv.Entries[i].Intent = u
		}
	}
	return lines.Err()
}

// maxIntent bounds one object, bytes: etcd takes no larger ones.
const maxIntent = 4 << 20

// forget removes the inventory.
func (c *Client) forget(ctx context.Context, inv Inventory) error {
	err := c.kube.CoreV1().ConfigMaps(inv.Namespace).Delete(ctx, inv.object(), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return named("inventory", err)
}
