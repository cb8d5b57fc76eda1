#!/usr/bin/env bash
# Prints an IstioOperator for the gateway by which the clusters of other networks
# reach this one:
#
#   samples/multicluster/gen-eastwest-gateway.sh --network network1 | istioctl install -y -f -
#
# What it does not say, such as the cluster's name, is as the control plane that is
# installed has it.
set -euo pipefail

usage() {
  echo "usage: $0 --network NETWORK [--mesh MESH] [--cluster CLUSTER] [--revision REVISION] [--single-cluster]" >&2
  exit 1
}

network='' mesh='' cluster='' revision='' single=false
while (($#)); do
  case $1 in
    --network | --mesh | --cluster | --revision)
      # An empty value is a shell variable that was not set.
      [[ -n ${2:-} ]] || { echo "$0: $1 has no value" >&2; usage; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --single-cluster)
      single=true
      shift
      ;;
    *)
      echo "$0: $1 is unknown" >&2
      usage
      ;;
  esac
done
# A single cluster has no other network to be told from.
[[ -n $network || $single == true ]] || { echo "$0: --network is missing" >&2; usage; }

cat <<EOF
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata:
  name: eastwest
spec:${revision:+
  revision: '$revision'}
  profile: empty
  components:
    ingressGateways:
    - name: istio-eastwestgateway
      enabled: true
      label:
        app: istio-eastwestgateway
        istio: eastwestgateway${network:+
        topology.istio.io/network: '$network'}
      k8s:${network:+
        env:
        # The gateway leads into this network, and not out of it again.
        - name: ISTIO_META_REQUESTED_NETWORK_VIEW
          value: '$network'}
        service:
          ports:
          - name: status-port
            port: 15021
            targetPort: 15021
          # Services, passed on by their server name.
          - name: tls
            port: 15443
            targetPort: 15443
          # The control plane, for clusters that it steers.
          - name: tls-istiod
            port: 15012
            targetPort: 15012
          - name: tls-webhook
            port: 15017
            targetPort: 15017
EOF
if [[ -n $network$mesh$cluster ]]; then
  cat <<EOF
  values:
    global:${network:+
      network: '$network'}${mesh:+
      meshID: '$mesh'}${cluster:+
      multiCluster:
        clusterName: '$cluster'}
EOF
fi
