package apply

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// TestHold: an inventory that is held says that a removal is under way, and
// nothing is installed over it until it is let go.
func TestHold(t *testing.T) {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: inventoryPrefix + "default", Namespace: "istio-system",
			Labels: map[string]string{inventoryLabel: "default"}, Finalizers: []string{"example.com/other"}},
		Data: map[string]string{keyObjects: "[]"},
	}
	c := &Client{kube: fake.NewClientset(cm)}
	inv := Inventory{Revision: "default", Namespace: "istio-system"}
	desired := Desired{Revision: "default", Namespace: "istio-system"}
	for range 2 { // the second time, nothing is left to do
		if err := c.hold(t.Context(), inv, true); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Plan(t.Context(), desired); err == nil || !strings.Contains(err.Error(), "uninstall --purge") {
			t.Fatalf("planned over a removal: %v", err)
		}
	}
	for range 2 {
		if err := c.hold(t.Context(), inv, false); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Plan(t.Context(), desired); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.kube.CoreV1().ConfigMaps("istio-system").Get(t.Context(), cm.Name, metav1.GetOptions{})
	if err != nil || len(got.Finalizers) != 1 || got.Finalizers[0] != "example.com/other" {
		t.Errorf("the finalizers of others: %v %v", got.Finalizers, err)
	}
	if err := c.hold(t.Context(), Inventory{Revision: "none", Namespace: "istio-system"}, true); err != nil {
		t.Errorf("an inventory that is gone: %v", err)
	}
}
