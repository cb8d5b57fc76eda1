package apply

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// TestBindingWaitsForItsRole: an API server that does not know yet the role that
// it has just stored answers a binding with 404. The same answer to any other
// object is final.
func TestBindingWaitsForItsRole(t *testing.T) {
	const missing = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"clusterroles \"istiod\" not found"}`
	for _, tt := range []struct {
		group, kind string
		tries       int32
		stored      bool
	}{
		{"rbac.authorization.k8s.io/v1", "ClusterRoleBinding", 3, true},
		{"rbac.authorization.k8s.io/v1", "RoleBinding", 3, true},
		{"rbac.authorization.k8s.io/v1", "ClusterRole", 1, false},
		{"apps/v1", "Deployment", 1, false},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			var tries atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if tries.Add(1) < 3 {
					w.WriteHeader(http.StatusNotFound)
					fmt.Fprint(w, missing)
					return
				}
				fmt.Fprintf(w, `{"apiVersion":%q,"kind":%q,"metadata":{"name":"istiod"}}`, tt.group, tt.kind)
			}))
			defer server.Close()
			client, err := NewClient(&rest.Config{Host: server.URL})
			if err != nil {
				t.Fatal(err)
			}

			u := &unstructured.Unstructured{}
			u.SetAPIVersion(tt.group)
			u.SetKind(tt.kind)
			u.SetName("istiod")
			_, err = client.apply(t.Context(), u, false)

			if stored := err == nil; stored != tt.stored || tries.Load() != tt.tries {
				t.Errorf("stored %v after %d tries (%v), want %v after %d", stored, tries.Load(), err, tt.stored, tt.tries)
			}
		})
	}
}
