package resources

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// hashRule is a DestinationRule of web with a consistentHash, as a client of namespace
// client sees it.
func hashRule(policy string) string {
	return "kind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec: {host: web, " + policy + "}\n"
}

// TestConsistentHashClusters: a cluster says how a hash finds its endpoint.
func TestConsistentHashClusters(t *testing.T) {
	for name, c := range map[string]policyCase{
		"a ring":            {policy: `{loadBalancer: {consistentHash: {useSourceIp: true}}}`, want: `{"lb_policy": "RING_HASH", "ring_hash_lb_config": {}}`},
		"a ring of a size":  {policy: `{loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 64}}}}`, want: `{"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 64}}`},
		"by the old name":   {policy: `{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 64}}}`, want: `{"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 64}}`},
		"a table":           {policy: `{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}}`, want: `{"lb_policy": "MAGLEV", "maglev_lb_config": {}}`},
		"a table of a size": {policy: `{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 251}}}}`, want: `{"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}}`},
	} {
		t.Run(name, c.hold)
	}
}

// hashedBy is what routes hash, one after the other, as JSON.
func hashedBy(t *testing.T, routes []*routev3.Route) string {
	t.Helper()
	var out []string
	for _, r := range routes {
		for _, p := range r.GetRoute().GetHashPolicy() {
			js, err := protojson.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, strings.ReplaceAll(string(js), " ", ""))
		}
	}
	return strings.Join(out, " ")
}

// TestConsistentHashRoutes: routes say what is hashed, of each of their destinations.
func TestConsistentHashRoutes(t *testing.T) {
	const (
		header  = `{"header":{"headerName":"x-user"}}`
		address = `{"connectionProperties":{"sourceIp":true}}`
	)
	levels := hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}, subsets: [` +
		`{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}, ` +
		`{name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]`)
	to := func(subsets ...string) string {
		list := ""
		for _, s := range subsets {
			list += "{weight: 10, destination: {host: " + webHost + ", subset: " + s + "}}, "
		}
		return virtualService("web", "{hosts: ["+webHost+"], http: [{route: ["+list+"]}]}")
	}

	for name, c := range map[string]struct{ docs, want string }{
		"header":           {hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}`), header},
		"query":            {hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: user}}}`), `{"queryParameter":{"name":"user"}}`},
		"address":          {hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}`), address},
		"cookie":           {hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: id}}}}`), `{"cookie":{"name":"id"}}`},
		"a cookie, set":    {hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: id, path: /a, ttl: 9s, attributes: [{name: Secure}]}}}}`), `{"cookie":{"name":"id","ttl":"9s","path":"/a","attributes":[{"name":"Secure"}]}}`},
		"a session cookie": {hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: id, ttl: 0s}}}}`), `{"cookie":{"name":"id","ttl":"0s"}}`},
		"the port's own":   {hashRule(`trafficPolicy: {loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 80}, loadBalancer: {consistentHash: {useSourceIp: true}}}]}`), address},
		"not the port's":   {hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}, portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {maxConnections: 1}}}]}`), ""},
		"a subset's own":   {levels + to("v1"), address},
		"the rule's":       {levels + to("v2"), header},
		"not the subset's": {levels + to("v3"), ""},
		"a split":          {levels + to("v1", "v2"), address + " " + header},
		"a split, alike":   {hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}, subsets: [{name: v1}, {name: v2}]`) + to("v1", "v2"), header},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, c.docs)
			got := hashedBy(t, s.virtualHost("80", webHost).Routes)
			if got != c.want {
				t.Errorf("hashes %s, want %s", got, c.want)
			}
		})
	}
}

// TestConsistentHashComesAndGoes: routes follow the DestinationRule, with virtual hosts
// apart as within their route configuration, and stay as they were for all other hosts.
func TestConsistentHashComesAndGoes(t *testing.T) {
	s := newScene(t, "")
	before := s.virtualHost("80", webHost)
	with := newScene(t, hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}`))
	after := with.virtualHost("80", webHost)
	if len(after.Routes[0].GetRoute().HashPolicy) != 1 {
		t.Fatalf("got %s", protojson.Format(after))
	}
	after.Routes[0].GetRoute().HashPolicy = nil
	if !proto.Equal(before, after) {
		t.Errorf("more than the hash changed:\n%s\n%s", protojson.Format(before), protojson.Format(after))
	}

	sidecar := s.hostsApart("client")
	hashed := func() string {
		name := xds.VirtualHostName("80", webHost)
		v := &routev3.VirtualHost{}
		if err := s.resources(sidecar, xds.TypeVirtualHost, "80")[name].Body.UnmarshalTo(v); err != nil {
			t.Fatal(err)
		}
		return hashedBy(t, v.Routes)
	}
	for _, step := range []struct {
		policy string
		want   string
	}{
		{`{loadBalancer: {simple: RANDOM}}`, ""},
		{`{loadBalancer: {consistentHash: {httpHeaderName: a}}}`, `{"header":{"headerName":"a"}}`},
		{`{loadBalancer: {consistentHash: {httpHeaderName: b}}}`, `{"header":{"headerName":"b"}}`},
		{`{loadBalancer: {simple: RANDOM}}`, ""},
	} {
		s.addObject([]byte(hashRule("trafficPolicy: " + step.policy)))
		if got := hashed(); got != step.want {
			t.Errorf("%s: %s is hashed, want %s", step.policy, got, step.want)
		}
	}
}

// TestConsistentHashOfGateways: requests that a gateway routes are hashed by the rule that
// counts for it; what it passes on by its server name is not.
func TestConsistentHashOfGateways(t *testing.T) {
	s := newScene(t, hashRule(`trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}, subsets: [{name: v1}]`)+`---
kind: Gateway
metadata: {name: gw, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["shop.example"]}
  - {port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.local"]}
---
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec: {hosts: [shop.example], gateways: [istio-system/gw], http: [{route: [{destination: {host: web}}]}]}
`)
	rc := message[*routev3.RouteConfiguration](s, s.gateway, xds.TypeRoute, "http.80")
	if got := hashedBy(t, rc.VirtualHosts[0].Routes); got != `{"header":{"headerName":"x-user"}}` {
		t.Errorf("the gateway's routes hash %q", got)
	}
	if c := s.cluster(s.gateway, "outbound|80||"+webHost); c.LbPolicy != clusterv3.Cluster_RING_HASH {
		t.Errorf("the cluster of the routes is balanced by %v", c.LbPolicy)
	}
	if c := s.cluster(s.gateway, "outbound_.80_.v1_."+webHost); c.LbPolicy != clusterv3.Cluster_LEAST_REQUEST {
		t.Errorf("the cluster for server names is balanced by %v", c.LbPolicy)
	}
}

// TestConsistentHashOfTCP: connections are told apart by the client's address, and by
// nothing else.
func TestConsistentHashOfTCP(t *testing.T) {
	for key, want := range map[string]int{"useSourceIp: true": 1, "httpHeaderName: a": 0} {
		s := newScene(t, "kind: DestinationRule\nmetadata: {name: db, namespace: shop}\nspec: {host: db, trafficPolicy: {loadBalancer: {consistentHash: {"+key+"}}}}\n")
		insert(s.mesh, s.store.Services, service("shop", "db", "10.96.0.11", port("tcp", 5432, model.TCP, 5432)))
		l := message[*listenerv3.Listener](s, s.client, xds.TypeListener, "10.96.0.11_5432")
		proxy := &tcpv3.TcpProxy{}
		if err := l.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(proxy); err != nil {
			t.Fatal(err)
		}
		if len(proxy.HashPolicy) != want || want > 0 && proxy.HashPolicy[0].GetSourceIp() == nil {
			t.Errorf("%s: got %s", key, protojson.Format(proxy))
		}
	}
}
