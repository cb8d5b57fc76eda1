//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// The files of Istio's guides for several clusters, as they are printed.
const (
	guidePrimary = `cat <<EOF > cluster${N}.yaml
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  values:
    global:
      meshID: mesh1
      multiCluster:
        clusterName: cluster${N}
      network: ${NETWORK}
EOF
istioctl install --context="${CTX}" -y -f cluster${N}.yaml`

	guidePrimaryExternal = `cat <<EOF > cluster1.yaml
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  values:
    global:
      meshID: mesh1
      multiCluster:
        clusterName: cluster1
      network: network1
      externalIstiod: true
EOF
istioctl install --context="${CTX_CLUSTER1}" -y -f cluster1.yaml`

	guideRemote = `cat <<EOF > cluster2.yaml
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  profile: remote
  values:
    istiodRemote:
      injectionPath: /inject/cluster/cluster2/net/${NETWORK}
    global:
      remotePilotAddress: ${DISCOVERY_ADDRESS}
EOF
istioctl install --context="${CTX_CLUSTER2}" -y -f cluster2.yaml`
)

// guideShell is where the guides' commands are typed.
func (p *pair) guideShell() shell {
	return p.dirs[ctxOne].with("CTX_CLUSTER1="+ctxOne, "CTX_CLUSTER2="+ctxTwo)
}

// multiPrimary follows the guide in which each cluster has a control plane that
// reads the other: https://istio.io/latest/docs/setup/install/multicluster/.
func (p *pair) multiPrimary(t *testing.T, networks ...string) {
	p.cacerts(t, ctxOne, ctxTwo)
	sh := p.guideShell()
	for i, ctx := range []string{ctxOne, ctxTwo} {
		n := []string{"1", "2"}[i]
		own := sh.with("N="+n, "CTX="+ctx, "NETWORK="+networks[i])
		if networks[0] != networks[1] {
			own.must(t, `kubectl --context="${CTX}" get namespace istio-system && \
  kubectl --context="${CTX}" label namespace istio-system topology.istio.io/network=${NETWORK}`)
		}
		own.must(t, guidePrimary)
		if networks[0] != networks[1] {
			own.must(t, `samples/multicluster/gen-eastwest-gateway.sh \
    --network ${NETWORK} | \
    istioctl --context="${CTX}" install -y -f -
kubectl --context="${CTX}" get svc istio-eastwestgateway -n istio-system
kubectl --context="${CTX}" apply -n istio-system -f \
    samples/multicluster/expose-services.yaml`)
		}
	}

	// A lab's kubeconfig leads through the host's loopback: hence --server.
	sh.must(t, `istioctl create-remote-secret \
  --context="${CTX_CLUSTER1}" \
  --name=cluster1 --server=https://172.30.1.2:6443 | \
  kubectl apply -f - --context="${CTX_CLUSTER2}"
istioctl create-remote-secret \
  --context="${CTX_CLUSTER2}" \
  --name=cluster2 --server=https://172.30.2.2:6443 | \
  kubectl apply -f - --context="${CTX_CLUSTER1}"`)
	p.synced(t, ctxOne, "cluster2")
	p.synced(t, ctxTwo, "cluster1")
	p.verify(t)
}

// primaryRemote follows the guide in which the second cluster's proxies are
// steered by the first cluster's control plane, through an east-west gateway.
func (p *pair) primaryRemote(t *testing.T, networks ...string) {
	p.cacerts(t, ctxOne, ctxTwo)
	sh := p.guideShell().with("NETWORK=" + networks[1])
	several := networks[0] != networks[1]
	if several {
		sh.must(t, `kubectl --context="${CTX_CLUSTER1}" label namespace istio-system topology.istio.io/network=network1`)
	}
	sh.must(t, guidePrimaryExternal)
	sh.must(t, `samples/multicluster/gen-eastwest-gateway.sh \
    --network network1 | \
    istioctl --context="${CTX_CLUSTER1}" install -y -f -
kubectl apply --context="${CTX_CLUSTER1}" -n istio-system -f \
    samples/multicluster/expose-istiod.yaml`)
	if several {
		sh.must(t, `kubectl --context="${CTX_CLUSTER1}" apply -n istio-system -f \
    samples/multicluster/expose-services.yaml`)
	}
	sh.must(t, `kubectl --context="${CTX_CLUSTER2}" annotate namespace istio-system topology.istio.io/controlPlaneClusters=cluster1`)
	if several {
		sh.must(t, `kubectl --context="${CTX_CLUSTER2}" label namespace istio-system topology.istio.io/network=network2`)
	}

	address := sh.must(t, `export DISCOVERY_ADDRESS=$(kubectl \
    --context="${CTX_CLUSTER1}" \
    -n istio-system get svc istio-eastwestgateway \
    -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
echo $DISCOVERY_ADDRESS`)
	if address == "" {
		t.Fatal("the east-west gateway has no address")
	}
	sh = sh.with("DISCOVERY_ADDRESS=" + address)
	sh.must(t, guideRemote)
	sh.must(t, `istioctl create-remote-secret \
  --context="${CTX_CLUSTER2}" \
  --name=cluster2 --server=https://172.30.2.2:6443 | \
  kubectl apply -f - --context="${CTX_CLUSTER1}"`)
	if several {
		sh.must(t, `samples/multicluster/gen-eastwest-gateway.sh \
    --network network2 | \
    istioctl --context="${CTX_CLUSTER2}" install -y -f -`)
	}
	p.synced(t, ctxOne, "cluster2")
	p.verify(t)
}

// synced waits until a cluster's control plane has read another.
func (p *pair) synced(t *testing.T, ctx, name string) {
	t.Helper()
	p.lab.eventually(t, 30*time.Second, "istioctl remote-clusters --context="+ctx+" | tee /dev/stderr | grep -w "+name+" | grep -w synced")
}
