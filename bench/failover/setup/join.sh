# Adds each cluster's gateway to the service's own host in the other one, where the
# control planes are strangers to each other.
join() { # in cluster $1: the gateway of cluster $2, in region $3
  gateway=$(kubectl --context "$2" get svc -n istio-system istio-ingressgateway -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
  kubectl apply --context "$1" -f - <<EOF
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: target-elsewhere, namespace: failover}
spec:
  hosts: [target.failover.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{name: http, number: 8080, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - address: $gateway
    ports: {http: 15443}
    locality: $3/$3-a
    labels: {security.istio.io/tlsMode: istio}
EOF
}
join "$NEAR" "$FAR" "$FAR_REGION"
join "$FAR" "$NEAR" "$NEAR_REGION"
