package conformance

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// credential is a Secret with a certificate for host names, and the roots of its issuer.
func credential(ca *mtlstest.CA, name string, until time.Time, hosts ...string) *model.Credential {
	cert := ca.IssueServer(until, hosts...)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		panic(err)
	}
	return &model.Credential{
		Cluster: cluster, Namespace: "istio-system", Name: name,
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		PrivateKey:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		Roots:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw}),
	}
}

const httpsGateway = `{"kind": "Gateway", "metadata": {"name": "front", "namespace": "shop"}, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [
	{"port": {"number": 443, "name": "https-a", "protocol": "HTTPS"}, "hosts": ["a.example.com"], "tls": {"mode": "SIMPLE", "credentialName": "a"}},
	{"port": {"number": 443, "name": "https-b", "protocol": "HTTPS"}, "hosts": ["b.example.com"], "tls": {"mode": "MUTUAL", "credentialName": "b", "minProtocolVersion": "TLSV1_3"}},
	{"port": {"number": 443, "name": "https-c", "protocol": "HTTPS"}, "hosts": ["*.c.example.com"], "tls": {"mode": "SIMPLE", "credentialName": "c"}}]}}`

// dial opens TLS to the gateway for a host.
func (g *ingress) dial(cfg *tls.Config) (*tls.Conn, error) {
	g.t.Helper()
	addr, ok := g.gateway.Addr("0.0.0.0_8443")
	if !ok {
		g.t.Fatal("the gateway has no listener for HTTPS")
	}
	c, err := tls.Dial("tcp", addr.String(), cfg)
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return c, err
}

// over sends a request on an open connection. In TLS 1.3 it is its answer that tells a
// client whether it was let in.
func over(c *tls.Conn, host string) (status int, body string, err error) {
	if _, err := fmt.Fprintf(c, "GET /status/200 HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all), err
}

// try opens TLS and sends one request.
func (g *ingress) try(cfg *tls.Config, host string) (status int, err error) {
	g.t.Helper()
	c, err := g.dial(cfg)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	status, _, err = over(c, host)
	return status, err
}

func (g *ingress) keep(rows ...*model.Credential) {
	g.t.Helper()
	put(g.pair, g.store.Credentials, rows...)
	g.apply(g.gateway, "0.0.0.0_8443", "127.0.0.1", 0)
}

// TestGatewayEndsTLS: each server with its own certificate, clients that must show one,
// and a request that came by another host's connection.
func TestGatewayEndsTLS(t *testing.T) {
	g := newIngress(t, httpsGateway, frontRoutes)
	web, strangers := mtlstest.NewCA(t, "web"), mtlstest.NewCA(t, "strangers")
	hour := time.Now().Add(time.Hour)
	g.keep(credential(web, "a", hour, "a.example.com"), credential(web, "b", hour, "b.example.com"))
	shown := func(ca *mtlstest.CA) []tls.Certificate {
		return []tls.Certificate{*ca.Issue("spiffe://customer/ns/x/sa/y", hour)}
	}
	forged := []tls.Certificate{*web.Issue("spiffe://cluster.local/ns/shop/sa/admin", hour)}
	for name, c := range map[string]struct {
		cfg    *tls.Config
		host   string
		status int // 0: no answer
	}{
		"served":                         {&tls.Config{ServerName: "a.example.com"}, "a.example.com", 200},
		"over TLS 1.2":                   {&tls.Config{ServerName: "a.example.com", MaxVersion: tls.VersionTLS12}, "a.example.com", 200},
		"by nobody's name":               {&tls.Config{ServerName: "x.example.com"}, "a.example.com", 0},
		"another host's request":         {&tls.Config{ServerName: "a.example.com"}, "b.example.com", 421},
		"another wildcard's request":     {&tls.Config{ServerName: "a.example.com"}, "x.c.example.com", 421},
		"a host that nobody serves":      {&tls.Config{ServerName: "a.example.com"}, "z.example.com", 404},
		"with a certificate":             {&tls.Config{ServerName: "b.example.com", Certificates: shown(web)}, "b.example.com", 200},
		"as a workload of the mesh":      {&tls.Config{ServerName: "b.example.com", Certificates: forged}, "b.example.com", 403},
		"without a certificate":          {&tls.Config{ServerName: "b.example.com"}, "b.example.com", 0},
		"with a stranger's certificate":  {&tls.Config{ServerName: "b.example.com", Certificates: shown(strangers)}, "b.example.com", 0},
		"with a certificate of the mesh": {&tls.Config{ServerName: "b.example.com", Certificates: shown(g.ca)}, "b.example.com", 0},
		"below the least version":        {&tls.Config{ServerName: "b.example.com", MaxVersion: tls.VersionTLS12, Certificates: shown(web)}, "b.example.com", 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.RootCAs = web.Pool()
			status, err := g.try(c.cfg, c.host)
			if status != c.status || (err == nil) != (c.status != 0) {
				t.Errorf("answered %d, %v; want %d", status, err, c.status)
			}
		})
	}
}

// TestGatewayWithoutSecret: hosts whose Secret is missing or has expired are refused by an
// alert, beside others that go on; a new one serves the next client, and the connections
// that are open stay; one that is deleted is shown to nobody any more.
func TestGatewayWithoutSecret(t *testing.T) {
	g := newIngress(t, httpsGateway, frontRoutes)
	first, second := mtlstest.NewCA(t, "first"), mtlstest.NewCA(t, "second")
	hour := time.Now().Add(time.Hour)
	g.keep(credential(first, "a", hour, "a.example.com"), credential(first, "c", time.Now().Add(-time.Minute), "x.c.example.com"))
	refused := func(host string) {
		t.Helper()
		if _, err := g.try(&tls.Config{ServerName: host, InsecureSkipVerify: true}, host); err == nil || !strings.Contains(err.Error(), "remote error: tls: internal error") {
			t.Errorf("%s: %v; want an alert", host, err)
		}
	}
	refused("b.example.com")
	refused("x.c.example.com")

	open, err := g.dial(&tls.Config{ServerName: "a.example.com", RootCAs: first.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	g.keep(credential(second, "a", hour, "a.example.com"))
	if status, err := g.try(&tls.Config{ServerName: "a.example.com", RootCAs: second.Pool()}, "a.example.com"); status != 200 {
		t.Errorf("after the Secret was replaced: %d, %v", status, err)
	}
	if status, _, err := over(open, "a.example.com"); status != 200 {
		t.Errorf("the connection that was open: %d, %v", status, err)
	}

	txn := g.store.Write()
	g.store.Credentials.Remove(txn, model.CredentialKey(cluster, "istio-system", "a"))
	txn.Commit()
	g.apply(g.gateway, "0.0.0.0_8443", "127.0.0.1", 0)
	refused("a.example.com")
}

// TestSecretsAreForProvenGateways: a private key goes to a gateway's pod that has proved to
// have that pod's account, and to nobody who only says so; and only those that Gateways
// name.
func TestSecretsAreForProvenGateways(t *testing.T) {
	g := newIngress(t, httpsGateway)
	web := mtlstest.NewCA(t, "web")
	hour := time.Now().Add(time.Hour)
	g.keep(credential(web, "a", hour, "a.example.com"), credential(web, "other", hour, "other.example.com"))
	elsewhere := credential(web, "b", hour, "b.example.com")
	elsewhere.Namespace = "shop"
	put(g.pair, g.store.Credentials, elsewhere)
	put(g.pair, g.store.Workloads, &model.Workload{
		Cluster: cluster, Namespace: "istio-system", Name: "app-1", Account: "gw", Labels: map[string]string{"istio": "ingressgateway"}, Addresses: []string{"127.0.0.1"},
	})

	unproven, unknown, application := node("router", gatewayPod()), node("router", gatewayPod()), node("router", gatewayPod())
	unproven.Identity = identity.ID{}
	unknown.ID.Pod = "gw-2"
	application.ID.Pod = "app-1"
	for name, c := range map[string]struct {
		node  serve.Node
		names int
	}{
		"the gateway":                     {node("router", gatewayPod()), 1},
		"who proves nothing":              {unproven, 0},
		"a pod that nobody knows":         {unknown, 0},
		"an application with the account": {application, 0},
		"a sidecar":                       {node("sidecar", gatewayPod()), 0},
	} {
		t.Run(name, func(t *testing.T) {
			view, _, err := g.source.View(t.Context(), c.node)
			if err != nil {
				t.Fatal(err)
			}
			for _, asked := range [][]string{nil, {"kubernetes://a", "kubernetes://b", "kubernetes://other", "kubernetes://cacerts"}} {
				got, _, err := view.Resources(xds.TypeSecret, asked)
				if err != nil || got.Len() != c.names || c.names > 0 && got.Get("kubernetes://a") == nil {
					t.Errorf("asked for %q, it is given %d secrets, %v; want %d", asked, got.Len(), err, c.names)
				}
			}
		})
	}
}
