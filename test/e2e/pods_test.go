//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// served is a service of three pods that answers HTTP and gRPC, and a pod that
// calls it, both in the mesh.
const served = `kubectl apply -f - <<EOF
apiVersion: v1
kind: Namespace
metadata: {name: pods, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: pods}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 8080}
  - {name: http2, port: 8081, targetPort: 8080}
  - {name: grpc, port: 8079}
  - {name: tcp, port: 8082, targetPort: 8081}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: pods}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: isthmus-samples/fortio:v1
        imagePullPolicy: IfNotPresent
        args: [server]
        readinessProbe: {httpGet: {path: /debug, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: load, namespace: pods}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: load, image: isthmus-samples/fortio:v1, imagePullPolicy: IfNotPresent, args: [server]}
EOF
kubectl rollout status -n pods deploy/web --timeout=2m
kubectl wait -n pods pod/load --for=condition=Ready --timeout=2m`

// comeAndGo is what happens to the pods of the service under load.
const comeAndGo = `sleep 3
kubectl rollout restart -n pods deploy/web
kubectl rollout status -n pods deploy/web --timeout=90s
kubectl scale -n pods deploy/web --replicas=1
sleep 8
kubectl scale -n pods deploy/web --replicas=3
kubectl rollout status -n pods deploy/web --timeout=60s
sleep 3`

// TestPodsComeAndGo: a rolling restart and a scaling down and up under 200
// requests a second, in every protocol: none of them fails, although the
// application hangs up at once when it is told to end. A request that it may have
// worked on is sent again only if it is idempotent (RFC 9110 section 9.2.2): HTTP
// is called with GET. A connection over TCP is not begun again at all.
func TestPodsComeAndGo(t *testing.T) {
	root := repo(t)
	s := bareLab(t, root, "e2epods", "--clusters 1")
	s.must(t, "lab --name e2epods sample-images")
	s.must(t, "istioctl install --set profile=default --set hub=isthmus.local")
	s.must(t, served)
	t.Run("what the kubelet asks", func(t *testing.T) { kubeletUnderStrict(t, s) })

	for _, tt := range []struct {
		name, flags, url, good string
	}{
		{"HTTP 1.1", "", "http://web:8080/", "200"},
		{"HTTP 2", "-h2 -stdclient", "http://web:8081/", "200"},
		{"gRPC", "-grpc", "web:8079", "SERVING"},
		// A connection for each request, which nobody can hand back or repeat. It
		// leads to a port of its own, whose server sends everybody elsewhere.
		{"TCP", "-keepalive=false", "http://web:8082/", "303"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			load := fmt.Sprintf("kubectl exec -n pods load -c load -- /fortio load -quiet -json - -qps 200 -c 8 -t 0 -n 16000 -timeout 10s -allow-initial-errors %s %s 2>/dev/null",
				tt.flags, tt.url)
			s.eventually(t, time.Minute, strings.Replace(load, "-n 16000", "-n 20", 1)+" | grep '"+`"`+tt.good+`"`+"'")

			running := s.start(t, load)
			s.must(t, comeAndGo)
			running.answered(t, tt.good)
		})
	}
}

// asked is a pod in a namespace with strict mutual TLS, whose probes of each
// kind, hooks and metrics are asked for by who has no certificate.
const asked = `kubectl apply -f - <<EOF
apiVersion: v1
kind: Namespace
metadata: {name: asked, labels: {istio-injection: enabled}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: asked}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Pod
metadata:
  name: app
  namespace: asked
  annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080", prometheus.io/path: /debug/metrics}
spec:
  initContainers:
  - name: side
    restartPolicy: Always
    image: isthmus-samples/fortio:v1
    imagePullPolicy: IfNotPresent
    args: [server, -http-port, "9080", -grpc-port, disabled, -redirect-port, disabled, -tcp-port, disabled, -udp-port, disabled]
    startupProbe: {httpGet: {path: /debug, port: 9080}, periodSeconds: 1}
  containers:
  - name: app
    image: isthmus-samples/fortio:v1
    imagePullPolicy: IfNotPresent
    args: [server]
    ports: [{name: web, containerPort: 8080, hostPort: 18080}]
    startupProbe: {httpGet: {path: /debug, port: web, httpHeaders: [{name: Host, value: app.test}]}, periodSeconds: 1}
    livenessProbe: {grpc: {port: 8079}, periodSeconds: 2}
    readinessProbe: {tcpSocket: {port: web}, periodSeconds: 1}
    lifecycle:
      preStop: {httpGet: {path: "/echo?delay=4s", port: web}}
EOF
kubectl wait -n asked pod/app --for=condition=Ready --timeout=1m
kubectl wait -n pods pod/load --for=condition=Ready --timeout=1m`

// kubeletUnderStrict: probes, hooks and a scrape reach the application although
// it takes mutual TLS only.
func kubeletUnderStrict(t *testing.T, s shell) {
	s.must(t, asked)
	metrics := s.must(t, `kubectl exec -n pods load -c load -- /fortio curl http://$(kubectl get pod -n asked app -o jsonpath={.status.podIP}):15020/stats/prometheus`)
	for _, want := range []string{"fortio_runs_total", "isthmus_proxy_ready 1"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%s is not among the pod's metrics", want)
		}
	}

	// The hook holds the end up for as long as it takes.
	started := time.Now()
	s.must(t, "kubectl delete pod -n asked app --grace-period=25")
	if took := time.Since(started); took < 4*time.Second || took > 20*time.Second {
		t.Errorf("the pod ended after %s; its hook takes 4", took.Round(time.Millisecond))
	}
	s.refused(t, "kubectl get events -n asked | grep -i FailedPreStopHook")
}
