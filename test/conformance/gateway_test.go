package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/xds/resources"
)

// ingress is a gateway in the mesh of a pair, with a listener behind port 80.
type ingress struct {
	*pair
	gateway *sidecar
}

// gatewayPod is one that Gateways select by istio: ingressgateway.
func gatewayPod() *model.Workload {
	return &model.Workload{
		Cluster: cluster, Namespace: "istio-system", Name: "gw-1", Account: "gw", Router: true,
		Labels: map[string]string{"istio": "ingressgateway"}, Addresses: []string{"127.0.0.1"}, TLS: true,
	}
}

// newIngress adds objects, as JSON, to the mesh.
func newIngress(t *testing.T, objects ...string) *ingress {
	t.Helper()
	p := newPair(t)
	put(p, p.store.Workloads, gatewayPod())
	put(p, p.store.Services, gatewayService())
	put(p, p.store.Peers, &model.PeerAuthentication{Cluster: cluster, Namespace: "shop", Name: "p", Mode: model.MTLSStrict})
	g := &ingress{pair: p}
	g.gateway = p.start(node("router", gatewayPod()), p.ca.Identity("spiffe://cluster.local/ns/istio-system/sa/gw"))
	g.add(objects...)
	return g
}

func gatewayService() *model.Service {
	return &model.Service{
		Host: "istio-ingressgateway.istio-system.svc.cluster.local", Cluster: cluster, Namespace: "istio-system", Name: "istio-ingressgateway",
		Selector: map[string]string{"istio": "ingressgateway"},
		Ports:    []model.Port{{Name: "http2", Number: 80, Target: 8080}, {Name: "https", Number: 443, Target: 8443}},
	}
}

// add adds objects, and brings the gateway up to date.
func (g *ingress) add(objects ...string) {
	g.t.Helper()
	for _, raw := range objects {
		obj, err := api.Decode([]byte(raw))
		if err != nil {
			g.t.Fatalf("%v in\n%s", err, raw)
		}
		switch obj.Kind {
		case api.KindGateway:
			put(g.pair, g.store.Gateways, compile.Gateway(cluster, obj))
		case api.KindVirtualService:
			put(g.pair, g.store.Virtuals, compile.VirtualService(cluster, obj, "cluster.local"))
		case api.KindDestinationRule:
			put(g.pair, g.store.Destinations, compile.DestinationRule(cluster, obj, "cluster.local"))
		default:
			g.t.Fatalf("what is to be done with a %s?", obj.Kind)
		}
	}
	g.configure()
	g.apply(g.gateway, "0.0.0.0_8080", "127.0.0.1", 0)
	g.apply(g.gateway, "0.0.0.0_8443", "127.0.0.1", 0)
}

// call sends a request, as a client outside of the mesh does.
func (g *ingress) call(head string) (status int, header http.Header, body string) {
	g.t.Helper()
	addr, ok := g.gateway.Addr("0.0.0.0_8080")
	if !ok {
		g.t.Fatal("the gateway has no listener")
	}
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "%sConnection: close\r\n\r\n", head)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatalf("status %d, body %q, error %v", resp.StatusCode, all, err)
	}
	return resp.StatusCode, resp.Header, string(all)
}

const frontGateway = `{"kind": "Gateway", "metadata": {"name": "front", "namespace": "shop"}, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [
	{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["shop.example.com", "*.shop.example.com"]}]}}`

// frontRoutes route what the Gateway is called for.
const frontRoutes = `{"kind": "VirtualService", "metadata": {"name": "front", "namespace": "shop"}, "spec": {"hosts": ["*"], "gateways": ["front"], "http": [
	{"match": [{"uri": {"prefix": "/status"}}, {"uri": {"prefix": "/delay"}}], "route": [{"destination": {"host": "web", "port": {"number": 80}}}]}]}}`

// connectionGateway has a server of each kind that leads connections on.
const connectionGateway = `{"kind": "Gateway", "metadata": {"name": "connections", "namespace": "shop"}, "spec": {"selector": {"istio": "ingressgateway"}, "servers": [
	{"port": {"number": 80, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
	{"port": {"number": 443, "name": "passed", "protocol": "TLS"}, "tls": {"mode": "PASSTHROUGH"}, "hosts": ["*.example", "*.tls.example"]},
	{"port": {"number": 443, "name": "ended", "protocol": "TLS"}, "tls": {"mode": "SIMPLE", "credentialName": "shop"}, "hosts": ["ended.example"]},
	{"port": {"number": 443, "name": "mesh", "protocol": "TLS"}, "tls": {"mode": "ISTIO_MUTUAL"}, "hosts": ["mesh.example"]}]}}`

// connectionRoutes route what comes to them.
const connectionRoutes = `{"kind": "VirtualService", "metadata": {"name": "connections", "namespace": "client"}, "spec": {
	"hosts": ["*.example", "ended.example", "mesh.example"], "gateways": ["shop/connections"],
	"tls": [{"match": [{"sniHosts": ["a.example"]}], "route": [{"destination": {"host": "b.example"}}]},
		{"match": [{"sniHosts": ["*.example"]}], "route": [{"destination": {"host": "a.example"}}]}],
	"tcp": [{"route": [{"destination": {"host": "tcp.example"}}]}]}}`

// TestRequestsComeInThroughTheGateway: from a client outside of the mesh to an
// application in it, by mutual TLS, and nothing else.
func TestRequestsComeInThroughTheGateway(t *testing.T) {
	g := newIngress(t, frontGateway, frontRoutes)
	for name, c := range map[string]struct {
		head   string
		status int
		line   int // of the answer
		want   string
	}{
		"routed": {
			"GET /status/200 HTTP/1.1\r\nHost: shop.example.com\r\n", 200, 0, "shop.example.com",
		},
		"with a port": {
			"GET /delay/1 HTTP/1.1\r\nHost: a.shop.example.com:31380\r\n", 200, 0, "a.shop.example.com:31380",
		},
		"as the gateway": {
			"GET /status/200 HTTP/1.1\r\nHost: shop.example.com\r\n", 200, 1, "URI=spiffe://cluster.local/ns/istio-system/sa/gw",
		},
		"whoever the client says that it is": {
			"GET /status/200 HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/shop/sa/root\r\n",
			200, 1, "URI=spiffe://cluster.local/ns/istio-system/sa/gw",
		},
		"by the path that the application will read": {
			"GET /x/../status/%32 HTTP/1.1\r\nHost: shop.example.com\r\n", 200, 2, "/status/2",
		},
		"out of the routes by that path": {
			"GET /status/../admin HTTP/1.1\r\nHost: shop.example.com\r\n", 404, 0, "",
		},
		"another path": {
			"GET / HTTP/1.1\r\nHost: shop.example.com\r\n", 404, 0, "",
		},
		"another host": {
			"GET /status/200 HTTP/1.1\r\nHost: example.com\r\n", 404, 0, "",
		},
		"a service of the mesh by its name": {
			"GET /status/200 HTTP/1.1\r\nHost: web.shop.svc.cluster.local\r\n", 404, 0, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, body := g.call(c.head)
			lines := strings.Split(body, "\n")
			if status != c.status || status == 200 && !strings.Contains(lines[c.line], c.want) {
				t.Errorf("answered %d, %q; want %d, %q", status, body, c.status, c.want)
			}
			if strings.Contains(body, "sa/root") {
				t.Errorf("the application read what the client says of itself: %q", body)
			}
		})
	}
}

// TestGatewayRedirectsToHTTPS: every path of the server's hosts.
func TestGatewayRedirectsToHTTPS(t *testing.T) {
	g := newIngress(t, strings.Replace(frontGateway, `"hosts"`, `"tls": {"httpsRedirect": true}, "hosts"`, 1), frontRoutes)
	for _, host := range []string{"shop.example.com", "shop.example.com:80", "b.shop.example.com"} {
		status, header, _ := g.call("GET /status/1?q HTTP/1.1\r\nHost: " + host + "\r\n")
		if want := "https://" + strings.TrimSuffix(host, ":80") + "/status/1?q"; status != 301 || header.Get("Location") != want {
			t.Errorf("%s: answered %d, Location %q; want 301, %q", host, status, header.Get("Location"), want)
		}
	}
}

// TestGatewayFollowsEdits: routes that change, and go.
func TestGatewayFollowsEdits(t *testing.T) {
	g := newIngress(t, frontGateway)
	const request = "GET /status/1 HTTP/1.1\r\nHost: shop.example.com\r\n"
	if status, _, _ := g.call(request); status != 404 {
		t.Errorf("without routes, answered %d", status)
	}
	g.add(frontRoutes)
	if status, _, body := g.call(request); status != 200 {
		t.Errorf("answered %d, %q", status, body)
	}
	g.add(strings.ReplaceAll(frontRoutes, "/status", "/other"))
	if status, _, _ := g.call(request); status != 404 {
		t.Errorf("after an edit, answered %d", status)
	}
}

// drawServer draws a server of a Gateway, some of it odd.
func drawServer(r *rand.Rand) object {
	out := object{
		"port": object{
			"number": pick(r, 80, 443, 8080, 15443, r.IntN(70000)), "name": pick(r, "http", "https", text(r)),
			"protocol": pick(r, "HTTP", "HTTP2", "GRPC", "TLS", "HTTPS", "TCP", text(r)),
		},
		"hosts": []string{pick(r, "*", "*.example.com", "shop/web.example.com", "./web.example.com", "web.shop.svc.cluster.local", text(r)), pick(r, "b.example.com", text(r))},
	}
	if r.IntN(2) == 0 {
		out["tls"] = pick(r, object{"httpsRedirect": true}, object{"mode": pick(r, "SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"), "credentialName": pick(r, "shop", text(r)), "minProtocolVersion": pick(r, "TLS_AUTO", "TLSV1_2", "TLSV1_3")},
			object{"mode": "AUTO_PASSTHROUGH"}, object{"mode": "PASSTHROUGH"}, object{"mode": "ISTIO_MUTUAL"}, object{"mode": text(r)})
	}
	return out
}

// refusesGateway tells what is wrong with what a gateway is sent because of a valid
// Gateway or VirtualService; neither is taken: false.
func refusesGateway(t testing.TB, raw []byte) (taken bool, err error) {
	t.Helper()
	obj, err := api.Decode(raw)
	if err != nil || obj.Kind != api.KindVirtualService && obj.Kind != api.KindGateway {
		return false, nil
	}

	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	txn := store.Write()
	pod := gatewayPod()
	store.Workloads.Put(txn, pod)
	store.Services.Put(txn, gatewayService())
	store.Services.Put(txn, &model.Service{
		Host: "web.shop.svc.cluster.local", Cluster: cluster, Namespace: "shop", Name: "web",
		Ports: []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP}},
	})
	store.Clusters.Put(txn, &model.Cluster{ID: cluster, Synced: true})
	store.Credentials.Put(txn, shopCredential(t))
	for _, doc := range []string{frontGateway, frontRoutes, connectionGateway, connectionRoutes, string(raw)} {
		obj, err := api.Decode([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if obj.Kind == api.KindGateway {
			row := compile.Gateway(cluster, obj)
			row.Selector = pod.Labels
			store.Gateways.Put(txn, row)
		} else {
			store.Virtuals.Put(txn, compile.VirtualService(cluster, obj, "cluster.local"))
		}
	}
	txn.Commit()

	src, err := resources.New(store, resources.Config{Cluster: cluster, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	view, _, err := src.View(ctx, node("router", pod))
	if err != nil {
		t.Fatal(err)
	}
	for typeURL, accept := range decoders {
		all, _, err := view.Resources(typeURL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, res := range all.All() {
			if err := valid(res.Body); err != nil {
				return true, fmt.Errorf("%s is not valid: %w", name, err)
			}
			if err := accept(res.Body); err != nil {
				return true, fmt.Errorf("the proxy refuses %s: %w", name, err)
			}
		}
	}
	return true, nil
}

// shopCredential is a Secret that Gateways may name, one for all draws.
var shopCredential = func() func(testing.TB) *model.Credential {
	var once sync.Once
	var row *model.Credential
	return func(t testing.TB) *model.Credential {
		once.Do(func() {
			row = credential(mtlstest.NewCA(t, "web"), "shop", time.Now().Add(time.Hour), "web.example.com")
		})
		return row
	}
}()

// drawGatewayObject is a Gateway or a VirtualService for one.
func drawGatewayObject(t testing.TB, seed uint64) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 11))
	doc := object{
		"kind": "Gateway", "metadata": object{"name": "g", "namespace": pick(r, "shop", "istio-system")},
		"spec": object{"selector": object{"istio": "ingressgateway"}, "servers": []object{drawServer(r)}},
	}
	if r.IntN(2) == 0 {
		spec := object{"hosts": []string{pick(r, "*", "*.example.com", "shop.example.com", text(r))}, "gateways": []string{"front"}, "http": []object{drawRoute(r)}}
		if r.IntN(2) == 0 {
			spec = drawVirtualService(r)
			spec["gateways"] = []string{"front", "connections"}
		}
		doc = object{"kind": "VirtualService", "metadata": object{"name": "v", "namespace": "shop"}, "spec": spec}
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestProxyAcceptsEveryGateway: whatever the webhook lets through, a gateway takes. What
// it refused would take all else of its port with it.
func TestProxyAcceptsEveryGateway(t *testing.T) {
	const draws = 1500
	taken := 0
	for seed := range uint64(draws) {
		raw := drawGatewayObject(t, seed)
		ok, err := refusesGateway(t, raw)
		if ok {
			taken++
		}
		if err != nil {
			t.Errorf("seed %d: %v\n%s", seed, err, raw)
		}
	}
	t.Logf("%d of %d documents are valid", taken, draws)
	if taken < draws/20 {
		t.Error("too few of them are valid to show anything")
	}
}

// FuzzGateway: the same, of documents that nobody thought of.
func FuzzGateway(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(drawGatewayObject(f, seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := refusesGateway(t, raw); err != nil {
			t.Errorf("%v\n%s", err, raw)
		}
	})
}
