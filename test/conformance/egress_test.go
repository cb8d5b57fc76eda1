package conformance

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// read reads all that a gateway's server behind a port of its pod says; with a configuration,
// inside TLS.
func (g *ingress) read(port string, cfg *tls.Config) (string, error) {
	g.t.Helper()
	addr, ok := g.gateway.Addr("0.0.0.0_" + port)
	if !ok {
		g.t.Fatalf("the gateway has no listener for %s", port)
	}
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if cfg != nil {
		c = tls.Client(c, cfg)
	}
	said, err := io.ReadAll(c)
	return string(said), err
}

// TestGatewayLeadsConnections: TLS that is passed on by its server name, TLS that ends at
// the gateway, and TCP.
func TestGatewayLeadsConnections(t *testing.T) {
	g := newIngress(t)
	ca := mtlstest.NewCA(t, "web")
	secureServer(g.pair, ca, "a.example")
	secureServer(g.pair, ca, "b.example")
	plainServer(g.pair, "tcp.example")
	g.keep(credential(ca, "shop", time.Now().Add(time.Hour), "ended.example"))
	g.add(`{"kind": "Gateway", "metadata": {"name": "connections", "namespace": "shop"}, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [
		{"port": {"number": 80, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
		{"port": {"number": 443, "name": "passed", "protocol": "TLS"}, "tls": {"mode": "PASSTHROUGH"}, "hosts": ["*.example"]},
		{"port": {"number": 443, "name": "ended", "protocol": "TLS"}, "tls": {"mode": "SIMPLE", "credentialName": "shop"}, "hosts": ["ended.example"]}]}}`, connectionRoutes)

	named := func(name string, certs ...tls.Certificate) *tls.Config {
		// What a.example is passed on to shows the certificate of another name.
		return &tls.Config{ServerName: name, RootCAs: ca.Pool(), InsecureSkipVerify: name != "ended.example", Certificates: certs}
	}
	for _, c := range []struct {
		what, port string
		cfg        *tls.Config
		want       string
	}{
		{"TCP", "8080", nil, "tcp.example"},
		{"passed on by its name", "8443", named("a.example"), "b.example"},
		{"passed on by a wildcard", "8443", named("x.example"), "a.example"},
		{"ended", "8443", named("ended.example"), "tcp.example"},
	} {
		if got, err := g.read(c.port, c.cfg); got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.what, got, err, c.want)
		}
	}
	if got, err := g.read("8443", named("elsewhere.test")); err == nil {
		t.Errorf("a name that nobody routes was answered %q", got)
	}
}

// TestGatewayTakesNoMeshIdentityFromOthers: of TLS that ends at the gateway, as for HTTPS.
func TestGatewayTakesNoMeshIdentityFromOthers(t *testing.T) {
	g := newIngress(t)
	ca := mtlstest.NewCA(t, "web")
	hour := time.Now().Add(time.Hour)
	plainServer(g.pair, "tcp.example")
	g.keep(credential(ca, "shop", hour, "ended.example"))
	g.add(`{"kind": "Gateway", "metadata": {"name": "connections", "namespace": "shop"}, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [
		{"port": {"number": 443, "name": "ended", "protocol": "TLS"}, "tls": {"mode": "MUTUAL", "credentialName": "shop"}, "hosts": ["ended.example"]}]}}`, connectionRoutes)
	for id, want := range map[string]string{"spiffe://customer/ns/x/sa/y": "tcp.example", "spiffe://cluster.local/ns/shop/sa/admin": ""} {
		said, err := g.read("8443", &tls.Config{ServerName: "ended.example", RootCAs: ca.Pool(), Certificates: []tls.Certificate{*ca.Issue(id, hour)}})
		if said != want {
			t.Errorf("%s is answered %q, %v; want %q", id, said, err, want)
		}
	}
}

// TestGatewayTakesClientsByName: those alone whose certificate has one of the names.
func TestGatewayTakesClientsByName(t *testing.T) {
	g := newIngress(t)
	ca := mtlstest.NewCA(t, "web")
	hour := time.Now().Add(time.Hour)
	plainServer(g.pair, "tcp.example")
	g.keep(credential(ca, "shop", hour, "ended.example"))
	g.add(`{"kind": "Gateway", "metadata": {"name": "connections", "namespace": "shop"}, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [
		{"port": {"number": 443, "name": "mesh", "protocol": "TLS"}, "tls": {"mode": "ISTIO_MUTUAL", "subjectAltNames": ["spiffe://cluster.local/ns/a/sa/b"]}, "hosts": ["mesh.example"]},
		{"port": {"number": 443, "name": "ended", "protocol": "TLS"}, "tls": {"mode": "OPTIONAL_MUTUAL", "credentialName": "shop", "subjectAltNames": ["spiffe://customer/a", "spiffe://customer/b"]}, "hosts": ["ended.example"]}]}}`, connectionRoutes)
	for _, c := range []struct {
		host, id, want string
		signer         *mtlstest.CA
	}{
		{"ended.example", "spiffe://customer/b", "tcp.example", ca},
		{"ended.example", "spiffe://customer/c", "", ca},
		{"ended.example", "", "tcp.example", ca},
		{"mesh.example", "spiffe://cluster.local/ns/a/sa/b", "tcp.example", g.ca},
		{"mesh.example", "spiffe://cluster.local/ns/a/sa/c", "", g.ca},
	} {
		cfg := &tls.Config{ServerName: c.host, InsecureSkipVerify: true}
		if c.id != "" {
			cfg.Certificates = []tls.Certificate{*c.signer.Issue(c.id, hour)}
		}
		if said, err := g.read("8443", cfg); said != c.want {
			t.Errorf("%s: %q is answered %q, %v; want %q", c.host, c.id, said, err, c.want)
		}
	}
}

// egressGateway is how clients in namespace client call www.example by way of the gateway,
// with the mesh's mutual TLS up to there.
var egressGateway = []string{
	`{"kind": "Gateway", "metadata": {"name": "egress", "namespace": "client"}, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [
		{"port": {"number": 80, "name": "https", "protocol": "HTTPS"}, "tls": {"mode": "ISTIO_MUTUAL"}, "hosts": ["www.example"]},
		{"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "tls": {"mode": "PASSTHROUGH"}, "hosts": ["secure.example"]}]}}`,
	`{"kind": "DestinationRule", "metadata": {"name": "egress", "namespace": "client"}, "spec": {"host": "istio-ingressgateway.istio-system.svc.cluster.local", "subsets": [
		{"name": "www", "trafficPolicy": {"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "ISTIO_MUTUAL", "sni": "www.example"}}]}}, {"name": "secure"}]}}`,
	`{"kind": "VirtualService", "metadata": {"name": "www", "namespace": "client"}, "spec": {"hosts": ["www.example"], "gateways": ["mesh", "egress"], "http": [
		{"match": [{"gateways": ["mesh"], "port": 80}], "route": [{"destination": {"host": "istio-ingressgateway.istio-system.svc.cluster.local", "subset": "www", "port": {"number": 80}}}]},
		{"match": [{"gateways": ["egress"], "port": 80}], "route": [{"destination": {"host": "www.example", "port": {"number": 80}}}]}]}}`,
	`{"kind": "VirtualService", "metadata": {"name": "secure", "namespace": "client"}, "spec": {"hosts": ["secure.example"], "gateways": ["mesh", "egress"], "tls": [
		{"match": [{"gateways": ["mesh"], "port": 443, "sniHosts": ["secure.example"]}], "route": [{"destination": {"host": "istio-ingressgateway.istio-system.svc.cluster.local", "subset": "secure", "port": {"number": 443}}}]},
		{"match": [{"gateways": ["egress"], "port": 443, "sniHosts": ["secure.example"]}], "route": [{"destination": {"host": "secure.example", "port": {"number": 443}}}]}]}}`,
}

// TestEgressGateway: requests and connections for hosts outside of the mesh leave it by the
// gateway, which takes nobody but the mesh's clients for what it reads.
func TestEgressGateway(t *testing.T) {
	g := newIngress(t)
	ca := mtlstest.NewCA(t, "web")
	secureServer(g.pair, ca, "secure.example")
	outside, err := net.Listen("tcp", appAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "outside for ", r.Host)
	})}
	go func() { _ = server.Serve(outside) }()
	t.Cleanup(func() { server.Close() })
	port := uint16(outside.Addr().(*net.TCPAddr).Port)
	www := &model.Service{Host: "www.example", Cluster: cluster, Namespace: "client", Name: "www", Origin: model.FromServiceEntry, External: true,
		Ports: []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, Target: port}}}
	put(g.pair, g.store.Services, www)
	put(g.pair, g.store.Endpoints, &model.EndpointSet{Host: www.Host, Cluster: cluster, Namespace: "client", Name: "www",
		Endpoints: []model.Endpoint{{Address: appAddress, Ports: map[string]uint16{"http": port}}}})
	g.add(egressGateway...)

	// The gateway's Service leads to where its listeners happen to be.
	at := map[string]uint16{}
	for name, listener := range map[string]string{"http2": "0.0.0.0_8080", "https": "0.0.0.0_8443"} {
		addr, ok := g.gateway.Addr(listener)
		if !ok {
			t.Fatalf("the gateway has no listener %s", listener)
		}
		at[name] = addr.Port()
	}
	gw := gatewayService()
	put(g.pair, g.store.Endpoints, &model.EndpointSet{Host: gw.Host, Cluster: cluster, Namespace: gw.Namespace, Name: gw.Name,
		Endpoints: []model.Endpoint{{Address: "127.0.0.1", Ports: at, Router: true, Account: "istio-system/gw"}}})
	g.configure()

	status, _, body := g.ask("198.51.100.1", 80, "GET / HTTP/1.1\r\nHost: www.example\r\n")
	if status != 200 || body != "outside for www.example" {
		t.Errorf("HTTP: %d, %q", status, body)
	}
	if got, err := g.reads("198.51.100.1", 443, ca, "secure.example"); got != "secure.example" {
		t.Errorf("TLS: %q, %v", got, err)
	}

	for what, certs := range map[string][]tls.Certificate{
		"without a certificate": nil, "with a stranger's": {*ca.Issue("spiffe://cluster.local/ns/client/sa/caller", time.Now().Add(time.Hour))},
	} {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", at["http2"]))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		secure := tls.Client(c, &tls.Config{ServerName: "www.example", InsecureSkipVerify: true, Certificates: certs})
		fmt.Fprint(secure, "GET / HTTP/1.1\r\nHost: www.example\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(secure), nil); err == nil {
			t.Errorf("a client %s was answered with %d", what, resp.StatusCode)
		}
		c.Close()
	}
}
