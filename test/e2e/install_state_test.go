//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// state is what a cluster holds: objects by Kind/namespace/name.
type state map[string]map[string]any

// state lists all objects of the cluster but those that come and go by
// themselves. An IPAddress is the API server's own note of a Service's address,
// made before the Service: a request that is cut off in between leaves the note
// to its repair loop, so one whose Service is not there does not count.
func (s shell) state(t testing.TB) state {
	t.Helper()
	file := filepath.Join(t.TempDir(), "objects.json")
	s.must(t, `kinds=$(kubectl api-resources --verbs=list -o name | grep -vE '^(events|componentstatuses|endpoints|leases\.|apiservices\.|endpointslices\.)' | sort -u | paste -sd,)
kubectl get $kinds -A --ignore-not-found -o json > `+file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	out := state{}
	for _, o := range list.Items {
		if o["kind"] == "Event" {
			continue
		}
		m := o["metadata"].(map[string]any)
		namespace, _ := m["namespace"].(string)
		out[fmt.Sprintf("%v/%s/%v", o["kind"], namespace, m["name"])] = o
	}
	maps.DeleteFunc(out, func(_ string, o map[string]any) bool {
		spec, _ := o["spec"].(map[string]any)
		parent, _ := spec["parentRef"].(map[string]any)
		return o["kind"] == "IPAddress" && out[fmt.Sprintf("Service/%v/%v", parent["namespace"], parent["name"])] == nil
	})
	if len(out) < 50 {
		t.Fatalf("only %d objects in a cluster: the test would show nothing", len(out))
	}
	return out
}

// names are the objects' identities, sorted.
func (s state) names() []string { return slices.Sorted(maps.Keys(s)) }

// added is what this state has and the other has not, without what differs
// between any two installations: pods, addresses, keys.
func (s state) added(other state) state {
	out := state{}
	for id, o := range s {
		kind, _, _ := strings.Cut(id, "/")
		if other[id] != nil || slices.Contains([]string{"Pod", "ReplicaSet", "IPAddress"}, kind) {
			continue
		}
		delete(o, "status")
		if strings.HasSuffix(id, "/istio-ca-root-cert") || strings.HasSuffix(id, "/istio-ca-secret") {
			delete(o, "data")
		}
		m := o["metadata"].(map[string]any)
		for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
			delete(m, field)
		}
		dropAll(m, "annotations", func(key string) bool { return key == "deployment.kubernetes.io/revision" })
		scrub(o)
		out[id] = o
	}
	return out
}

// scrub removes what a cluster gives out: addresses, ports, certificates.
func scrub(v any) {
	switch x := v.(type) {
	case map[string]any:
		for _, key := range []string{"clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort", "caBundle"} {
			delete(x, key)
		}
		for _, child := range x {
			scrub(child)
		}
	case []any:
		for _, child := range x {
			scrub(child)
		}
	}
}

// dropAll removes keys of a mapping below m, and the mapping when it is empty.
func dropAll(m map[string]any, field string, drop func(string) bool) {
	sub, _ := m[field].(map[string]any)
	maps.DeleteFunc(sub, func(key string, _ any) bool { return drop(key) })
	if len(sub) == 0 {
		delete(m, field)
	}
}

// withoutTools removes what installers write about themselves: their labels and
// annotations, inventories, releases.
func (s state) withoutTools() state {
	maps.DeleteFunc(s, func(id string, _ map[string]any) bool {
		return strings.Contains(id, "/istio-installed-state-") || strings.Contains(id, "/sh.helm.release.v1.")
	})
	for _, o := range s {
		m := o["metadata"].(map[string]any)
		dropAll(m, "labels", func(key string) bool {
			if o["kind"] == "Namespace" && key == "name" {
				return true // Helm's own, of namespaces that it makes
			}
			return slices.Contains([]string{"app.kubernetes.io/managed-by", "app.kubernetes.io/part-of", "operator.istio.io/component"}, key)
		})
		dropAll(m, "annotations", func(key string) bool {
			return strings.HasPrefix(key, "meta.helm.sh/") || key == "install.istio.io/made-by"
		})
	}
	return s
}

// same waits until have returns what is wanted: controllers and the control plane
// write a little later than the installer ends.
func same[T any](t testing.TB, what string, want T, have func() T) {
	t.Helper()
	var diff string
	for deadline := time.Now().Add(20 * time.Second); ; {
		if diff = cmp.Diff(want, have()); diff == "" {
			return
		}
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	if len(diff) > 6000 {
		diff = diff[:6000] + "\n…"
	}
	t.Fatalf("%s (-want +have):\n%s", what, diff)
}

// clone is a copy that can be changed.
func (s state) clone(t testing.TB) state {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out := state{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
