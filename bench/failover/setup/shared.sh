# The guide's shared control plane (多集群共享控制平面), in $NEAR, with two gateway pods
# in each cluster, and two seconds for each try of a request.
cat >"$CERTS/main.yaml" <<EOF
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  values:
    gateways: {istio-ingressgateway: {autoscaleMin: 2}}
    global:
      multiCluster: {clusterName: $NEAR}
      network: network-1
      meshNetworks:
        network-1:
          endpoints: [{fromRegistry: $NEAR}]
          gateways: [{registry_service_name: istio-ingressgateway.istio-system.svc.cluster.local, port: 15443}]
        network-2:
          endpoints: [{fromRegistry: $FAR}]
          gateways: [{registry_service_name: istio-ingressgateway.istio-system.svc.cluster.local, port: 15443}]
  meshConfig: {defaultHttpRetryPolicy: {attempts: 2, perTryTimeout: 2s}}
  components:
    pilot: {k8s: {service: {type: LoadBalancer}}}
EOF
istioctl install --context "$NEAR" -y -f "$CERTS/main.yaml"

pilot=$(kubectl --context "$NEAR" get svc -n istio-system istiod -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
cat >"$CERTS/remote.yaml" <<EOF
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  values:
    gateways: {istio-ingressgateway: {autoscaleMin: 2}}
    global:
      multiCluster: {clusterName: $FAR}
      network: network-2
      remotePilotAddress: $pilot
EOF
istioctl install --context "$FAR" -y -f "$CERTS/remote.yaml"

# A lab's kubeconfig leads through the host's loopback: hence --server.
istioctl create-remote-secret --context "$FAR" --name "$FAR" --server https://172.30.2.2:6443 |
  kubectl apply --context "$NEAR" -f -
kubectl apply --context "$NEAR" -f - <<EOF
$PASS_LOCAL
EOF
for _ in $(seq 150); do
  istioctl remote-clusters --context "$NEAR" | grep -w "$FAR" | grep -wq synced && exit 0
  sleep 0.2
done
istioctl remote-clusters --context "$NEAR"
exit 1
