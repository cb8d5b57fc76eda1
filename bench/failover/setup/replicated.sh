# The guide's replicated control planes (多集群多控制平面), strangers to each other,
# with two gateway pods in each cluster, and two seconds for each try of a request.
for c in "$NEAR" "$FAR"; do
  istioctl install --context "$c" -y -f manifests/examples/multicluster/values-istio-multicluster-gateways.yaml \
    --set values.global.multiCluster.clusterName="$c" --set values.gateways.istio-ingressgateway.autoscaleMin=2 \
    --set meshConfig.defaultHttpRetryPolicy.attempts=2 --set meshConfig.defaultHttpRetryPolicy.perTryTimeout=2s
  kubectl apply --context "$c" -f - <<EOF
$PASS_LOCAL
EOF
done
