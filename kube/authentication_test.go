package kube

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/model"
)

var authenticationsResource = schema.GroupVersionResource{Group: "security.istio.io", Version: "v1", Resource: "requestauthentications"}

// TestWrongRequestAuthenticationsStayShut: an edit that is wrong leaves in force what was;
// of an object that was wrong from the beginning, no token passes; a status says so.
func TestWrongRequestAuthenticationsStayShut(t *testing.T) {
	const keys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	c := newCluster(t)
	ctx, client := context.Background(), c.dyn.Resource(authenticationsResource).Namespace("shop")
	object := func(name string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
			"metadata": map[string]any{"namespace": "shop", "name": name}, "spec": spec,
		}}
	}
	rules := func(issuer, keys string) map[string]any {
		return map[string]any{"jwtRules": []any{map[string]any{"issuer": issuer, "jwks": keys}}}
	}
	row := func(txn model.ReadTxn, name string) *model.RequestAuthentication {
		key := (&model.RequestAuthentication{Cluster: "c1", Namespace: "shop", Name: name}).Key()
		a, _, _ := c.store.Authentications.Get(txn, c.store.Authentications.ByKey(key))
		return a
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

	create("edited", rules("iss", keys))
	c.eventually("the object", func(txn model.ReadTxn) bool { a := row(txn, "edited"); return a != nil && a.Rules[0].Keys == keys })
	if _, err := client.Update(ctx, object("edited", rules("iss", "none")), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the status of the edit", told("edited", "what was in force of it before stays so"))
	if a := row(c.store.Read(), "edited"); a == nil || len(a.Rules) != 1 || a.Rules[0].Keys != keys {
		t.Errorf("after a wrong edit there is %+v", a)
	}

	create("wrong", rules("iss", "none"))
	c.eventually("the status of the wrong one", told("wrong", "no token passes that it could not be read about"))
	c.eventually("the wrong one, without keys", func(txn model.ReadTxn) bool {
		a := row(txn, "wrong")
		return a != nil && len(a.Rules) == 1 && a.Rules[0].Issuer == "iss" && a.Rules[0].Keys == ""
	})

	// Of a version that this one does not know.
	newer := rules("iss", keys)
	newer["unless"], newer["selector"] = "x", map[string]any{"matchLabels": map[string]any{"app": "web"}}
	create("newer", newer)
	c.eventually("the status of the newer one", told("newer", "unless"))
	c.eventually("the newer one, which takes no token", func(txn model.ReadTxn) bool {
		a := row(txn, "newer")
		return a != nil && a.Selector["app"] == "web" && len(a.Rules) == 1 && a.Rules[0].Keys == ""
	})

	for _, name := range []string{"edited", "wrong", "newer"} {
		if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("no object", func(txn model.ReadTxn) bool { return c.store.Authentications.NumObjects(txn) == 0 })
}
