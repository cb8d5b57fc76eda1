package charts_test

import (
	"encoding/json"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/charts"
	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/values"
)

// TestOperatorHoldsWhatItHandsOn: the API server lets nobody make a role with a
// permission that he does not have himself. The operator has no "escalate", so
// its role must cover every role of every installation.
func TestOperatorHoldsWhatItHandsOn(t *testing.T) {
	files := withCRDs(t)
	objs, err := render.RenderOperator(render.OperatorConfig{Namespace: "istio-operator", Hub: "h", Tag: "t"}, files)
	if err != nil {
		t.Fatal(err)
	}
	held := rules(t, objs)
	for _, r := range held {
		for _, forbidden := range []string{"*", "escalate", "bind", "impersonate"} {
			if slices.Contains(r.Verbs, forbidden) {
				t.Errorf("the operator may %q %v", forbidden, r.Resources)
			}
		}
	}

	for _, sets := range [][]string{
		{"profile=demo", "addonComponents.istiocoredns.enabled=true", "values.global.multiCluster.enabled=true"},
		{"profile=minimal", "revision=canary"},
		{"profile=remote", "values.global.remotePilotAddress=192.0.2.1"},
	} {
		c, err := values.Resolve(values.Input{Sets: sets, Hub: "h", Tag: "t"})
		if err != nil {
			t.Fatal(err)
		}
		objs, err := render.Render(c, files)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules(t, objs) {
			for _, missing := range uncovered(held, r) {
				t.Errorf("%v: a role may %s, the operator may not: add it to charts/operator", sets, missing)
			}
		}
	}
}

// TestDiscoveryMayTrustItsWebhooks: discovery's role names every webhook
// configuration that is rendered, for it writes its root into each.
func TestDiscoveryMayTrustItsWebhooks(t *testing.T) {
	for revision, want := range map[string][]string{
		"default": {"istio-sidecar-injector", "istiod-default-validator", "istiod-istio-system"},
		"canary":  {"istio-sidecar-injector-canary", "istio-validator-canary-istio-system", "istiod-default-validator"},
	} {
		c, err := values.Resolve(values.Input{Revision: revision, Hub: "h", Tag: "t"})
		if err != nil {
			t.Fatal(err)
		}
		objs, err := render.Render(c, withCRDs(t))
		if err != nil {
			t.Fatal(err)
		}
		var got, allowed []string
		for _, o := range objs {
			if strings.HasSuffix(o.GetKind(), "WebhookConfiguration") {
				got = append(got, o.GetName())
			}
		}
		for _, r := range rules(t, objs) {
			if slices.Contains(r.APIGroups, "admissionregistration.k8s.io") && slices.Contains(r.Verbs, "patch") {
				allowed = append(allowed, r.ResourceNames...)
			}
		}
		slices.Sort(got)
		slices.Sort(allowed)
		if !slices.Equal(got, want) || !slices.Equal(allowed, want) {
			t.Errorf("%s: webhooks %v, discovery may change %v; want %v", revision, got, allowed, want)
		}
	}
}

// withCRDs is the charts with something in the place of the generated CRDs,
// which a plain checkout does not have.
func withCRDs(t *testing.T) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	err := fs.WalkDir(charts.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(charts.FS, name)
		out[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out["base/files/crds.gen.yaml"] = &fstest.MapFile{Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: crds}\n")}
	out["base/files/mcs-crds.gen.yaml"] = &fstest.MapFile{Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mcs-crds}\n")}
	return out
}

// rules are those of all roles among the objects.
func rules(t *testing.T, objs []render.Object) []rbacv1.PolicyRule {
	t.Helper()
	var out []rbacv1.PolicyRule
	for _, o := range objs {
		if o.GetKind() != "ClusterRole" && o.GetKind() != "Role" {
			continue
		}
		js, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var role rbacv1.ClusterRole
		if err := json.Unmarshal(js, &role); err != nil {
			t.Fatal(err)
		}
		out = append(out, role.Rules...)
	}
	return out
}

// uncovered lists what a rule allows and none of those held does. A rule without
// names of resources covers one with; a rule with names, one with the same.
func uncovered(held []rbacv1.PolicyRule, r rbacv1.PolicyRule) []string {
	var out []string
	for _, group := range r.APIGroups {
		for _, resource := range r.Resources {
			for _, verb := range r.Verbs {
				covered := slices.ContainsFunc(held, func(h rbacv1.PolicyRule) bool {
					return (len(h.ResourceNames) == 0 || slices.Equal(h.ResourceNames, r.ResourceNames)) && slices.Contains(h.APIGroups, group) && slices.Contains(h.Verbs, verb) &&
						(slices.Contains(h.Resources, resource) || slices.Contains(h.Resources, "*"))
				})
				if !covered {
					out = append(out, strings.TrimSpace(verb+" "+resource+" "+group))
				}
			}
		}
	}
	return out
}

// TestDiscoveryMayReadWhatItTells: of every kind that is not honoured, the
// control plane may read the objects, and write the status where it is its own
// to write.
func TestDiscoveryMayReadWhatItTells(t *testing.T) {
	c, err := values.Resolve(values.Input{Sets: []string{"profile=minimal"}, Hub: "h", Tag: "t"})
	if err != nil {
		t.Fatal(err)
	}
	objs, err := render.Render(c, withCRDs(t))
	if err != nil {
		t.Fatal(err)
	}
	var held []rbacv1.PolicyRule
	for _, o := range objs {
		if o.GetKind() == "ClusterRole" && o.GetName() == "istiod-istio-system" {
			held = rules(t, []render.Object{o})
		}
	}

	for _, k := range api.NotHonouredKinds() {
		want := []rbacv1.PolicyRule{{APIGroups: []string{k.Group}, Resources: []string{k.Resource}, Verbs: []string{"list", "watch"}}}
		status := rbacv1.PolicyRule{APIGroups: []string{k.Group}, Resources: []string{"*/status"}, Verbs: []string{"patch"}}
		if !k.Shared() {
			want = append(want, status)
		} else if len(uncovered(held, status)) == 0 {
			t.Errorf("may write the status of %s, which is another controller's", k.Kind)
		}
		for _, r := range want {
			for _, missing := range uncovered(held, r) {
				t.Errorf("%s: may not %s", k.Kind, missing)
			}
		}
	}
}
