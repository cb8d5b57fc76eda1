//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// isolateTeams: a namespace that refuses everybody, then lets its own callers in, then
// those of one other namespace to one service: asked from that namespace, in the other
// cluster, and from its own, beside the service.
func isolateTeams(t *testing.T, m *mesh) {
	const (
		apply  = "kubectl --context cluster-2 apply -n bar -f - <<EOF\n"
		code   = "curl -sS -m 10 -o /dev/null -w '%{http_code}' "
		across = fromOne + code + "http://httpbin.bar.global:8000/headers"
		beside = "kubectl --context cluster-2 exec -n bar deploy/sleep -c sleep -- " + code + "http://httpbin.bar:8000/headers"
	)
	policy := func(name, spec string) string {
		return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " + name + "}\nspec: " + spec + "\nEOF"
	}
	answers := func(command, status string) {
		t.Helper()
		m.lab.eventually(t, 30*time.Second, command+" | grep -q "+status)
	}

	out := m.lab.refused(t, apply+policy("custom", "{action: CUSTOM, provider: {name: x}, rules: [{}]}"))
	if !strings.Contains(out, "spec.action: CUSTOM") {
		t.Errorf("refused without the field and the reason: %s", out)
	}

	m.lab.must(t, `kubectl --context cluster-2 apply -n bar -f samples/sleep/sleep.yaml`)
	m.lab.must(t, "kubectl --context cluster-2 wait -n bar --for=condition=available deployment/sleep --timeout=180s")
	answers(across, "200")
	answers(beside, "200")

	m.lab.must(t, apply+policy("nobody", "{}"))
	answers(across, "403")
	answers(beside, "403")

	m.lab.must(t, apply+policy("own", "{rules: [{from: [{source: {namespaces: [bar]}}]}]}"))
	answers(beside, "200")
	answers(across, "403")

	m.lab.must(t, apply+policy("exported", "{selector: {matchLabels: {app: httpbin}}, rules: [{from: [{source: {namespaces: [foo]}}], to: [{operation: {methods: [GET], paths: [/headers]}}]}]}"))
	answers(across, "200")
	answers(fromOne+code+"http://httpbin.bar.global:8000/get", "403")
	answers(fromOne+code+"http://httpbin.bar.global:8000//get", "403")

	m.lab.must(t, "kubectl --context cluster-2 delete -n bar authorizationpolicy nobody own exported")
	m.lab.must(t, "kubectl --context cluster-2 delete -n bar -f samples/sleep/sleep.yaml")
	answers(fromOne+code+"http://httpbin.bar.global:8000/get", "200")
	m.lab.must(t, callHTTPBin)
}
