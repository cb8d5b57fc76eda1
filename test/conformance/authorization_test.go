package conformance

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/resources"
)

// drawValues draws what may stand in a list of values, or nothing.
func drawValues(r *rand.Rand, likely ...string) []string {
	var out []string
	for range r.IntN(3) {
		out = append(out, pick(r, pick(r, likely...), pick(r, likely...), text(r), pick(r, "*", "a*", "*a", "*a*", "a*b")))
	}
	return out
}

func drawSource(r *rand.Rand) object {
	out := object{}
	for name, likely := range map[string][]string{
		"principals": {"cluster.local/ns/shop/sa/web", "td/ns/a/sa/b", "*/sa/web"}, "namespaces": {"shop", "team-*", "*-a"},
		"ipBlocks": {"10.0.0.0/8", "::1", "192.0.2.7"}, "remoteIpBlocks": {"10.0.0.0/8", "2001:db8::/32"},
		"requestPrincipals": {"issuer/subject", "*"}, "trustDomains": {"cluster.local", "td*"},
	} {
		if r.IntN(4) == 0 {
			out[name] = drawValues(r, likely...)
		}
		if r.IntN(6) == 0 {
			out["not"+strings.ToUpper(name[:1])+name[1:]] = drawValues(r, likely...)
		}
	}
	if r.IntN(6) == 0 {
		return object{"serviceAccounts": drawValues(r, "web", "shop/web"), "notServiceAccounts": drawValues(r, "shop/other")}
	}
	return out
}

func drawOperation(r *rand.Rand) object {
	out := object{}
	for name, likely := range map[string][]string{
		"hosts": {"web.shop", "*.example.com", "web.shop:8080", "[::1]:80", "example.*"}, "methods": {"GET", "POST", "P*"}, "ports": {"80", "8080", "0"},
		"paths": {"/", "/admin", "/api/*", "*.js", "/a/{*}/b", "/a/{**}", "/{**}/x", "/a/{**}/{*}", "/a{*}"},
	} {
		if r.IntN(3) == 0 {
			out[name] = drawValues(r, likely...)
		}
		if r.IntN(6) == 0 {
			out["not"+strings.ToUpper(name[:1])+name[1:]] = drawValues(r, likely...)
		}
	}
	return out
}

func drawWhen(r *rand.Rand) object {
	key := pick(r, "request.headers[x-role]", "request.headers["+text(r)+"]", "source.ip", "remote.ip", "source.namespace", "source.principal",
		"source.serviceAccount", "request.auth.claims[groups]", "request.auth.audiences", "destination.ip", "destination.port", "connection.sni", text(r))
	likely := pick(r, "80", "10.0.0.1", "web", "shop/web", "a*")
	return object{"key": key, "values": drawValues(r, likely), "notValues": drawValues(r, likely)}
}

func drawAuthorization(r *rand.Rand) object {
	rule := object{}
	for range r.IntN(3) {
		from, _ := rule["from"].([]object)
		rule["from"] = append(from, object{"source": drawSource(r)})
	}
	for range r.IntN(3) {
		to, _ := rule["to"].([]object)
		rule["to"] = append(to, object{"operation": drawOperation(r)})
	}
	for range r.IntN(3) {
		when, _ := rule["when"].([]object)
		rule["when"] = append(when, drawWhen(r))
	}
	out := object{"rules": []object{rule}, "action": pick(r, "ALLOW", "DENY", "ALLOW", "DENY", "AUDIT", "CUSTOM")}
	if r.IntN(3) == 0 {
		out["selector"] = object{"matchLabels": object{"app": "web"}}
	}
	return object{
		"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "spec": out,
		"metadata": object{"name": "p", "namespace": "shop", "annotations": object{"istio.io/dry-run": pick(r, "true", "false", "false")}},
	}
}

// refusesPolicy tells what is wrong with the listeners that the workload of a policy is
// sent; of a document that is not valid, those of what is carried out of it all the same.
func refusesPolicy(t testing.TB, raw []byte) (valid bool, err error) {
	t.Helper()
	obj, invalid := api.Decode(raw)
	if obj == nil || obj.Kind != api.KindAuthorizationPolicy || obj.Spec == nil {
		return false, nil
	}
	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	txn := store.Write()
	store.Services.Put(txn, &model.Service{
		Host: "web.shop.svc.cluster.local", Cluster: cluster, Namespace: "shop", Name: "web", Selector: map[string]string{"app": "web"},
		Ports: []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, Target: 8080}, {Name: "tcp", Number: 90, Protocol: model.TCP, Target: 9090}},
	})
	if row := compile.AuthorizationPolicy(cluster, obj); row != nil {
		store.Policies.Put(txn, row)
	}
	store.Clusters.Put(txn, &model.Cluster{ID: cluster, Synced: true})
	txn.Commit()

	src, err := resources.New(store, resources.Config{Cluster: cluster, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	view, _, err := src.View(ctx, node("sidecar", &model.Workload{
		Cluster: cluster, Namespace: "shop", Name: "web-1", Account: "web", Labels: map[string]string{"app": "web"}, Addresses: []string{"10.0.0.9"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := view.Resources(xds.TypeListener, []string{"virtualInbound"})
	if err != nil || all.Len() == 0 {
		t.Fatalf("%d listeners: %v", all.Len(), err)
	}
	for _, res := range all.All() {
		if err := acceptsListener(res.Body); err != nil {
			return true, err
		}
	}
	return invalid == nil, nil
}

func acceptsListener(body *anypb.Any) error {
	if err := valid(body); err != nil {
		return err
	}
	_, err := config.DecodeListener(body)
	return err
}

// TestProxyAcceptsEveryAuthorizationPolicy: whatever the webhook lets through, proxies
// take, and what is made of a document that it would have refused, too.
func TestProxyAcceptsEveryAuthorizationPolicy(t *testing.T) {
	const draws = 500
	taken := 0
	for seed := range uint64(draws) {
		raw, err := json.Marshal(drawAuthorization(rand.New(rand.NewPCG(seed, 11))))
		if err != nil {
			t.Fatal(err)
		}
		ok, err := refusesPolicy(t, raw)
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

// FuzzAuthorizationPolicy: the same, of documents that nobody thought of.
func FuzzAuthorizationPolicy(f *testing.F) {
	for seed := range uint64(200) {
		raw, err := json.Marshal(drawAuthorization(rand.New(rand.NewPCG(seed, 11))))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := refusesPolicy(t, raw); err != nil {
			t.Errorf("%v\n%s", err, raw)
		}
	})
}
