package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// policyCluster answers as the API server of a cluster with a policy that the
// mesh does not honour, one that is wrong, and nothing else.
func policyCluster(t *testing.T) (kubeconfig string) {
	answers := map[string]string{
		"/version": `{"major":"1","minor":"34","gitVersion":"v1.34.0"}`,
		"/apis": `{"kind":"APIGroupList","apiVersion":"v1","groups":[
			{"name":"networking.istio.io","versions":[{"groupVersion":"networking.istio.io/v1","version":"v1"}],"preferredVersion":{"groupVersion":"networking.istio.io/v1","version":"v1"}},
			{"name":"security.istio.io","versions":[{"groupVersion":"security.istio.io/v1","version":"v1"}],"preferredVersion":{"groupVersion":"security.istio.io/v1","version":"v1"}},
			{"name":"extensions.istio.io","versions":[{"groupVersion":"extensions.istio.io/v1alpha1","version":"v1alpha1"}],"preferredVersion":{"groupVersion":"extensions.istio.io/v1alpha1","version":"v1alpha1"}}]}`,
		"/apis/networking.istio.io/v1":       `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"networking.istio.io/v1","resources":[{"name":"proxyconfigs","kind":"ProxyConfig","namespaced":true}]}`,
		"/apis/security.istio.io/v1":         `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"security.istio.io/v1","resources":[]}`,
		"/apis/extensions.istio.io/v1alpha1": `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"extensions.istio.io/v1alpha1","resources":[{"name":"wasmplugins","kind":"WasmPlugin","namespaced":true}]}`,
		"/apis/networking.istio.io/v1/proxyconfigs": `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[
			{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"namespace":"shop","name":"split"}}]}`,
		"/apis/extensions.istio.io/v1alpha1/wasmplugins": `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[
			{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"namespace":"shop","name":"deny-all"}}]}`,
		"/apis/security.istio.io/v1/peerauthentications": `{"kind":"PeerAuthenticationList","apiVersion":"security.istio.io/v1","items":[
			{"kind":"PeerAuthentication","apiVersion":"security.istio.io/v1","metadata":{"namespace":"shop","name":"odd"},"spec":{"mtls":{"mode":"STRIKT"}}}]}`,
		"/api/v1/namespaces/shop/configmaps/here": `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"namespace":"shop","name":"here"}}`,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body, known := answers[r.URL.Path]
		switch {
		case known:
		case strings.HasSuffix(r.URL.Path, "selfsubjectaccessreviews"):
			body = `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":true}}`
		case r.Method == http.MethodGet && (strings.HasSuffix(r.URL.Path, "configmaps") || strings.HasSuffix(r.URL.Path, "configurations")):
			body = `{"kind":"List","apiVersion":"v1","items":[]}`
		default:
			w.WriteHeader(http.StatusNotFound)
			body = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(srv.Close)
	kubeconfig = filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}],
users: [{name: u, user: {}}], contexts: [{name: c, context: {cluster: c, user: u}}]}`, srv.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// TestUnheededIsTold: whoever looks at a cluster, or installs into it, is told of
// the policies that have no effect there, security first.
func TestUnheededIsTold(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(manifest, []byte("kind: ConfigMap\napiVersion: v1\nmetadata: {namespace: shop, name: here}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"precheck":       {"x", "precheck"},
		"install":        {"install", "--dry-run"},
		"verify-install": {"verify-install", "-f", manifest},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := newRootCommand("isthmus")
			var out bytes.Buffer
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			cmd.SetArgs(append(args, "--kubeconfig", policyCluster(t)))
			if err := cmd.ExecuteContext(t.Context()); err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			rest := out.String()
			for _, want := range []string{
				"WasmPlugin shop/deny-all: WasmPlugin is not honoured yet by this version: nobody is refused by it",
				`PeerAuthentication shop/odd: is skipped when it is read: `,
				"ProxyConfig shop/split: ProxyConfig is not honoured yet by this version, and changes nothing",
			} {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Errorf("no %q, or not in its place, in\n%s", want, &out)
				}
				rest = after
			}
		})
	}
}
