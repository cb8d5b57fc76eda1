#!/usr/bin/env bash
# Two clusters, each with a control plane of its own, one root of trust: a call
# from cluster-1 to a service of cluster-2, over mutual TLS, by its .global name.
#
#   make demo                          on two clusters that it starts on this machine (Linux, root)
#   make demo CONTEXTS="a b" HUB=…     on two clusters that you have; HUB is a registry that they pull from
#
# It can be run again: every step finds what is already there.
set -euo pipefail
cd "$(dirname "$0")/.."

. ./toolchain.env
export GOTOOLCHAIN

contexts=${CONTEXTS:-}
hub=${HUB:-isthmus.local}
tag=${TAG:-dev}
work=dist/demo
mkdir -p "$work"
started=$(date +%s)

if [ -t 1 ]; then bold=$(printf '\033[1m') dim=$(printf '\033[2m') off=$(printf '\033[0m'); else bold='' dim='' off=''; fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$off"; }
say() { printf '   %s\n' "$*"; }
run() { printf '%s   $ %s%s\n' "$dim" "$*" "$off"; "$@"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# --- clusters and images ---------------------------------------------------

step "Binaries and images"
if [ -z "$contexts" ]; then
  [ "$(uname -s)" = Linux ] || die "the lab needs Linux; on another system name two clusters of yours: make demo CONTEXTS=\"a b\" HUB=registry/you"
  make --no-print-directory deps lab images
  step "Two Kubernetes clusters on two networks"
  run bin/lab up --clusters 2 --network multi
  eval "$(bin/lab env)"
  contexts="cluster-1 cluster-2"
  for image in dist/images/*.tar; do bin/lab load-image "$image"; done
  bin/lab sample-images
else
  [ "$hub" != isthmus.local ] || die "name a registry that both clusters pull from: make demo CONTEXTS=\"$contexts\" HUB=registry/you"
  make --no-print-directory images HUB="$hub" TAG="$tag"
  run bin/isthmus image push --hub "$hub" --tag "$tag" --binary "bin/linux-$(go env GOARCH)/isthmus" --proxy-binary "bin/linux-$(go env GOARCH)/isthmus-proxy"
  (cd lab && run go run ./cmd/push-samples "$hub")
fi
PATH=$PWD/bin:$PATH
read -r ctx1 ctx2 rest <<<"$contexts"
[ -n "${ctx2:-}" ] && [ -z "${rest:-}" ] || die "CONTEXTS wants two kubeconfig contexts, got \"$contexts\""

# sample prints a sample's manifest, with the images of the hub that is in use.
sample() {
  if [ "$hub" = isthmus.local ]; then cat "samples/$1/$1.yaml"; else sed "s#image: isthmus-samples/#image: $hub/#" "samples/$1/$1.yaml"; fi
}
k() { kubectl --context "$@"; }
namespace() { k "$1" create namespace "$2" --dry-run=client -o yaml | k "$1" apply -f - >/dev/null; }

# --- one root, an intermediate for each cluster ------------------------------

step "One root of trust, an intermediate certificate for each cluster"
certs=$work/certs
[ -f "$certs/root-cert.pem" ] || run isthmus x ca create-root --out "$certs"
for ctx in "$ctx1" "$ctx2"; do
  [ -f "$certs/$ctx/ca-cert.pem" ] || run isthmus x ca create-intermediate --cluster "$ctx" --root-dir "$certs" --out "$certs/$ctx"
  namespace "$ctx" istio-system
  k "$ctx" get secret cacerts -n istio-system >/dev/null 2>&1 ||
    run kubectl --context "$ctx" create secret generic cacerts -n istio-system \
      --from-file="$certs/$ctx/ca-cert.pem" \
      --from-file="$certs/$ctx/ca-key.pem" \
      --from-file="$certs/$ctx/root-cert.pem" \
      --from-file="$certs/$ctx/cert-chain.pem"
done

# --- the mesh ------------------------------------------------------------------

step "A control plane in each cluster"
for ctx in "$ctx1" "$ctx2"; do
  run istioctl --context "$ctx" install -y \
    -f manifests/examples/multicluster/values-istio-multicluster-gateways.yaml \
    --set values.global.multiCluster.clusterName="$ctx" --set hub="$hub" --set tag="$tag"
done

step "DNS: names under .global go to istiocoredns"
for ctx in "$ctx1" "$ctx2"; do run istioctl --context "$ctx" x dns apply; done

# --- the services ----------------------------------------------------------------

step "httpbin in $ctx2, a client in $ctx1, and a client outside the mesh"
namespace "$ctx1" foo
namespace "$ctx2" bar
namespace "$ctx2" legacy
k "$ctx1" label namespace foo istio-injection=enabled --overwrite >/dev/null
k "$ctx2" label namespace bar istio-injection=enabled --overwrite >/dev/null
sample fortio | k "$ctx1" apply -n foo -f -
sample httpbin | k "$ctx2" apply -n bar -f -
sample fortio | k "$ctx2" apply -n legacy -f -
k "$ctx2" apply -n bar -f - <<'YAML'
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
spec:
  mtls:
    mode: STRICT
YAML
k "$ctx1" rollout status -n foo deployment/fortio --timeout=120s
k "$ctx2" rollout status -n bar deployment/httpbin --timeout=120s
k "$ctx2" rollout status -n legacy deployment/fortio --timeout=120s

gateway() {
  k "$1" get svc -n istio-system istio-ingressgateway -o jsonpath='{.status.loadBalancer.ingress[0].ip}{.status.loadBalancer.ingress[0].hostname}'
}
CLUSTER2_GW_ADDR=$(gateway "$ctx2")
[ -n "$CLUSTER2_GW_ADDR" ] || die "istio-ingressgateway in $ctx2 has no load balancer address; see: kubectl --context $ctx2 get svc -n istio-system"
say "cluster-2's gateway answers at $CLUSTER2_GW_ADDR:15443"
k "$ctx1" apply -n foo -f - <<YAML
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata:
  name: httpbin-bar
spec:
  hosts:
  - httpbin.bar.global
  location: MESH_INTERNAL
  ports:
  - name: http1
    number: 8000
    protocol: http
  resolution: DNS
  addresses:
  - 240.0.0.2
  endpoints:
  - address: ${CLUSTER2_GW_ADDR}
    ports:
      http1: 15443 # Do not change this port value
YAML

# --- the call ----------------------------------------------------------------------

step "The call: $ctx1 / foo / fortio  →  http://httpbin.bar.global:8000/headers"
answer=$work/answer.txt
for attempt in $(seq 1 30); do
  if k "$ctx1" exec -n foo deploy/fortio -c fortio -- /fortio curl -quiet http://httpbin.bar.global:8000/headers >"$answer" 2>"$work/answer.err" && grep -q 'spiffe://' "$answer"; then break; fi
  [ "$attempt" -lt 30 ] || { cat "$answer" "$work/answer.err" >&2; die "no answer after 30 tries; the proxies' logs: kubectl --context $ctx1 logs -n foo deploy/fortio -c istio-proxy"; }
  sleep 1
done
cat "$answer"

xfcc=$(grep -i -A3 '"X-Forwarded-Client-Cert"' "$answer" | tr -d '\n')
caller=$(sed -E 's/.*URI=([^;",]*).*/\1/' <<<"$xfcc")
callee=$(sed -E 's/.*By=([^;",]*).*/\1/' <<<"$xfcc")
step "Who called, and by which way"
say "caller   $caller   ($ctx1)"
say "callee   $callee   ($ctx2)"
say "way      fortio → its sidecar → $CLUSTER2_GW_ADDR:15443 (passthrough by SNI, still encrypted) → httpbin's sidecar → httpbin"
[[ $caller == spiffe://*/ns/foo/* && $callee == spiffe://*/ns/bar/* ]] || die "the answer does not name both SPIFFE ids: $xfcc"

step "Past the mesh: plaintext is refused"
pod=$(k "$ctx2" get pod -n bar -l app=httpbin -o jsonpath='{.items[0].status.podIP}')
for target in "http://$pod:8080/headers" "http://$CLUSTER2_GW_ADDR:15443/headers"; do
  if out=$(k "$ctx2" exec -n legacy deploy/fortio -c fortio -- /fortio curl -timeout 5s "$target" 2>&1); then
    die "a plaintext call to $target was answered: $out"
  fi
  reason=$(sed -n 's/.*err=\\"\([^\\]*\).*/\1/p' <<<"$out" | head -n1)
  [[ $reason == *reset* || $reason == *refused* || $reason == *EOF* ]] || die "the plaintext call to $target failed, but not by a refusal: $out"
  say "$target  →  refused ($reason)"
done

step "Done in $(($(date +%s) - started)) s. Try next:"
[ -n "${CONTEXTS:-}" ] || say "eval \$(bin/lab env)    # KUBECONFIG with the contexts $ctx1 and $ctx2"
say "kubectl --context $ctx1 exec -n foo deploy/fortio -c fortio -- /fortio load -qps 100 -t 10s http://httpbin.bar.global:8000/get"
say "kubectl --context $ctx2 logs -n bar deploy/httpbin -c istio-proxy"
say "bin/istioctl --context $ctx1 verify-install"
if [ -z "${CONTEXTS:-}" ]; then
  say "bin/lab partition cluster-1 cluster-2; bin/lab heal        # cut the network between them, and mend it"
  say "bin/lab stop cluster-2; bin/lab start cluster-2            # a power cut, and its end"
  say "bin/lab down                                               # remove everything"
else
  say "bin/istioctl --context $ctx1 uninstall --purge -y; kubectl --context $ctx1 delete namespace foo      # and so for $ctx2: bar, legacy"
fi
