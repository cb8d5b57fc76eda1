package kube

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/model"
)

// TestWrongAuthorizationPoliciesStayShut: an edit that is wrong leaves in force what was;
// an object that was wrong from the beginning lets nobody in; a status says so.
func TestWrongAuthorizationPoliciesStayShut(t *testing.T) {
	c := newCluster(t)
	ctx, client := context.Background(), c.dyn.Resource(policiesResource).Namespace("shop")
	object := func(name string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
			"metadata": map[string]any{"namespace": "shop", "name": name}, "spec": spec,
		}}
	}
	rules := func(namespace string) []any {
		return []any{map[string]any{"from": []any{map[string]any{"source": map[string]any{"namespaces": []any{namespace}}}}}}
	}
	row := func(txn model.ReadTxn, name string) *model.AuthorizationPolicy {
		key := (&model.AuthorizationPolicy{Cluster: "c1", Namespace: "shop", Name: name}).Key()
		p, _, _ := c.store.Policies.Get(txn, c.store.Policies.ByKey(key))
		return p
	}
	told := func(name, text string) func(model.ReadTxn) bool {
		return func(model.ReadTxn) bool {
			u, err := client.Get(ctx, name, metav1.GetOptions{})
			return err == nil && readCondition(u).status == metav1.ConditionFalse && strings.Contains(readCondition(u).message, text)
		}
	}
	create := func(name string, spec map[string]any) {
		t.Helper()
		if _, err := client.Create(ctx, object(name, spec), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	create("edited", map[string]any{"rules": rules("a")})
	c.eventually("the policy", func(txn model.ReadTxn) bool { return row(txn, "edited") != nil })
	if _, err := client.Update(ctx, object("edited", map[string]any{"rules": rules("a/b")}), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the status of the edit", told("edited", "what was in force of it before stays so"))
	if p := row(c.store.Read(), "edited"); p == nil || len(p.Rules) != 1 || p.Rules[0].From[0][0].Values[0].Text != "a" {
		t.Errorf("after a wrong edit there is %+v", p)
	}

	create("wrong", map[string]any{"rules": append(rules("a/b"), rules("c")...)})
	c.eventually("the status of the wrong one", told("wrong", "lets nobody in"))
	// A status may be read a moment before the row that it speaks of.
	c.eventually("the wrong one, for whom it lets in", func(txn model.ReadTxn) bool {
		p := row(txn, "wrong")
		return p != nil && len(p.Rules) == 1 && !p.Deny
	})

	// Of a version that this one does not know.
	selector := map[string]any{"matchLabels": map[string]any{"app": "web"}}
	create("newer", map[string]any{"selector": selector, "rules": []any{map[string]any{"unless": "x"}}})
	create("newer-deny", map[string]any{"action": "DENY", "rules": []any{map[string]any{"unless": "x"}}})
	c.eventually("the status of the newer ones", told("newer", "unless"))
	c.eventually("the status of the newer ones", told("newer-deny", "unless"))
	c.eventually("a newer one that lets nobody in", func(txn model.ReadTxn) bool {
		p := row(txn, "newer")
		return p != nil && !p.Deny && len(p.Rules) == 0 && p.Selector["app"] == "web"
	})
	c.eventually("a newer one that denies everybody", func(txn model.ReadTxn) bool {
		p := row(txn, "newer-deny")
		return p != nil && p.Deny && len(p.Rules) == 1
	})

	for _, name := range []string{"edited", "wrong", "newer", "newer-deny"} {
		if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("no policy", func(txn model.ReadTxn) bool { return c.store.Policies.NumObjects(txn) == 0 })
}
