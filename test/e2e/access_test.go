//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

// access is one thing that may be asked of the API server.
type access struct{ group, resource, verb string }

func (a access) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", a.verb, a.resource, a.group))
}

// audited is what the API server notes of a request (Event, audit.k8s.io/v1).
type audited struct {
	Verb           string
	User           struct{ Username string }
	ObjectRef      struct{ Resource, Subresource, APIGroup, Namespace, Name string }
	ResponseStatus struct{ Code int }
}

// asked is what the request asked for. One that made an object by server-side
// apply asked for two things.
func (a audited) asked() []access {
	resource := a.ObjectRef.Resource
	if a.ObjectRef.Subresource != "" {
		resource += "/" + a.ObjectRef.Subresource
	}
	out := []access{{a.ObjectRef.APIGroup, resource, a.Verb}}
	if a.Verb == "patch" && a.ResponseStatus.Code == 201 {
		out = append(out, access{a.ObjectRef.APIGroup, resource, "create"})
	}
	return out
}

// unasked is what the control plane may do and had no reason to do in this
// test, and the reason.
func unasked() map[string]string {
	out := map[string]string{
		"create events":  "the mesh configuration holds what is not in force",
		"patch events":   "the same is said of it again",
		"create secrets": "a root is made where there is no cacerts",
		"create subjectaccessreviews authorization.k8s.io":                 "somebody reads the debug pages from another pod",
		"get validatingwebhookconfigurations admissionregistration.k8s.io": "the last replica of a control plane stops",
		"patch */status telemetry.istio.io":                                "configuration of this group is written",
		"patch */status extensions.istio.io":                               "configuration of this group is written",
		"patch */status security.istio.io":                                 "configuration of this group is written",
	}
	out["delete configmaps"] = "a cluster whose API server was gone is back: its last state goes"
	out["update secrets"] = "the token of another cluster is renewed"
	for _, what := range []string{"patch serviceexports/status", "list serviceimports", "create serviceimports", "update serviceimports", "delete serviceimports", "update serviceimports/status"} {
		out[what+" multicluster.x-k8s.io"] = "a Service is exported"
	}
	for _, k := range api.NotHonouredKinds() {
		if k.Shared() {
			for _, verb := range []string{"list", "watch"} {
				out[access{k.Group, k.Resource, verb}.String()] = "the cluster has the Gateway API"
			}
		}
	}
	return out
}

// leastAccess holds what the control plane and the DNS server may do against
// what they did since the clusters started: no permission is missing, and none
// is there that nothing needs.
func leastAccess(t *testing.T, m *mesh) {
	// Not by must, which would print it all.
	log, err := m.lab.run(t.Context(), "lab --name "+labName+" exec cluster-1 -- cat /var/log/lab/audit.log")
	if err != nil {
		t.Fatalf("read the API server's audit log: %v", err)
	}
	events := auditEvents(t, log)
	for _, who := range []struct{ account, roles string }{
		{"istiod-service-account", "clusterrole/istiod-istio-system role/istiod-istio-system"},
		{"istiocoredns-service-account", "clusterrole/istiocoredns-istio-system"},
	} {
		used := map[access]bool{}
		for _, e := range events {
			if e.User.Username != "system:serviceaccount:istio-system:"+who.account {
				continue
			}
			if e.ResponseStatus.Code == 403 {
				t.Errorf("%s was refused: %v %s/%s", who.account, e.asked()[0], e.ObjectRef.Namespace, e.ObjectRef.Name)
			}
			for _, a := range e.asked() {
				used[a] = true
			}
		}
		if len(used) == 0 {
			t.Errorf("the API server has noted nothing of %s", who.account)
		}

		var granted []rbacv1.PolicyRule
		for _, role := range strings.Fields(who.roles) {
			var r rbacv1.ClusterRole
			text := m.lab.must(t, "kubectl --context cluster-1 get -n istio-system -o json "+role)
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(err)
			}
			granted = append(granted, r.Rules...)
		}
		for _, a := range unusedOf(granted, used) {
			if unasked()[a] == "" {
				t.Errorf("%s may %s, and never did; it used %v", who.account, a, slices.Collect(maps.Keys(used)))
			}
		}
	}
}

func auditEvents(t *testing.T, log string) []audited {
	t.Helper()
	var out []audited
	for line := range strings.Lines(log) {
		var e audited
		// The last line may be half written.
		if json.Unmarshal([]byte(line), &e) == nil {
			out = append(out, e)
		}
	}
	return out
}

// unusedOf lists what the rules allow and nobody used, sorted.
func unusedOf(rules []rbacv1.PolicyRule, used map[access]bool) []string {
	var out []string
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					if a := (access{group, resource, verb}); !a.usedBy(used) {
						out = append(out, a.String())
					}
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// usedBy tells whether a grant, wildcards included, covers something of used. A
// list counts as used where there was a watch: the client lists first, or falls
// back to it, as it and the API server agree.
func (a access) usedBy(used map[access]bool) bool {
	for u := range used {
		resource, sub, _ := strings.Cut(u.resource, "/")
		granted, grantedSub, _ := strings.Cut(a.resource, "/")
		if u.group == a.group && (u.verb == a.verb || a.verb == "list" && u.verb == "watch") && sub == grantedSub && (granted == "*" || granted == resource) {
			return true
		}
	}
	return false
}
