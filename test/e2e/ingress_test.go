//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// ingressTask is that of Istio's guide to ingress gateways:
// https://istio.io/latest/docs/tasks/traffic-management/ingress/ingress-control/
const ingressTask = `kubectl apply -n bar -f - <<EOF
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: httpbin-gateway
spec:
  selector:
    istio: ingressgateway # use Istio default gateway implementation
  servers:
  - port:
      number: 80
      name: http
      protocol: HTTP
    hosts:
    - "httpbin.example.com"
EOF
kubectl apply -n bar -f - <<EOF
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: httpbin
spec:
  hosts:
  - "httpbin.example.com"
  gateways:
  - httpbin-gateway
  http:
  - match:
    - uri:
        prefix: /status
    - uri:
        prefix: /delay
    route:
    - destination:
        port:
          number: 8000
        host: httpbin
EOF`

// secureTask adds what the guide to secure gateways does.
const secureTask = `kubectl create -n istio-system secret tls httpbin-credential --key="$CERTS/tls.key" --cert="$CERTS/tls.crt"
kubectl apply -n bar -f - <<EOF
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: httpbin-gateway
spec:
  selector:
    istio: ingressgateway
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["httpbin.example.com"]
    tls: {httpsRedirect: true}
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: ["httpbin.example.com"]
    tls:
      mode: SIMPLE
      credentialName: httpbin-credential
EOF`

// ingress: a client without a sidecar, in another cluster, calls a service whose pods take
// mutual TLS alone by the address of its cluster's ingress gateway, over HTTP and HTTPS.
func ingress(t *testing.T, m *mesh) {
	const outside = "kubectl --context cluster-1 exec -i -n outside deploy/sleep -c sleep -- curl -sS -m 10 -o /dev/null -w '%{http_code}' "
	m.two.must(t, ingressTask)
	m.lab.eventually(t, 30*time.Second, `test "$(`+outside+"-H Host:httpbin.example.com http://"+m.gateway2+`/status/200)" = 200`)
	for url, want := range map[string]string{"httpbin.example.com/headers": "404", "other.example.com/status/200": "404"} {
		if got := m.lab.must(t, outside+"--connect-to ::"+m.gateway2+": http://"+url); got != want {
			t.Errorf("%s: answered %s, want %s", url, got, want)
		}
	}

	certs := serverCertificate(t, "httpbin.example.com")
	m.two.with("CERTS="+certs).must(t, secureTask)
	secure := outside + "--cacert /dev/stdin --connect-to ::" + m.gateway2 + ": https://httpbin.example.com/status/200 < " + filepath.Join(certs, "tls.crt")
	m.lab.eventually(t, 60*time.Second, `test "$(`+secure+`)" = 200`)
	m.lab.eventually(t, 30*time.Second, `test "$(`+outside+"-H Host:httpbin.example.com http://"+m.gateway2+`/status/200)" = 301`)

	m.two.must(t, "kubectl delete -n bar gateway/httpbin-gateway virtualservice/httpbin && kubectl delete -n istio-system secret httpbin-credential")
}

// serverCertificate writes tls.crt and tls.key, signed by itself, and returns their
// directory.
func serverCertificate(t *testing.T, host string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		// Without a name of its issuer OpenSSL takes no certificate.
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
