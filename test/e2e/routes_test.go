//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// routeRequests: a VirtualService of the client's namespace routes its requests to a
// service of the other cluster, within moments of being applied, and no longer once it
// is deleted.
func routeRequests(t *testing.T, m *mesh) {
	const (
		apply = "kubectl --context cluster-1 apply -n foo -f - <<EOF\n"
		curl  = fromOne + "curl -sS -m 10 -i "
		host  = "http://httpbin.bar.global:8000"
	)
	out := m.lab.refused(t, apply+`apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin}
spec:
  hosts: [httpbin.bar.global]
  http:
  - route: [{destination: {host: httpbin.bar.global}}]
    mirror: {subset: canary}
EOF`)
	if !strings.Contains(out, "spec.http[0].mirror.host: ") {
		t.Errorf("refused without the field and the reason: %s", out)
	}

	m.lab.must(t, apply+`apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin}
spec:
  hosts: [httpbin.bar.global]
  http:
  - match: [{headers: {x-canary: {exact: "yes"}}}]
    directResponse: {status: 418, body: {string: canary}}
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /}
    headers: {request: {set: {x-team: foo}}}
    route: [{destination: {host: httpbin.bar.global}}]
  - match: [{queryParams: {moved: {}}}]
    redirect: {uri: /headers, redirectCode: 307}
  - route: [{destination: {host: httpbin.bar.global}, weight: 100}]
    timeout: 5s
    mirror: {host: httpbin.bar.global}
EOF`)
	m.lab.eventually(t, 20*time.Second, curl+"-H 'x-canary: yes' "+host+"/headers | grep -q ' 418 '")
	for _, c := range []struct{ args, want string }{
		{host + "/headers", " 200 "},
		{host + "/old/headers", "foo"},
		{"'" + host + "/headers?moved'", "location: http://httpbin.bar.global:8000/headers"},
	} {
		if got := m.lab.must(t, curl+c.args); !strings.Contains(strings.ToLower(got), strings.ToLower(c.want)) {
			t.Errorf("curl %s: no %q in %s", c.args, c.want, got)
		}
	}

	// The copies are answered by the other cluster, too; their callers hear nothing of that.
	m.lab.eventually(t, 20*time.Second, fromOne+`sh -c 'curl -s http://127.0.0.1:15020/stats/prometheus | grep "^isthmus_proxy_mirrored_requests_total.*answered"'`)

	m.lab.must(t, "kubectl --context cluster-1 delete virtualservice -n foo httpbin")
	m.lab.eventually(t, 20*time.Second, curl+"-H 'x-canary: yes' "+host+"/headers | grep -q ' 200 '")
}

// limitSidecars: what a Sidecar leaves out is no host of the mesh to the sidecars of its
// namespace, and what it names is one again, within moments.
func limitSidecars(t *testing.T, m *mesh) {
	const call = fromOne + "curl -sS -m 10 -o /dev/null -w '%{http_code}' http://httpbin.bar.global:8000/headers"
	apply := func(hosts string) string {
		return `kubectl --context cluster-1 apply -n foo -f - <<EOF
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec:
  egress:
  - hosts: [` + hosts + `]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
EOF`
	}
	if out := m.lab.refused(t, apply(`"httpbin.bar.global"`)); !strings.Contains(out, "spec.egress[0].hosts[0]") {
		t.Errorf("refused without the field: %s", out)
	}

	m.lab.must(t, apply(`"istio-system/*"`))
	m.lab.eventually(t, 20*time.Second, "test \"$("+call+" || true)\" != 200")
	m.lab.must(t, apply(`"./*", "istio-system/*"`))
	m.lab.eventually(t, 20*time.Second, "test \"$("+call+")\" = 200")
	m.lab.must(t, "kubectl --context cluster-1 delete sidecar -n foo default")
}
