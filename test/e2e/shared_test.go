//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// sharedMain is the guide's file for the main cluster, its indentation restored.
const sharedMain = `cat <<EOF> istio-main-cluster.yaml
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  values:
    global:
      multiCluster:
        clusterName: ${MAIN_CLUSTER_NAME}
      network: ${MAIN_CLUSTER_NETWORK}

      # Mesh network configuration. This is optional and may be omitted if
      # all clusters are on the same network.
      meshNetworks:
        ${MAIN_CLUSTER_NETWORK}:
          endpoints:
          - fromRegistry: ${MAIN_CLUSTER_NAME}
          gateways:
          - registry_service_name: istio-ingressgateway.istio-system.svc.cluster.local
            port: 443

        ${REMOTE_CLUSTER_NETWORK}:
          endpoints:
          - fromRegistry: ${REMOTE_CLUSTER_NAME}
          gateways:
          - registry_service_name: istio-ingressgateway.istio-system.svc.cluster.local
            port: 443

  # Change the Istio service 'type=LoadBalancer' and add the cloud provider specific annotations. See
  # https://kubernetes.io/docs/concepts/services-networking/service/#internal-load-balancer for more
  # information. The example below shows the configuration for GCP/GKE.
  components:
    pilot:
      k8s:
        service:
          type: LoadBalancer
        service_annotations:
          cloud.google.com/load-balancer-type: Internal
EOF

istioctl install -f istio-main-cluster.yaml`

// sharedOneNetwork is the same file where both clusters are on one network:
// without the mesh's networks, which the guide says may be left out then.
func sharedOneNetwork() string {
	before, rest, _ := strings.Cut(sharedMain, "      # Mesh network configuration.")
	_, after, _ := strings.Cut(rest, "port: 443\n\n  # Change")
	return before + "  # Change" + after
}

// sharedRemote is the guide's file for the remote cluster.
const sharedRemote = `cat <<EOF> istio-remote0-cluster.yaml
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  values:
    global:
      # The remote cluster's name and network name must match the values specified in the
      # mesh network configuration of the main cluster.
      multiCluster:
        clusterName: ${REMOTE_CLUSTER_NAME}
      network: ${REMOTE_CLUSTER_NETWORK}

      # Replace ISTIOD_REMOTE_EP with the the value of ISTIOD_REMOTE_EP set earlier.
      remotePilotAddress: ${ISTIOD_REMOTE_EP}
REST
EOF

istioctl install --context=${REMOTE_CLUSTER_CTX} -f istio-remote0-cluster.yaml`

// sharedRemoteNoGateway are the guide's lines for a remote cluster on the same
// network, uncommented.
const sharedRemoteNoGateway = `
  ## The istio-ingressgateway is not required in the remote cluster if both clusters are on
  ## the same network. To disable the istio-ingressgateway component, uncomment the lines below.
  #
  components:
    ingressGateways:
    - name: istio-ingressgateway
      enabled: false`

// joinRemote is what the guide leaves out, and every later one has: the main
// cluster gets to read the remote one.
const joinRemote = `istioctl create-remote-secret --context=${REMOTE_CLUSTER_CTX} --name=${REMOTE_CLUSTER_NAME} --server=https://172.30.2.2:6443 |
kubectl apply -f - --context=${MAIN_CLUSTER_CTX}`

// passLocal is the other thing that it leaves out: the gateways on 443 pass
// other networks' calls through.
const passLocal = `kubectl apply --context=${MAIN_CLUSTER_CTX} -f - <<EOF
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata:
  name: cluster-aware-gateway
  namespace: istio-system
spec:
  selector:
    istio: ingressgateway
  servers:
  - port:
      number: 443
      name: tls
      protocol: TLS
    tls:
      mode: AUTO_PASSTHROUGH
    hosts:
    - "*.local"
EOF`

// TestClustersOnSeveralNetworks joins two clusters whose pods do not reach each
// other, in each way that people know: the guide's shared control plane
// (多集群共享控制平面) with its commands as printed, then those of Istio's own guides.
func TestClustersOnSeveralNetworks(t *testing.T) {
	// Clusters that nobody planned together: the same ranges in both.
	p := startPair(t, "e2e-networks", "--clusters 2 --network multi --same-ranges")
	p.ways(t, []way{
		{"shared control plane, several networks", []step{
			{"install", func(p *pair, t *testing.T) { p.installShared(t, "network2", sharedMain, "") }},
			{"passthrough", func(p *pair, t *testing.T) { p.main().must(t, passLocal) }},
			{"verification", (*pair).verify},
			{"through the gateway alone", (*pair).gatewaysOnly},
			{"unreadable on the way", (*pair).unreadable},
			{"a drill", (*pair).drilled},
			{"failover", (*pair).failover},
			{"API server gone", (*pair).apiServerGone},
		}},
		{"multi-primary, several networks", []step{
			{"guide", func(p *pair, t *testing.T) { p.multiPrimary(t, "network1", "network2") }},
			{"exports", (*pair).exported},
		}},
		{"primary-remote, several networks", []step{
			{"guide", func(p *pair, t *testing.T) { p.primaryRemote(t, "network1", "network2") }},
			{"exports", (*pair).exportsOfRemote},
		}},
	})
}

// TestClustersOnOneNetwork does the same where pods reach pods.
func TestClustersOnOneNetwork(t *testing.T) {
	p := startPair(t, "e2e-network", "--clusters 3 --network single")
	p.ways(t, []way{
		{"shared control plane, one network", []step{
			{"install", func(p *pair, t *testing.T) { p.installShared(t, "network1", sharedOneNetwork(), sharedRemoteNoGateway) }},
			{"verification", (*pair).verify},
			{"a third cluster comes and goes", (*pair).thirdCluster},
		}},
		{"multi-primary, one network", []step{
			{"guide", func(p *pair, t *testing.T) { p.multiPrimary(t, "network1", "network1") }},
		}},
		{"primary-remote, one network", []step{
			{"guide", func(p *pair, t *testing.T) { p.primaryRemote(t, "network1", "network1") }},
		}},
	})
}

// main is the shell in which the guide's commands are typed.
func (p *pair) main() shell {
	return p.dirs[ctxOne].with(
		"MAIN_CLUSTER_CTX="+ctxOne, "REMOTE_CLUSTER_CTX="+ctxTwo,
		"MAIN_CLUSTER_NAME=main0", "REMOTE_CLUSTER_NAME=remote0",
		"MAIN_CLUSTER_NETWORK=network1",
	)
}

// installShared types the guide's commands up to where the main cluster reads the
// remote one.
func (p *pair) installShared(t *testing.T, remoteNetwork, mainFile, rest string) {
	p.cacerts(t, ctxOne, ctxTwo)
	sh := p.main().with("REMOTE_CLUSTER_NETWORK=" + remoteNetwork)
	sh.must(t, mainFile)
	address := sh.must(t, `export ISTIOD_REMOTE_EP=$(kubectl get svc -n istio-system --context=${MAIN_CLUSTER_CTX} istiod -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
echo "ISTIOD_REMOTE_EP is ${ISTIOD_REMOTE_EP}"`)
	address = strings.TrimPrefix(address, "ISTIOD_REMOTE_EP is ")
	if address == "" {
		t.Fatal("istiod has no address that another cluster reaches")
	}

	sh = sh.with("ISTIOD_REMOTE_EP=" + address)
	sh.must(t, strings.Replace(sharedRemote, "REST", rest, 1))
	sh.must(t, joinRemote)
	sh.eventually(t, 30*time.Second, "istioctl remote-clusters --context=${MAIN_CLUSTER_CTX} | tee /dev/stderr | grep -w remote0 | grep -w synced")
}

// gatewaysOnly holds that a client is shown its own cluster's pods and the other
// network's gateway, and nothing else.
func (p *pair) gatewaysOnly(t *testing.T) {
	const host = "outbound|5000||helloworld.sample.svc.cluster.local"
	for _, from := range []struct{ ctx, other string }{{ctxOne, ctxTwo}, {ctxTwo, ctxOne}} {
		pods := p.lab.must(t, "kubectl get pods --context="+from.ctx+" -n sample -l app=helloworld -o jsonpath='{range .items[*]}{.status.podIP}:5000 {end}'")
		gateway := p.lab.must(t, "kubectl get svc --context="+from.other+" -n istio-system istio-ingressgateway -o jsonpath='{.status.loadBalancer.ingress[0].ip}'")
		want := strings.Fields(pods + " " + gateway + ":443")
		slices.Sort(want)

		var shown []string
		for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit) && !slices.Equal(shown, want); time.Sleep(time.Second) {
			shown = p.shown(t, from.ctx, host)
		}
		t.Logf("%s is shown %v", from.ctx, shown)
		if !slices.Equal(shown, want) {
			t.Errorf("%s is shown %v, want %v", from.ctx, shown, want)
		}
	}
}

// shown are the addresses that the client of a cluster has for one of its
// clusters of Envoy, sorted.
func (p *pair) shown(t *testing.T, ctx, cluster string) []string {
	t.Helper()
	out, err := p.lab.run(context.Background(), "kubectl exec --context="+ctx+" -n sample deploy/sleep -c istio-proxy -- /isthmus-proxy request GET /clusters")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var clusters []struct {
		Name      string
		Endpoints []struct{ Address string }
	}
	if err := json.Unmarshal([]byte(out), &clusters); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var addresses []string
	for _, c := range clusters {
		for _, e := range c.Endpoints {
			if c.Name == cluster {
				addresses = append(addresses, e.Address)
			}
		}
	}
	slices.Sort(addresses)
	return addresses
}

// apiServerGone stops the remote cluster's API server for three minutes, under load
// that only the remote cluster answers, and restarts the control plane meanwhile: no
// request is lost, and remote-clusters says what is so. The process is frozen:
// connections to it stand, and hang.
//
// When it goes on, it has not heard of its nodes for so long that Kubernetes calls all
// their pods not ready for some seconds, and publishes that.
func (p *pair) apiServerGone(t *testing.T) {
	defer p.onlyFar(t)()
	p.lab.must(t, `kubectl apply --context=`+ctxOne+` -n sample -f samples/fortio/fortio.yaml
kubectl rollout status --context=`+ctxOne+` -n sample deploy/fortio --timeout=120s`)
	load := p.lab.start(t, `kubectl exec --context=`+ctxOne+` -n sample deploy/fortio -c fortio -- /fortio load -quiet -json - -qps 100 -c 4 -t 0 -n 24000 -timeout 10s -allow-initial-errors http://helloworld.sample:5000/hello 2>/dev/null`)

	began := time.Now()
	p.signalRemoteAPI(t, "STOP")
	resume := func() { p.signalRemoteAPI(t, "CONT") }
	defer resume()
	remote := "istioctl remote-clusters --context=" + ctxOne + " | tee /dev/stderr | grep -w remote0 | "
	p.lab.eventually(t, 30*time.Second, remote+"grep -w stale")

	// The new control plane has never seen the remote cluster.
	p.lab.must(t, `kubectl rollout restart --context=`+ctxOne+` -n istio-system deploy/istiod
kubectl rollout status --context=`+ctxOne+` -n istio-system deploy/istiod --timeout=60s`)
	p.readyWithin(t, 10*time.Second)
	p.lab.eventually(t, 30*time.Second, remote+"grep -w stale")
	p.lab.must(t, hello(ctxOne, 16)+" | sort | uniq -c")

	time.Sleep(time.Until(began.Add(3 * time.Minute)))
	resume()
	p.lab.eventually(t, 30*time.Second, remote+"grep -w synced")
	p.newPodAnswers(t)
	load.answered(t, "200")
	p.lab.must(t, "kubectl scale --context="+ctxTwo+" -n sample deploy/helloworld-v2 --replicas=1")
}

// signalRemoteAPI sends a signal to the API server of the remote cluster. Among the
// processes of its node, which sees no others, it is known by its name.
func (p *pair) signalRemoteAPI(t *testing.T, signal string) {
	t.Helper()
	p.lab.must(t, "lab --name "+p.name+" exec "+ctxTwo+` -- sh -c '
found=
for process in /proc/[0-9]*; do
	case "$(tr "\0" " " 2>/dev/null <$process/cmdline)" in
	"kube-apiserver "*) kill -`+signal+` ${process#/proc/} && found=1;;
	esac
done
test -n "$found"'`)
}

// readyWithin holds that the youngest control plane of the main cluster was ready
// soon after its container had started.
func (p *pair) readyWithin(t *testing.T, limit time.Duration) {
	t.Helper()
	out := p.lab.must(t, `kubectl get pods --context=`+ctxOne+` -n istio-system -l app=istiod --sort-by=.metadata.creationTimestamp \
-o jsonpath='{range .items[*]}{.status.containerStatuses[0].state.running.startedAt} {.status.conditions[?(@.type=="Ready")].lastTransitionTime}{"\n"}{end}' | tail -n 1`)
	started, ready, _ := strings.Cut(out, " ")
	from, err := time.Parse(time.RFC3339, started)
	if err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	to, err := time.Parse(time.RFC3339, ready)
	if err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if took := to.Sub(from); took > limit {
		t.Errorf("the restarted control plane was ready after %s, want %s at most", took, limit)
	} else {
		t.Logf("the restarted control plane was ready after %s", took)
	}
}

// newPodAnswers holds that a pod that becomes ready in the remote cluster answers
// the other one's client within five seconds.
func (p *pair) newPodAnswers(t *testing.T) {
	scale := "kubectl scale --context=" + ctxTwo + " -n sample deploy/helloworld-v2 --replicas="
	p.lab.must(t, scale+"2\nkubectl rollout status --context="+ctxTwo+" -n sample deploy/helloworld-v2 --timeout=60s")
	pod := p.lab.must(t, "kubectl get pods --context="+ctxTwo+" -n sample -l app=helloworld --sort-by=.metadata.creationTimestamp -o name | tail -n 1 | cut -d/ -f2")
	p.lab.eventually(t, 5*time.Second, hello(ctxOne, 8)+" | grep "+pod)
}

// drilled holds that a game day is won: a client's calls leave the near cluster whose
// endpoints its proxy takes for gone, come back, and none is lost. In the end the
// proxy takes them for gone no more.
func (p *pair) drilled(t *testing.T) {
	p.lab.must(t, `kubectl apply --context=`+ctxOne+` -n sample -f samples/fortio/fortio.yaml
kubectl rollout status --context=`+ctxOne+` -n sample deploy/fortio --timeout=120s`)
	load := p.lab.start(t, `kubectl exec --context=`+ctxOne+` -n sample deploy/fortio -c fortio -- /fortio load -quiet -json - -qps 20 -c 2 -t 75s -timeout 10s -allow-initial-errors http://helloworld.sample:5000/hello 2>/dev/null`)

	const drill = "istioctl x drill helloworld.sample --context=" + ctxOne + " --from deploy/fortio.sample "
	p.lab.must(t, drill+"--watch 4s --duration 12s --return 30s | tee /dev/stderr | grep 'Calls moved within'")

	// A cluster that nobody calls is no drill.
	out, err := p.lab.run(t.Context(), drill+"--cluster nowhere --watch 2s")
	if err == nil || !strings.Contains(out, `no call to helloworld.sample.svc.cluster.local went to cluster "nowhere"`) {
		t.Errorf("a drill with a cluster that is none: %v\n%s", err, out)
	}
	load.answered(t, "200")
}
