//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// thirdCluster joins a third cluster to the shared control plane by two commands,
// and takes it out again by one: nothing of it is left, there or here.
func (p *pair) thirdCluster(t *testing.T) {
	p.cacerts(t, ctxThree)
	address := p.main().must(t, "kubectl get svc -n istio-system istiod -o jsonpath='{.status.loadBalancer.ingress[0].ip}'")
	sh := p.main().with("REMOTE_CLUSTER_CTX="+ctxThree, "REMOTE_CLUSTER_NAME=remote1", "REMOTE_CLUSTER_NETWORK=network1", "ISTIOD_REMOTE_EP="+address)
	sh.must(t, strings.Replace(sharedRemote, "REST", sharedRemoteNoGateway, 1))
	sh.must(t, strings.Replace(joinRemote, "172.30.2.2", "172.30.3.2", 1))
	p.synced(t, ctxOne, "remote1")

	p.lab.must(t, `export CTX=`+ctxThree+`
kubectl create --context="${CTX}" namespace sample
kubectl label --context="${CTX}" namespace sample istio-injection=enabled
kubectl apply --context="${CTX}" -f samples/helloworld/helloworld.yaml -l service=helloworld -n sample
kubectl apply --context="${CTX}" -f samples/helloworld/helloworld.yaml -l version=v2 -n sample
kubectl rollout status --context="${CTX}" -n sample deploy/helloworld-v2 --timeout=120s`)
	pod := p.lab.must(t, "kubectl get pods --context="+ctxThree+" -n sample -l app=helloworld -o jsonpath='{.items[0].metadata.name} {.items[0].status.podIP}'")
	name, ip, _ := strings.Cut(pod, " ")

	// It is the only one left to answer.
	p.lab.must(t, "kubectl scale --context="+ctxOne+" -n sample deploy/helloworld-v1 --replicas=0; kubectl scale --context="+ctxTwo+" -n sample deploy/helloworld-v2 --replicas=0")
	p.lab.eventually(t, 30*time.Second, "out=$("+hello(ctxOne, 8)+"); test $(grep -c "+name+" <<<\"$out\") = 8")
	p.lab.must(t, "kubectl scale --context="+ctxOne+" -n sample deploy/helloworld-v1 --replicas=1; kubectl scale --context="+ctxTwo+" -n sample deploy/helloworld-v2 --replicas=1")
	p.answered(t, ctxOne, "v1")

	p.lab.must(t, "istioctl uninstall --context="+ctxThree+" --purge -y --leave="+ctxOne)
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(300 * time.Millisecond) {
		shown := strings.Join(p.shown(t, ctxOne, "outbound|5000||helloworld.sample.svc.cluster.local"), " ")
		if !strings.Contains(shown, ip+":") {
			t.Logf("shown now: %s", shown)
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("the pod %s of the cluster that left is still shown: %s", ip, shown)
		}
	}
	p.lab.must(t, `! kubectl get secrets --context=`+ctxOne+` -n istio-system -o name | grep remote1
! istioctl remote-clusters --context=`+ctxOne+` | grep remote1
! kubectl get --context=`+ctxThree+` mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings,crds -o name | grep -i istio
! kubectl get --context=`+ctxThree+` -n istio-system deployments,services,serviceaccounts,roles,rolebindings,configmaps -o name | grep -i istio | grep -v 'configmap/istio-ca-root-cert'`)
	p.lab.must(t, "kubectl delete --context="+ctxThree+" namespace istio-system sample --wait --timeout=120s")
}
