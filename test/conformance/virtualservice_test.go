package conformance

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/resources"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// object is a part of a document.
type object = map[string]any

// text draws what may stand where a text is expected, some of it odd.
func text(r *rand.Rand) string {
	return pick(r, "web", "/", "/a", "a b", "", "*", "%", "%PREFIX()%/x", "$1", `\1`, `\`, "(", "(a|b)*", "^/x(.*)$", "ü", "a\nb", "x-y", "Host", ":authority",
		"GET", "https", "v1", "*.example.com", "web.shop.svc.cluster.local", "10.0.0.1", strings.Repeat("a", 1100))
}

func drawString(r *rand.Rand) object {
	return pick(r, object{}, object{"exact": text(r)}, object{"prefix": text(r)}, object{"regex": text(r)})
}

func drawFields(r *rand.Rand) object {
	out := object{}
	for range r.IntN(3) {
		out[pick(r, "x", "cookie", text(r))] = drawString(r)
	}
	return out
}

func drawCondition(r *rand.Rand) object {
	out := object{}
	for _, name := range []string{"uri", "scheme", "method", "authority"} {
		if r.IntN(3) == 0 {
			out[name] = drawString(r)
		}
	}
	for _, name := range []string{"headers", "withoutHeaders", "queryParams"} {
		if r.IntN(3) == 0 {
			out[name] = drawFields(r)
		}
	}
	if r.IntN(3) == 0 {
		out["ignoreUriCase"] = true
	}
	if r.IntN(4) == 0 {
		out["sourceLabels"] = object{pick(r, "app", "version", text(r)): pick(r, "client", "", text(r))}
	}
	return out
}

func drawEdits(r *rand.Rand) object {
	list := func() object {
		return object{
			"set": object{pick(r, "x", "Host", text(r)): pick(r, "y", text(r))}, "add": object{pick(r, "z", text(r)): "1"},
			"remove": []string{pick(r, "q", text(r))},
		}
	}
	return object{"request": list(), "response": list()}
}

func drawDestination(r *rand.Rand) object {
	to := object{"host": pick(r, "web", "web.shop.svc.cluster.local", text(r))}
	if r.IntN(3) == 0 {
		to["subset"] = pick(r, "v1", text(r))
	}
	if r.IntN(3) == 0 {
		to["port"] = object{"number": r.IntN(70000)}
	}
	out := object{"destination": to, "weight": pick(r, 0, 1, 2, 1<<31-1)}
	if r.IntN(4) == 0 {
		out["headers"] = drawEdits(r)
	}
	return out
}

func drawCORS(r *rand.Rand) object {
	return object{
		"allowOrigins": []object{drawString(r)}, "allowMethods": []string{pick(r, "GET", "*", text(r))},
		"allowHeaders": []string{pick(r, "x-a", "*", text(r))}, "exposeHeaders": []string{pick(r, "x-b", text(r))},
		"maxAge": pick(r, "0s", "24h", "1500ms"), "allowCredentials": pick(r, true, false),
		"unmatchedPreflights": pick(r, "UNSPECIFIED", "FORWARD", "IGNORE"),
	}
}

func drawFault(r *rand.Rand) object {
	percentage := func() object { return object{"value": pick(r, 0, 0.0001, 12.5, 100, 101)} }
	return object{
		"delay": object{"fixedDelay": pick(r, "1ms", "5s", "1h", "2h"), "percentage": percentage()},
		"abort": pick(r,
			object{"httpStatus": pick(r, 99, 200, 418, 599, 600), "percentage": percentage()},
			object{"grpcStatus": pick(r, "UNAVAILABLE", "OK", "14", text(r)), "percentage": percentage()}),
	}
}

// drawMirrors gives a route mirrors, in one of the ways to write them.
func drawMirrors(r *rand.Rand, route object) {
	percentage := object{"value": pick(r, 0, 0.0001, 12.5, 100, 101)}
	switch r.IntN(3) {
	case 0:
		route["mirror"], route["mirrorPercentage"] = drawDestination(r)["destination"], percentage
	case 1:
		route["mirror"], route["mirrorPercent"] = drawDestination(r)["destination"], pick(r, 0, 50, 100, 101)
	default:
		route["mirrors"] = []object{
			{"destination": drawDestination(r)["destination"]},
			{"destination": drawDestination(r)["destination"], "percentage": percentage},
		}
	}
}

func drawRoute(r *rand.Rand) object {
	out := object{"name": text(r)}
	for range r.IntN(3) {
		match, _ := out["match"].([]object)
		out["match"] = append(match, drawCondition(r))
	}
	switch r.IntN(5) {
	case 4:
		out["delegate"] = object{"name": pick(r, "part", "none", text(r)), "namespace": pick(r, "shop", "", text(r))}
	case 0:
		out["redirect"] = object{"uri": text(r), "authority": text(r), "scheme": pick(r, "", "https"), "redirectCode": pick(r, 0, 301, 302, 303, 307, 308)}
	case 1:
		out["directResponse"] = object{"status": 200 + r.IntN(400), "body": object{"string": strings.Repeat("x", r.IntN(9000))}}
	default:
		route := []object{drawDestination(r)}
		for range r.IntN(3) {
			route = append(route, drawDestination(r))
		}
		out["route"] = route
		if r.IntN(3) == 0 {
			out["fault"] = drawFault(r)
		}
		if r.IntN(3) == 0 {
			out["corsPolicy"] = drawCORS(r)
		}
		if r.IntN(3) == 0 {
			drawMirrors(r, out)
		}
		if r.IntN(3) == 0 {
			out["rewrite"] = pick(r, object{"uri": text(r)}, object{"authority": text(r)}, object{"uriRegexRewrite": object{"match": text(r), "rewrite": text(r)}})
		}
	}
	if r.IntN(4) == 0 {
		out["headers"] = drawEdits(r)
	}
	return out
}

// drawConnectionRoute draws a tls route, or a tcp route.
func drawConnectionRoute(r *rand.Rand, tls bool) object {
	out := object{}
	for range 1 + r.IntN(3) {
		m := object{"destinationSubnets": []string{pick(r, "10.0.0.0/8", "10.96.0.0/16", "203.0.113.5", "::/0", "0.0.0.0/0", text(r))}}
		if tls {
			m["sniHosts"] = []string{pick(r, "web", "tls.example", "*.tls.example", text(r)), pick(r, "a.tls.example", "*.a.tls.example")}
		}
		if r.IntN(2) == 0 {
			delete(m, "destinationSubnets")
		}
		if r.IntN(4) == 0 {
			m["port"] = pick(r, 443, 6000, r.IntN(70000))
		}
		match, _ := out["match"].([]object)
		out["match"] = append(match, m)
	}
	route := []object{drawDestination(r)}
	for range r.IntN(3) {
		route = append(route, drawDestination(r))
	}
	for _, d := range route {
		delete(d, "headers")
	}
	out["route"] = route
	return out
}

// drawVirtualService draws the spec of one.
func drawVirtualService(r *rand.Rand) object {
	switch r.IntN(3) {
	case 0:
		return object{
			"hosts": []string{"web", "tls.example", "*.tls.example"}, "tls": []object{drawConnectionRoute(r, true), drawConnectionRoute(r, true)},
		}
	case 1:
		return object{
			"hosts": []string{"web", "tcp.example", "range.example"}, "tcp": []object{drawConnectionRoute(r, false), drawConnectionRoute(r, false)},
		}
	}
	return object{"hosts": []string{pick(r, "web", "web", text(r))}, "http": []object{drawRoute(r)}}
}

// connectionHosts are hosts of every shape of listener: at an address, at any, and below a
// prefix; by name and by nothing.
func connectionHosts() []*model.Service {
	entry := func(host, address string, protocol model.Protocol, port uint16) *model.Service {
		out := &model.Service{
			Host: host, Cluster: cluster, Namespace: "shop", Name: strings.TrimPrefix(host, "*."), Origin: model.FromServiceEntry, Resolution: model.ByDNS,
			Ports:    []model.Port{{Name: "p", Number: port, Protocol: protocol, Target: port}},
			Resolved: []model.Endpoint{{Address: "x.example.org", Ports: map[string]uint16{"p": port}}},
		}
		if address != "" {
			out.Addresses = []netip.Prefix{netip.MustParsePrefix(address)}
		}
		return out
	}
	return []*model.Service{
		entry("tls.example", "", model.TLS, 443), entry("*.tls.example", "", model.TLS, 443), entry("http.example", "", model.HTTP, 443),
		entry("a.tls.example", "203.0.113.5/32", model.TLS, 443), entry("b.tls.example", "203.0.113.5/32", model.TLS, 443),
		entry("tcp.example", "", model.TCP, 6000), entry("range.example", "10.0.0.0/9", model.TCP, 6000),
	}
}

// refusesRoutes tells what is wrong with the routes that clients are sent by a valid
// VirtualService; nil for a document that is none.
func refusesRoutes(t testing.TB, raw []byte) (taken bool, err error) {
	t.Helper()
	obj, err := api.Decode(raw)
	if err != nil || obj.Kind != api.KindVirtualService {
		return false, nil
	}

	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	txn := store.Write()
	svc := &model.Service{
		Host: "web.shop.svc.cluster.local", Cluster: cluster, Namespace: "shop", Name: "web",
		Addresses: []netip.Prefix{netip.MustParsePrefix(webVIP + "/32")},
		Ports: []model.Port{
			{Name: "http", Number: 80, Protocol: model.HTTP}, {Name: "tls", Number: 443, Protocol: model.TLS},
			{Name: "tcp", Number: 6000, Protocol: model.TCP}, {Name: "any", Number: 7000},
		},
	}
	for _, svc := range append(connectionHosts(), svc) {
		store.Services.Put(txn, svc)
	}
	store.Virtuals.Put(txn, compile.VirtualService(cluster, obj, "cluster.local"))
	store.Clusters.Put(txn, &model.Cluster{ID: cluster, Synced: true})
	txn.Commit()

	src, err := resources.New(store, resources.Config{Cluster: cluster, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := node("sidecar", &model.Workload{Cluster: cluster, Namespace: "shop", Name: "client", Account: "default", Addresses: []string{"10.0.0.9"}})
	for _, n := range []serve.Node{client, takesHosts(client)} {
		view, _, err := src.View(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		if err := acceptsRoutesOf(t, view, xds.TypeRoute); err != nil {
			return true, err
		}
		if err := acceptsAll(t, view, xds.TypeListener, nil); err != nil {
			return true, err
		}
		if !n.Delta {
			continue
		}
		if err := acceptsRoutesOf(t, view, xds.TypeVirtualHost); err != nil {
			return true, err
		}
	}
	return true, nil
}

// acceptsRoutesOf gives the proxy's decoder what a view has for port 80.
func acceptsRoutesOf(t testing.TB, view serve.View, typeURL string) error {
	t.Helper()
	return acceptsAll(t, view, typeURL, []string{"80"})
}

// acceptsAll gives the proxy's decoder the resources of the names, or all.
func acceptsAll(t testing.TB, view serve.View, typeURL string, names []string) error {
	t.Helper()
	all, _, err := view.Resources(typeURL, names)
	if err != nil || all.Len() == 0 {
		t.Fatalf("%d %s: %v", all.Len(), xds.Short(typeURL), err)
	}
	for _, res := range all.All() {
		if err := valid(res.Body); err != nil {
			return err
		}
		if err := decoders[typeURL](res.Body); err != nil {
			return err
		}
	}
	return nil
}

// TestProxyAcceptsEveryVirtualService: whatever the webhook lets through, proxies
// take. One that they refused would take the routes of all hosts of a port with it.
func TestProxyAcceptsEveryVirtualService(t *testing.T) {
	const draws = 1500
	taken := 0
	for seed := range uint64(draws) {
		r := rand.New(rand.NewPCG(seed, 7))
		spec := drawVirtualService(r)
		raw, err := json.Marshal(object{
			"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
			"metadata": object{"name": "v", "namespace": "shop"}, "spec": spec,
		})
		if err != nil {
			t.Fatal(err)
		}

		ok, err := refusesRoutes(t, raw)
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

// FuzzVirtualService: the same, of documents that nobody thought of.
func FuzzVirtualService(f *testing.F) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		raw, err := json.Marshal(object{
			"kind": "VirtualService", "metadata": object{"name": "v", "namespace": "shop"},
			"spec": drawVirtualService(r),
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := refusesRoutes(t, raw); err != nil {
			t.Errorf("%v\n%s", err, raw)
		}
	})
}

// TestVirtualServiceRoutesRequests: from the object to the answer, through both
// sidecars.
func TestVirtualServiceRoutesRequests(t *testing.T) {
	p := newPair(t)
	const document = `{"kind": "VirtualService", "metadata": {"name": "web", "namespace": "client"}, "spec": {"hosts": ["web.shop.svc.cluster.local"], "http": [
		{"match": [{"headers": {"end-user": {"exact": "jason"}}}], "directResponse": {"status": 418, "body": {"string": "jason"}}},
		{"match": [{"uri": {"prefix": "/old"}, "queryParams": {"v": {"exact": "2"}}}], "redirect": {"uri": "/new", "redirectCode": 308}},
		{"match": [{"uri": {"prefix": "/api/"}}], "rewrite": {"uri": "/v1/", "authority": "inner.example"},
			"headers": {"request": {"set": {"x-version": "two"}}, "response": {"add": {"x-served-by": "web"}}},
			"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]},
		{"match": [{"method": {"exact": "GET"}, "withoutHeaders": {"x-no": {"exact": "route"}}}], "timeout": "10s", "route": [
			{"destination": {"host": "web.shop.svc.cluster.local"}, "weight": 100, "headers": {"request": {"set": {"x-version": "share"}}}},
			{"destination": {"host": "nobody.shop.svc.cluster.local"}, "weight": 0}]},
		{"match": [{"method": {"exact": "PUT"}}], "fault": {"abort": {"httpStatus": 555, "percentage": {"value": 100}}},
			"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]}]}}`
	obj, err := api.Decode([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	put(p, p.store.Virtuals, compile.VirtualService(cluster, obj, "cluster.local"))
	p.configure()

	const web = " HTTP/1.1\r\nHost: web.shop\r\n"
	for name, c := range map[string]struct {
		head   string
		status int
		// parts of the answer: a field of its head, and lines of its body.
		field, value string
		body         string
	}{
		"by a header field": {
			head: "GET /" + web + "End-User: jason\r\n", status: 418, body: "jason",
		},
		"a field that comes twice": {
			head: "GET /" + web + "End-User: jason\r\nEnd-User: root\r\n", status: 200, body: "web.shop\n",
		},
		"redirected": {
			head: "GET /old/x?v=2" + web, status: 308, field: "Location", value: "http://web.shop/new?v=2",
		},
		"rewritten": {
			head: "GET /api/list?all" + web, status: 200, field: "X-Served-By", value: "web", body: "\n/v1/list?all\ntwo\n",
		},
		"with another host": {
			head: "GET /api/" + web, status: 200, body: "inner.example\n",
		},
		"a share": {
			head: "GET /else" + web, status: 200, body: "\n/else\nshare\n",
		},
		"made to fail": {
			head: "PUT /else" + web, status: 555, body: "fault filter abort",
		},
		"nobody's": {
			head: "DELETE /else" + web, status: 404,
		},
		"with what it must not have": {
			head: "GET /else" + web + "X-No: route\r\n", status: 404,
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, header, body := p.ask(webVIP, 80, c.head)
			if status != c.status || !strings.Contains(body, c.body) || c.field != "" && header.Get(c.field) != c.value {
				t.Errorf("answered %d, %v, %q", status, header, body)
			}
		})
	}
}
