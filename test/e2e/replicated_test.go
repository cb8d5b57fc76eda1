//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// guideCorefile is the DNS step of the guide, its indentation restored.
const guideCorefile = `kubectl apply -f - <<EOF
apiVersion: v1
kind: ConfigMap
metadata:
  name: coredns
  namespace: kube-system
data:
  Corefile: |
    .:53 {
        errors
        health
        kubernetes cluster.local in-addr.arpa ip6.arpa {
           pods insecure
           upstream
           fallthrough in-addr.arpa ip6.arpa
        }
        prometheus :9153
        proxy . /etc/resolv.conf
        cache 30
        loop
        reload
        loadbalance
    }
    global:53 {
        errors
        cache 30
        proxy . $(kubectl get svc -n istio-system istiocoredns -o jsonpath={.spec.clusterIP})
    }
EOF`

// mesh is two clusters with a control plane each and one root of trust.
type mesh struct {
	lab      shell // both contexts
	one, two shell // a release folder for each cluster, its context current
	certs    string
	gateway2 string
	// explained says that the step that failed has said why.
	explained bool
}

// fromOne calls from the injected client in cluster-1.
const fromOne = "kubectl --context cluster-1 exec -n foo deploy/sleep -c sleep -- "

// callHTTPBin asserts a 200 through both sidecars.
const callHTTPBin = fromOne + "curl -sS -m 10 -f http://httpbin.bar.global:8000/headers"

// TestReplicatedControlPlanes is the seed's replicated control planes (多集群多控制平面):
// its commands as typed, then what it promises.
func TestReplicatedControlPlanes(t *testing.T) {
	root := repo(t)
	m := &mesh{lab: startLab(t, root), certs: filepath.Join(t.TempDir(), "root")}
	m.lab.must(t, "isthmus x ca create-root --out "+m.certs)
	m.one = m.lab.release(t, root, m.certs, "cluster-1")
	m.two = m.lab.release(t, root, m.certs, "cluster-2")

	for _, step := range []struct {
		name string
		run  func(*testing.T, *mesh)
	}{
		{"install", install},
		{"dns", pointDNS},
		{"services", deployServices},
		{"service entry and call", callAcross},
		{"plaintext is refused", plaintextRefused},
		{"memory", memory},
		{"protocols", protocols},
		{"virtual service", routeRequests},
		{"ingress", ingress},
		{"sidecar", limitSidecars},
		{"isolation", isolateTeams},
		{"tokens", verifyTokens},
		{"bad config is refused", badConfigRefused},
		{"failover", failoverReplicated},
		{"discovery down", discoveryDown},
		{"another root is refused", otherRootRefused},
		{"least access", leastAccess},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, m) }) {
			if !m.explained {
				m.explain(t)
			}
			t.FailNow()
		}
	}
}

// explain prints what the clusters know when a step failed.
func (m *mesh) explain(t *testing.T) {
	for _, c := range []string{"cluster-1", "cluster-2"} {
		for _, what := range []string{
			"get pods -A -o wide", "get events -A --sort-by=.lastTimestamp",
			"logs -n istio-system deploy/istiod --tail=60",
			"logs -n istio-system deploy/istio-ingressgateway --tail=30",
		} {
			out, err := m.lab.run(context.Background(), "kubectl --context "+c+" "+what+" | tail -n 80")
			t.Logf("%s %s: %v\n%s", c, what, err, out)
		}
	}
	for _, what := range []string{"--context cluster-1 logs -n foo deploy/sleep", "--context cluster-2 logs -n bar deploy/httpbin"} {
		out, err := m.lab.run(context.Background(), "kubectl "+what+" -c istio-proxy --tail=40")
		t.Logf("%s: %v\n%s", what, err, out)
	}
}

func install(t *testing.T, m *mesh) {
	for _, cluster := range []shell{m.one, m.two} {
		cluster.must(t, `kubectl create namespace istio-system
kubectl create secret generic cacerts -n istio-system \
--from-file=samples/certs/ca-cert.pem \
--from-file=samples/certs/ca-key.pem \
--from-file=samples/certs/root-cert.pem \
--from-file=samples/certs/cert-chain.pem`)
		cluster.must(t, `istioctl install \
-f manifests/examples/multicluster/values-istio-multicluster-gateways.yaml`)
	}
	for _, c := range []string{"cluster-1", "cluster-2"} {
		m.lab.must(t, "istioctl --context "+c+" verify-install")
		m.lab.must(t, "kubectl --context "+c+" get deploy,svc -n istio-system")
	}
}

func pointDNS(t *testing.T, m *mesh) {
	// The guide's own Corefile speaks to CoreDNS before 1.4: applied as printed,
	// it is translated to what today's CoreDNS reads.
	m.one.must(t, guideCorefile)
	m.one.must(t, "istioctl x dns apply")
	m.one.must(t, "istioctl x dns apply") // again: nothing to do
	m.one.must(t, "kubectl get configmap coredns -n kube-system -o jsonpath='{.data.Corefile}' | grep -w forward")
	m.one.refused(t, "kubectl get configmap coredns -n kube-system -o jsonpath='{.data.Corefile}' | grep -w 'proxy\\|upstream'")
	m.two.must(t, "istioctl install --apply-dns -f manifests/examples/multicluster/values-istio-multicluster-gateways.yaml")
	for _, cluster := range []shell{m.one, m.two} {
		cluster.must(t, "kubectl get configmap coredns -n kube-system -o jsonpath='{.data.Corefile}' | grep -A4 '^global:53'")
	}
}

func deployServices(t *testing.T, m *mesh) {
	m.one.must(t, `kubectl create namespace foo
kubectl label namespace foo istio-injection=enabled
kubectl apply -n foo -f samples/sleep/sleep.yaml
kubectl create deployment peer -n foo --image=`+peerImage+` -- /peer serve
kubectl create namespace outside
kubectl apply -n outside -f samples/sleep/sleep.yaml`)
	m.two.must(t, `kubectl create namespace bar
kubectl label namespace bar istio-injection=enabled
kubectl apply -n bar -f samples/httpbin/httpbin.yaml
kubectl create deployment peer -n bar --image=`+peerImage+` -- /peer serve
kubectl create namespace outside
kubectl apply -n outside -f samples/sleep/sleep.yaml
kubectl apply -n bar -f - <<EOF
apiVersion: v1
kind: Service
metadata: {name: peer}
spec:
  selector: {app: peer}
  ports:
  - {name: http, port: 8080}
  - {name: grpc, port: 9090}
  - {name: tcp, port: 9002}
EOF`)
	m.one.must(t, `kubectl rollout status -n foo deploy/sleep --timeout=120s
kubectl rollout status -n foo deploy/peer --timeout=120s
kubectl rollout status -n outside deploy/sleep --timeout=120s`)
	m.two.must(t, `kubectl rollout status -n bar deploy/httpbin --timeout=120s
kubectl rollout status -n bar deploy/peer --timeout=120s
kubectl rollout status -n outside deploy/sleep --timeout=120s`)
}

func callAcross(t *testing.T, m *mesh) {
	m.gateway2 = m.two.must(t, "kubectl get svc -n istio-system istio-ingressgateway -o jsonpath='{.status.loadBalancer.ingress[0].ip}'")
	if m.gateway2 == "" {
		t.Fatal("the gateway of cluster-2 has no address")
	}
	m.lab.must(t, `export CTX_CLUSTER1=cluster-1 CLUSTER2_GW_ADDR=`+m.gateway2+`
kubectl apply --context=$CTX_CLUSTER1 -n foo -f - <<EOF
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata:
  name: httpbin-bar
spec:
  hosts:
  # must be of form name.namespace.global
  - httpbin.bar.global
  # Treat remote cluster services as part of the service mesh
  # as all clusters in the service mesh share the same root of trust.
  location: MESH_INTERNAL
  ports:
  - name: http1
    number: 8000
    protocol: http
  resolution: DNS
  addresses:
  # the IP address to which httpbin.bar.global will resolve to
  # must be unique for each remote service, within a given cluster.
  # This address need not be routable. Traffic for this IP will be captured
  # by the sidecar and routed appropriately.
  - 240.0.0.2
  endpoints:
  # This is the routable address of the ingress gateway in cluster2 that
  # sits in front of sleep.foo service. Traffic from the sidecar will be
  # routed to this address.
  - address: ${CLUSTER2_GW_ADDR}
    ports:
      http1: 15443 # Do not change this port value
EOF`)
	body := m.lab.eventually(t, 60*time.Second, callHTTPBin)
	for _, want := range []string{"spiffe://cluster.local/ns/foo/sa/sleep", "spiffe://cluster.local/ns/bar/sa/httpbin"} {
		if !strings.Contains(body, want) {
			t.Errorf("the answer does not name %s:\n%s", want, body)
		}
	}
}

func plaintextRefused(t *testing.T, m *mesh) {
	m.two.must(t, `kubectl apply -n bar -f - <<EOF
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
EOF`)
	pod := m.two.must(t, "kubectl get pod -n bar -l app=httpbin -o jsonpath='{.items[0].status.podIP}'")
	direct := "kubectl --context cluster-2 exec -n outside deploy/sleep -c sleep -- curl -sS -m 5 http://" + pod + ":8080/headers"
	m.lab.eventually(t, 20*time.Second, "! "+direct)
	m.lab.refused(t, direct)
	for _, c := range []string{"cluster-1", "cluster-2"} {
		m.lab.refused(t, "kubectl --context "+c+" exec -n outside deploy/sleep -c sleep -- curl -sS -m 5 http://"+m.gateway2+":15443/headers")
	}
	m.lab.must(t, callHTTPBin)

	m.lab.must(t, `kubectl --context cluster-1 apply -n outside -f - <<EOF
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: same-name}
spec:
  hosts: [httpbin.bar.global]
  location: MESH_INTERNAL
  ports: [{name: http1, number: 8000, protocol: http}]
  resolution: DNS
  addresses: [240.0.0.2]
  exportTo: ["."]
  endpoints: [{address: `+m.gateway2+`, ports: {http1: 15443}}]
EOF`)
	// The client without a sidecar: the name resolves, and nobody carries the call.
	m.lab.refused(t, "kubectl --context cluster-1 exec -n outside deploy/sleep -c sleep -- curl -sS -m 5 http://httpbin.bar.global:8000/headers")
	m.lab.must(t, "kubectl --context cluster-1 delete serviceentry -n outside same-name")
}

func protocols(t *testing.T, m *mesh) {
	m.lab.must(t, `kubectl --context cluster-1 apply -n foo -f - <<EOF
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: peer-bar}
spec:
  hosts: [peer.bar.global]
  location: MESH_INTERNAL
  ports:
  - {name: http, number: 8080, protocol: HTTP}
  - {name: grpc, number: 9090, protocol: GRPC}
  - {name: tcp, number: 9002, protocol: TCP}
  resolution: DNS
  addresses: [240.0.0.3]
  endpoints:
  - address: `+m.gateway2+`
    ports: {http: 15443, grpc: 15443, tcp: 15443}
EOF`)
	peer := "kubectl --context cluster-1 exec -n foo deploy/peer -c peer -- /peer "
	m.lab.eventually(t, 60*time.Second, peer+"upload http://peer.bar.global:8080/upload 1000")
	m.lab.must(t, peer+"upload http://peer.bar.global:8080/upload 100000000")
	m.lab.must(t, peer+"download http://peer.bar.global:8080/download 100000000")
	m.lab.must(t, peer+"websocket ws://peer.bar.global:8080/ws")
	m.lab.must(t, peer+"grpc peer.bar.global:9090")
	m.lab.must(t, peer+"tcp peer.bar.global:9002")
}

// memory prints the resident memory of the mesh's processes and holds them to
// what was promised: 30 MB an idle sidecar, 120 MB istiod; 30 MB on disk.
func memory(t *testing.T, m *mesh) {
	for _, c := range []string{"cluster-1", "cluster-2"} {
		out := m.lab.must(t, "lab --name "+labName+" exec "+c+" -- ps -eo rss=,args= | grep -E 'isthmus(-proxy)? (sidecar|router|discovery|dns)' | grep -v grep")
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			kb, err := strconv.Atoi(fields[0])
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			limit := 30.0
			if strings.Contains(line, " discovery") || strings.Contains(line, " dns") {
				limit = 120
			}
			if mb := float64(kb) * 1024 / 1e6; mb > limit {
				t.Errorf("%s: %.1f MB resident, more than %.0f: %s", c, mb, limit, line)
			} else {
				t.Logf("%s: %.1f MB resident (at most %.0f): %s", c, mb, limit, strings.Join(fields[1:3], " "))
			}
		}
	}
	size, err := strconv.Atoi(m.lab.must(t, "stat -c %s bin/isthmus-proxy"))
	if err != nil || size > 30e6 {
		t.Errorf("isthmus-proxy is %d bytes on disk, more than 30 MB (%v)", size, err)
	}
}

func badConfigRefused(t *testing.T, m *mesh) {
	out := m.lab.refused(t, `kubectl --context cluster-1 apply -n foo -f - <<EOF
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wrong}
spec:
  hosts: [wrong.bar.global]
  addresses: ["not an address"]
  ports: [{name: http, number: 80, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
EOF`)
	if !strings.Contains(out, "spec.addresses[0]") {
		t.Errorf("the refusal does not name spec.addresses[0]: %s", out)
	}
	out = m.lab.refused(t, `kubectl --context cluster-1 apply -n foo -f - <<EOF
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: wrong}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {name: tls, number: 99999, protocol: TLS}
    hosts: ["*.global"]
    tls: {mode: AUTO_PASSTHROUGH}
EOF`)
	if !strings.Contains(out, "spec.servers[0].port.number") {
		t.Errorf("the refusal does not name spec.servers[0].port.number: %s", out)
	}
	out = m.lab.refused(t, `kubectl --context cluster-1 apply -n foo -f - <<EOF
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec: {jwtRules: [{issuer: example.com, jwks: "{}"}]}
EOF`)
	if !strings.Contains(out, "spec.jwtRules[0].jwks") {
		t.Errorf("the refusal does not name spec.jwtRules[0].jwks: %s", out)
	}
	m.lab.must(t, callHTTPBin)
}

// discoveryDown takes both control planes away for two minutes: every call
// succeeds, and an edit made meanwhile arrives when they are back.
func discoveryDown(t *testing.T, m *mesh) {
	both := "for c in cluster-1 cluster-2; do kubectl --context $c "
	m.lab.must(t, both+"scale -n istio-system deploy/istiod --replicas=0; done")
	m.lab.must(t, both+"wait -n istio-system --for=delete pod -l app=istiod --timeout=60s; done")
	m.lab.must(t, `kubectl --context cluster-1 apply -n foo -f - <<EOF
apiVersion: v1
kind: Service
metadata: {name: peer}
spec:
  selector: {app: peer}
  ports: [{name: http-late, port: 8088, targetPort: 8080}]
EOF`)
	calls, until := 0, time.Now().Add(2*time.Minute)
	for time.Now().Before(until) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		out, err := m.lab.run(ctx, fromOne+`sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do curl -sS -m 5 -f -o /dev/null http://httpbin.bar.global:8000/get || exit 1; sleep 0.5; done'`)
		cancel()
		if err != nil {
			t.Fatalf("after %d calls without a control plane: %v\n%s", calls, err, out)
		}
		calls += 10
	}
	t.Logf("%d calls in two minutes without a control plane, all answered", calls)
	m.lab.must(t, both+"scale -n istio-system deploy/istiod --replicas=1; done")
	m.lab.must(t, both+"rollout status -n istio-system deploy/istiod --timeout=120s; done")
	m.lab.eventually(t, 60*time.Second, fromOne+`sh -c 'curl -sS -m 5 -D - -o /dev/null "http://peer.foo:8088/download?bytes=10" | grep -i "^server: istio-envoy\|^via:\|200"'`)
	m.lab.eventually(t, 60*time.Second, proxyKnows("peer.foo.svc.cluster.local"))
	m.lab.must(t, callHTTPBin)
}

// proxyKnows asks the client's own sidecar for a cluster of that host.
func proxyKnows(host string) string {
	return fmt.Sprintf(`kubectl --context cluster-1 exec -n foo deploy/sleep -c istio-proxy -- /isthmus-proxy request GET /clusters | grep -m1 %q`, regexp.QuoteMeta(host))
}

// otherRootRefused gives cluster-2 a root of its own: calls across stop.
func otherRootRefused(t *testing.T, m *mesh) {
	other := filepath.Join(t.TempDir(), "other")
	m.two.must(t, "isthmus x ca create-root --out "+other)
	m.two.must(t, "isthmus x ca create-intermediate --cluster cluster-2 --root-dir "+other+" --out "+other+"/cluster-2")
	m.two.must(t, `kubectl delete secret cacerts -n istio-system
kubectl create secret generic cacerts -n istio-system \
--from-file=`+other+`/cluster-2/ca-cert.pem \
--from-file=`+other+`/cluster-2/ca-key.pem \
--from-file=`+other+`/cluster-2/root-cert.pem \
--from-file=`+other+`/cluster-2/cert-chain.pem
kubectl rollout restart -n istio-system deploy/istiod
kubectl rollout status -n istio-system deploy/istiod --timeout=120s
kubectl rollout restart -n bar deploy/httpbin
kubectl rollout status -n bar deploy/httpbin --timeout=120s`)
	// The old pod goes on draining for a while; only then is every call one to
	// the other root.
	m.lab.eventually(t, 60*time.Second, fromOne+"curl -sS -m 10 http://httpbin.bar.global:8000/headers | grep unknown_ca")
	out := m.lab.refused(t, callHTTPBin)
	if !strings.Contains(out, "503") {
		t.Errorf("want a 503 from the client's sidecar, got: %s", out)
	}
	m.lab.must(t, fromOne+`sh -c 'curl -s http://127.0.0.1:15020/stats/prometheus | grep "^isthmus_proxy_tls_handshake_failures_total.*unknown_ca"'`)
}
