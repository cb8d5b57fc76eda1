//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// exportOf writes a ServiceExport of the namespace exports.
func exportOf(ctx, name string) string {
	return fmt.Sprintf(`kubectl apply --context=%s -f - <<EOF
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: %s, namespace: exports}
EOF
`, ctx, name)
}

// offered writes a Service of the namespace exports; spec is YAML in one line.
func offered(ctx, name, spec string) string {
	return fmt.Sprintf(`kubectl apply --context=%s -f - <<EOF
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: exports}
spec: {%s}
EOF
`, ctx, name, spec)
}

// conditionIs asks whether a ServiceExport has a condition.
func conditionIs(ctx, name, condition, status, reason string) string {
	return fmt.Sprintf(`test "$(kubectl get --context=%[1]s -n exports serviceexport %[2]s -o jsonpath='{.status.conditions[?(@.type=="%[3]s")].status} {.status.conditions[?(@.type=="%[3]s")].reason}')" = "%[4]s %[5]s"
`, ctx, name, condition, status, reason)
}

// importHas asks for a field of a ServiceImport.
func importHas(ctx, name, path, want string) string {
	return fmt.Sprintf(`test "$(kubectl get --context=%s -n exports serviceimport %s -o jsonpath='%s')" = "%s"
`, ctx, name, path, want)
}

// inEach is a script for several clusters, which ends at the first command that
// fails.
func inEach(contexts []string, script func(ctx string) string) string {
	var out strings.Builder
	out.WriteString("set -e\n")
	for _, ctx := range contexts {
		out.WriteString(script(ctx))
	}
	return out.String()
}

// withExports runs a test with the namespace exports in both clusters.
func (p *pair) withExports(t *testing.T, test func(both []string)) {
	t.Helper()
	both := []string{ctxOne, ctxTwo}
	p.lab.must(t, inEach(both, func(ctx string) string { return "kubectl create --context=" + ctx + " namespace exports\n" }))
	defer func() {
		p.lab.must(t, inEach(both, func(ctx string) string {
			return "kubectl delete --context=" + ctx + " namespace exports --wait --timeout=120s\n"
		}))
	}()
	test(both)
}

// soonExported is how long the API's own conformance suite waits.
const soonExported = 20 * time.Second

// exported holds what the Multi-Cluster Services API (KEP-1645) requires of clusters
// each of which has a control plane that reads the other.
func (p *pair) exported(t *testing.T) {
	p.withExports(t, func(both []string) {
		p.notExportable(t, both)
		p.exportedByOne(t, both)
		p.exportedByTwo(t, both)
		p.exportedNoMore(t, both)

		// A headless one has no address.
		p.lab.must(t, offered(ctxOne, "db", "selector: {app: db}, clusterIP: None, ports: [{name: tcp, port: 5432}]")+exportOf(ctxOne, "db"))
		p.lab.eventually(t, soonExported, inEach(both, func(ctx string) string {
			return importHas(ctx, "db", "{.spec.type}{.spec.ips}", "Headless")
		}))
	})
}

// notExportable: there is no such Service, or it is a name for something elsewhere.
func (p *pair) notExportable(t *testing.T, both []string) {
	p.lab.must(t, exportOf(ctxOne, "none")+
		offered(ctxOne, "elsewhere", "type: ExternalName, externalName: example.com")+exportOf(ctxOne, "elsewhere"))
	p.lab.eventually(t, soonExported, "set -e\n"+
		conditionIs(ctxOne, "none", "Valid", "False", "NoService")+
		conditionIs(ctxOne, "elsewhere", "Valid", "False", "InvalidServiceType"))
	p.lab.must(t, inEach(both, func(ctx string) string {
		return "test -z \"$(kubectl get --context=" + ctx + " -n exports serviceimports -o name)\"\n"
	}))
}

// exportedWeb is a Service of which the mesh carries and honours a part.
const exportedWeb = "selector: {app: web}, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}, " +
	"ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]"

// exportedByOne: all import it, with its ports, its session affinity and an address;
// and what the mesh does not carry is said.
func (p *pair) exportedByOne(t *testing.T, both []string) {
	p.lab.must(t, offered(ctxOne, "web", exportedWeb)+exportOf(ctxOne, "web"))
	p.lab.eventually(t, soonExported, inEach(both, func(ctx string) string {
		return importHas(ctx, "web", "{.spec.type}", "ClusterSetIP") +
			importHas(ctx, "web", "{.spec.ports[*].port} {.spec.ports[*].protocol}", "53 80 UDP TCP") +
			importHas(ctx, "web", "{.spec.sessionAffinity} {.spec.sessionAffinityConfig.clientIP.timeoutSeconds}", "ClientIP 10") +
			importHas(ctx, "web", "{.status.clusters[*].cluster}", "cluster1") +
			"kubectl get --context=" + ctx + " -n exports serviceimport web -o jsonpath='{.spec.ips[0]}' | grep -q '^242[.]'\n"
	})+conditionIs(ctxOne, "web", "Valid", "True", "Valid")+conditionIs(ctxOne, "web", "Ready", "True", "Exported"))
	p.lab.must(t, `kubectl get --context=`+ctxOne+` -n exports serviceexport web -o jsonpath='{.status.conditions[?(@.type=="Ready")].message}' | grep 'not 53/UDP.*sessionAffinity'`)
}

// exportedByTwo: the other exports another thing under the name. Both are told, once,
// and the older one decides.
func (p *pair) exportedByTwo(t *testing.T, both []string) {
	// The time of creation is in seconds.
	p.lab.must(t, "sleep 1\n"+
		offered(ctxTwo, "web", "selector: {app: web}, clusterIP: None, ports: [{name: http, port: 81}]")+exportOf(ctxTwo, "web"))
	p.lab.eventually(t, soonExported, inEach(both, func(ctx string) string {
		return conditionIs(ctx, "web", "Conflict", "True", "TypeConflict,PortConflict,SessionAffinityConflict") +
			importHas(ctx, "web", "{.spec.type} {.spec.ports[*].port}", "ClusterSetIP 53 80") +
			importHas(ctx, "web", "{.status.clusters[*].cluster}", "cluster1 cluster2")
	}))

	p.lab.must(t, inEach(both, func(ctx string) string {
		get := "kubectl get --context=" + ctx + " -n exports serviceexport web -o jsonpath='{.metadata.resourceVersion}'"
		return "was=$(" + get + "); sleep 5; test \"$was\" = \"$(" + get + ")\"\n"
	}))
}

// exportedNoMore: a conflict is over when they agree, and what nobody exports is
// gone.
func (p *pair) exportedNoMore(t *testing.T, both []string) {
	p.lab.must(t, "kubectl delete --context="+ctxTwo+" -n exports service web\n"+offered(ctxTwo, "web", exportedWeb))
	p.lab.eventually(t, soonExported, inEach(both, func(ctx string) string {
		return conditionIs(ctx, "web", "Conflict", "False", "NoConflicts")
	}))

	p.lab.must(t, "kubectl delete --context="+ctxOne+" -n exports serviceexport web")
	p.lab.eventually(t, soonExported, inEach(both, func(ctx string) string {
		return importHas(ctx, "web", "{.status.clusters[*].cluster}", "cluster2")
	}))
	p.lab.must(t, "kubectl delete --context="+ctxTwo+" -n exports serviceexport web")
	p.lab.eventually(t, soonExported, inEach(both, func(ctx string) string {
		return "test -z \"$(kubectl get --context=" + ctx + " -n exports serviceimport web --ignore-not-found -o name)\"\n"
	}))
}

// exportsOfRemote holds that a control plane says in the clusters that it reads what
// became of what they export, by the account with which it reads them.
func (p *pair) exportsOfRemote(t *testing.T) {
	p.withExports(t, func(both []string) {
		p.lab.must(t, offered(ctxOne, "web", "selector: {app: web}, ports: [{name: http, port: 80}]")+exportOf(ctxOne, "web")+
			offered(ctxTwo, "web", "selector: {app: web}, ports: [{name: http, port: 81}]")+exportOf(ctxTwo, "web"))
		p.lab.eventually(t, soonExported, inEach(both, func(ctx string) string {
			return conditionIs(ctx, "web", "Conflict", "True", "PortConflict")
		}))
		p.lab.must(t, "! istioctl remote-clusters --context="+ctxOne+" | grep serviceexports")
	})
}
