package apply

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/install/render"
)

type m = map[string]any

func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		name       string
		want, have m
		diff       []string
	}{
		{"equal", m{"a": "b"}, m{"a": "b"}, nil},
		{"more is there", m{"a": "b"}, m{"a": "b", "c": "default"}, nil},
		{"missing", m{"a": m{"b": "c"}}, m{"a": m{}}, []string{`a.b: missing, should be "c"`}},
		{"changed", m{"a": int64(1)}, m{"a": int64(2)}, []string{"a: is 2, should be 1"}},
		{"numbers by value", m{"a": int64(1)}, m{"a": 1.0}, nil},
		{"quantities by amount", m{"cpu": "1000m"}, m{"cpu": "1"}, nil},
		{"other quantity", m{"cpu": "1000m"}, m{"cpu": "2"}, []string{`cpu: is "2", should be "1000m"`}},
		{"empty is left out", m{"a": "", "b": false, "c": m{}, "d": []any{}}, m{}, nil},
		{"element of a list", m{"l": []any{m{"a": "b"}}}, m{"l": []any{m{"a": "c", "x": "y"}}}, []string{`l[0].a: is "c", should be "b"`}},
		{"shorter list", m{"l": []any{"a"}}, m{"l": []any{"a", "b"}}, []string{"l: is [a b], should be [a]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, d := range Compare(tc.want, tc.have) {
				got = append(got, d.Problem())
			}
			if diff := cmp.Diff(tc.diff, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestChanged(t *testing.T) {
	var got []string
	before := m{"a": "1", "b": m{"c": "2"}, "cpu": "1", "empty": "", "l": []any{"x"}}
	after := m{"a": "2", "d": m{"e": "3"}, "cpu": "1000m", "void": "", "l": []any{"x", "y"}}
	for _, c := range Changed(before, after) {
		got = append(got, c.String())
	}
	want := []string{`~ a: "1" → "2"`, `- b.c: "2"`, `+ d.e: "3"`, `+ l[1]: "y"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func object(kind, name string, fields m) render.Object {
	o := m{"apiVersion": "v1", "kind": kind, "metadata": m{"name": name, "namespace": "ns"}}
	for k, v := range fields {
		o[k] = v
	}
	return render.Object{Unstructured: &unstructured.Unstructured{Object: o}, Component: "C"}
}

// TestLeftovers: exactly what the last install of the revision had and this one
// does not goes, in reverse order; CRDs, namespaces, what was found and what
// another revision has stay.
func TestLeftovers(t *testing.T) {
	e := func(kind, name string) Entry { return Entry{Version: "v1", Kind: kind, Namespace: "ns", Name: name} }
	found := e("ConfigMap", "found")
	found.Found = true
	p := &Plan{
		Desired: Desired{Objects: []render.Object{object("ConfigMap", "kept", nil)}},
		old: &Inventory{Entries: []Entry{e("ServiceAccount", "gone"), e("ConfigMap", "kept"), e("ConfigMap", "gone"), e("ConfigMap", "shared"),
			found, e("CustomResourceDefinition", "crd"), e("Namespace", "space")}},
		others: map[string]bool{e("ConfigMap", "shared").key(): true},
	}
	var got []string
	for _, s := range p.leftovers() {
		got = append(got, string(s.Action)+" "+s.Entry.ID())
	}
	want := []string{"delete ConfigMap/ns/gone", "delete ServiceAccount/ns/gone"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestKeepOwned: whether a validating webhook blocks is the control plane's to say.
func TestKeepOwned(t *testing.T) {
	hook := func(policy string) render.Object {
		return object("ValidatingWebhookConfiguration", "v", m{"webhooks": []any{m{"name": "a", "failurePolicy": policy}, m{"name": "new", "failurePolicy": "Ignore"}}})
	}
	intent, live := hook("Ignore"), object("ValidatingWebhookConfiguration", "v", m{"webhooks": []any{m{"name": "a", "failurePolicy": "Fail"}}})
	out := KeepOwned(intent.Unstructured, live.Unstructured)
	if diff := cmp.Diff(hook("Fail").Object, out.Object); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(hook("Ignore").Object, intent.Object); diff != "" {
		t.Errorf("the intent itself was changed: %s", diff)
	}
}

// TestIntentsRoundTrip: an inventory gives back what was applied.
func TestIntentsRoundTrip(t *testing.T) {
	a, b := object("ConfigMap", "a", m{"data": m{"k": strings.Repeat("v", 100_000)}}), object("ConfigMap", "b", nil)
	inv := &Inventory{}
	for _, o := range []render.Object{a, b} {
		e := entryOf(o)
		e.Intent = o.Unstructured
		inv.Entries = append(inv.Entries, e)
	}
	packed, err := inv.packIntents()
	if err != nil {
		t.Fatal(err)
	}
	back := &Inventory{Entries: []Entry{entryOf(b), entryOf(a)}}
	if err := back.unpackIntents(packed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a.Object, back.Entries[1].Intent.Object); diff != "" {
		t.Error(diff)
	}
	if err := back.unpackIntents([]byte("garbage")); err == nil {
		t.Error("garbage is accepted")
	}
}

func TestResourceOf(t *testing.T) {
	for kind, want := range map[string]string{
		"Gateway": "gateways", "ServiceEntry": "serviceentries", "EndpointSlice": "endpointslices", "Ingress": "ingresses",
		"PeerAuthentication": "peerauthentications", "NetworkPolicy": "networkpolicies",
	} {
		if got := ResourceOf(Entry{Kind: kind, Version: "v1"}.GVK()).Resource; got != want {
			t.Errorf("%s: %s, not %s", kind, got, want)
		}
	}
}

// TestNeeds: each permission is asked for once, and deletion only of what an
// installation may delete.
func TestNeeds(t *testing.T) {
	got := map[string]int{}
	for _, a := range needs(Desired{Namespace: "ns", Objects: []render.Object{object("Secret", "a", nil), object("Secret", "b", nil), object("Namespace", "n", nil)}}) {
		got[describeNeed(a)]++
	}
	for _, want := range []string{"create secrets in namespace ns", "delete secrets in namespace ns", "list configmaps (whole cluster)"} {
		if got[want] != 1 {
			t.Errorf("%q is asked %d times", want, got[want])
		}
	}
	if got["delete namespaces in namespace ns"] != 0 {
		t.Error("deletion of namespaces is asked for")
	}
}
