package kube

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// TestDistributionOfNamespace: what a namespace says of its Services' calls holds for
// those that are there already, and for as long as it says it.
func TestDistributionOfNamespace(t *testing.T) {
	c := newCluster(t, shop()...)
	is := func(want model.Distribution) func(model.ReadTxn) bool {
		return func(txn model.ReadTxn) bool {
			n := 0
			for s := range c.store.Services.All(txn) {
				if s.Namespace == "shop" && s.Distribution == want {
					n++
				}
			}
			return n > 0
		}
	}
	say := func(annotations map[string]string) {
		t.Helper()
		ns, err := c.kube.CoreV1().Namespaces().Get(context.Background(), "shop", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ns = ns.DeepCopy()
		ns.Annotations = annotations
		if _, err := c.kube.CoreV1().Namespaces().Update(context.Background(), ns, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	c.eventually("nobody says anything", is(model.DistributeAny))
	say(map[string]string{api.AnnotationDistribution: "PreferSameNode"})
	c.eventually("the namespace's annotation", is(model.PreferNode))
	say(map[string]string{api.AnnotationDistribution: "PreferClose"})
	c.eventually("another one", is(model.PreferZone))
	say(nil)
	c.eventually("none any more", is(model.DistributeAny))
}
