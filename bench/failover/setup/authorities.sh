# A root of trust, and an authority under it for each cluster, in $CERTS.
isthmus x ca create-root --out "$CERTS/root" >/dev/null
for c in "$NEAR" "$FAR"; do
  isthmus x ca create-intermediate --cluster "$c" --root-dir "$CERTS/root" --out "$CERTS/$c" >/dev/null
  kubectl --context "$c" create namespace istio-system
  kubectl --context "$c" create secret generic cacerts -n istio-system \
    --from-file="$CERTS/$c/ca-cert.pem" --from-file="$CERTS/$c/ca-key.pem" \
    --from-file="$CERTS/$c/root-cert.pem" --from-file="$CERTS/$c/cert-chain.pem"
done
