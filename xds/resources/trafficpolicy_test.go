package resources

import (
	"cmp"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// policyCase is a trafficPolicy, and what of the cluster it changes, in Envoy's
// words: its fields, and its options for HTTP.
type policyCase struct{ policy, want, http string }

// hold checks that a trafficPolicy changes the cluster of web's port as told and
// nothing else of it.
func (c policyCase) hold(t *testing.T) {
	t.Helper()
	const name = "outbound|80||" + webHost
	bare := newScene(t, "")
	want := bare.cluster(bare.client, name)
	changes := &clusterv3.Cluster{}
	if err := protojson.Unmarshal([]byte(cmp.Or(c.want, "{}")), changes); err != nil {
		t.Fatal(err)
	}
	if c.http != "" {
		options := &httpv3.HttpProtocolOptions{}
		if err := protojson.Unmarshal([]byte(c.http), options); err != nil {
			t.Fatal(err)
		}
		changes.TypedExtensionProtocolOptions = map[string]*anypb.Any{xds.HTTPOptions: pack(options)}
	}
	changes.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		want.ProtoReflect().Set(fd, v)
		return true
	})

	s := newScene(t, "kind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec: {host: web, trafficPolicy: "+c.policy+"}")
	if got := s.cluster(s.client, name); !proto.Equal(got, want) {
		t.Errorf("%s\ngot  %s\nwant %s", c.policy, protojson.Format(got), protojson.Format(want))
	}
}

// TestOutlierPolicies holds each field of outlierDetection to what Istio makes of
// it (OutlierDetection in its DestinationRule).
func TestOutlierPolicies(t *testing.T) {
	const never = `, "common_lb_config": {"healthy_panic_threshold": {}}`
	for name, c := range map[string]policyCase{
		"answers": {
			policy: `{outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 0}}`,
			want: `{"outlier_detection": {"consecutive_5xx": 7, "enforcing_consecutive_5xx": 100,
				"enforcing_consecutive_gateway_failure": 0, "enforcing_success_rate": 0}` + never + `}`,
		},
		"answers, by the old name": {
			policy: `{outlierDetection: {consecutiveErrors: 7}}`,
			want: `{"outlier_detection": {"consecutive_gateway_failure": 7, "enforcing_consecutive_gateway_failure": 100,
				"enforcing_consecutive_5xx": 0, "enforcing_success_rate": 0}` + never + `}`,
		},
		"the new name stands above the old one": {
			policy: `{outlierDetection: {consecutiveErrors: 7, consecutiveGatewayErrors: 3}}`,
			want: `{"outlier_detection": {"consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100,
				"enforcing_success_rate": 0}` + never + `}`,
		},
		"local failures by themselves": {
			policy: `{outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2}}`,
			want: `{"outlier_detection": {"split_external_local_origin_errors": true, "consecutive_local_origin_failure": 2,
				"enforcing_consecutive_local_origin_failure": 100, "enforcing_local_origin_success_rate": 0,
				"enforcing_success_rate": 0}` + never + `}`,
		},
		"local failures left to the default": {
			policy: `{outlierDetection: {splitExternalLocalOriginErrors: true}}`,
			want: `{"outlier_detection": {"split_external_local_origin_errors": true, "enforcing_local_origin_success_rate": 0,
				"enforcing_success_rate": 0}` + never + `}`,
		},
		"times and shares": {
			policy: `{outlierDetection: {interval: 500ms, baseEjectionTime: 1m30s, maxEjectionPercent: 100, minHealthPercent: 30}}`,
			want: `{"outlier_detection": {"interval": "0.5s", "base_ejection_time": "90s", "max_ejection_percent": 100,
				"enforcing_success_rate": 0}, "common_lb_config": {"healthy_panic_threshold": {"value": 30}}}`,
		},
	} {
		t.Run(name, c.hold)
	}
}

// TestConnectionPools holds each field of connectionPool, and retryBudget, to what
// Istio makes of it.
func TestConnectionPools(t *testing.T) {
	const (
		most     = "4294967295"
		caller   = `"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}`
		breakers = `{"circuit_breakers": {"thresholds": [{"track_remaining": true, `
	)
	for name, c := range map[string]policyCase{
		"connections": {
			policy: `{connectionPool: {tcp: {maxConnections: 10}}}`,
			want:   breakers + `"max_connections": 10, "max_pending_requests": ` + most + `, "max_requests": ` + most + `}]}}`,
		},
		"requests": {
			policy: `{connectionPool: {http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRetries: 3}}}`,
			want:   breakers + `"max_connections": ` + most + `, "max_pending_requests": 1, "max_requests": 2, "max_retries": 3}]}}`,
		},
		"a budget of retries": {
			policy: `{retryBudget: {percent: 12.5, minRetryConcurrency: 7}}`,
			want: breakers + `"max_connections": ` + most + `, "max_pending_requests": ` + most + `, "max_requests": ` + most + `,
				"retry_budget": {"budget_percent": {"value": 12.5}, "min_retry_concurrency": 7}}]}}`,
		},
		"no retries but a few": {
			policy: `{retryBudget: {percent: 0}}`,
			want: breakers + `"max_connections": ` + most + `, "max_pending_requests": ` + most + `, "max_requests": ` + most + `,
				"retry_budget": {"budget_percent": {}}}]}}`,
		},
		"time to connect": {
			policy: `{connectionPool: {tcp: {connectTimeout: 30ms}}}`,
			want:   `{"connect_timeout": "0.03s"}`,
		},
		"keepalive": {
			policy: `{connectionPool: {tcp: {tcpKeepalive: {probes: 3, time: 60s, interval: 5s}}}}`,
			want:   `{"upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 60, "keepalive_interval": 5}}}`,
		},
		"keepalive in part": {
			policy: `{connectionPool: {tcp: {tcpKeepalive: {time: 60s}}}}`,
			want:   `{"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 60}}}`,
		},
		"life of connections": {
			policy: `{connectionPool: {tcp: {maxConnectionDuration: 90s, idleTimeout: 7s}, http: {maxRequestsPerConnection: 4}}}`,
			http:   `{"common_http_protocol_options": {"max_connection_duration": "90s", "idle_timeout": "7s", "max_requests_per_connection": 4}, ` + caller + `}`,
		},
		"idle time of HTTP before that of TCP": {
			policy: `{connectionPool: {tcp: {idleTimeout: 7s}, http: {idleTimeout: 5s}}}`,
			http:   `{"common_http_protocol_options": {"idle_timeout": "5s"}, ` + caller + `}`,
		},
		"HTTP/2": {
			policy: `{connectionPool: {http: {maxConcurrentStreams: 8, http2KeepAlive: {interval: 10s, timeout: 2s}}}}`,
			http: `{"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options":
				{"max_concurrent_streams": 8, "connection_keepalive": {"interval": "10s", "timeout": "2s"}}}}`,
		},
		"what holds anyway": {
			policy: `{connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: DO_NOT_UPGRADE}}}`,
		},
	} {
		t.Run(name, c.hold)
	}
}

// TestWarmups holds loadBalancer to what Envoy calls slow start.
func TestWarmups(t *testing.T) {
	for name, c := range map[string]policyCase{
		"least request": {
			policy: `{loadBalancer: {warmup: {duration: 60s, minimumPercent: 5, aggression: 2}}}`,
			want: `{"least_request_lb_config": {"slow_start_config": {"slow_start_window": "60s",
				"min_weight_percent": {"value": 5}, "aggression": {"default_value": 2, "runtime_key": "isthmus.warmup.aggression"}}}}`,
		},
		"by the old name": {
			policy: `{loadBalancer: {warmupDurationSecs: 45s}}`,
			want:   `{"least_request_lb_config": {"slow_start_config": {"slow_start_window": "45s"}}}`,
		},
	} {
		t.Run(name, c.hold)
	}
}

// TestPolicyLevels: settings of a port take the place of those of the host, but for
// the budget of retries, which ports cannot have; those of a subset stand above them
// field by field, and loadBalancer is one field.
func TestPolicyLevels(t *testing.T) {
	s := newScene(t, `
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: web
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 9s}}
    connectionPool: {tcp: {maxConnections: 5, connectTimeout: 2s}}
    retryBudget: {percent: 1}
    portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {connectTimeout: 3s}}}]
  subsets:
  - {name: plain, labels: {version: v1}}
  - {name: own, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}, retryBudget: {percent: 2}}}
  - {name: ports, labels: {version: v1}, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}}
`)
	insert(s.mesh, s.store.Services, service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080), port("http-b", 81, model.HTTP, 8081)))
	s.client = s.view(node("sidecar", "client", "c-1", nil))
	for name, want := range map[string]struct {
		lb          clusterv3.Cluster_LbPolicy
		warmup      time.Duration
		connect     time.Duration
		connections uint32
		budget      float64
	}{
		"outbound|80||" + webHost:      {clusterv3.Cluster_ROUND_ROBIN, 9 * time.Second, 2 * time.Second, 5, 1},
		"outbound|81||" + webHost:      {clusterv3.Cluster_LEAST_REQUEST, 0, 3 * time.Second, 1<<32 - 1, 1},
		"outbound|80|plain|" + webHost: {clusterv3.Cluster_ROUND_ROBIN, 9 * time.Second, 2 * time.Second, 5, 1},
		"outbound|80|own|" + webHost:   {clusterv3.Cluster_LEAST_REQUEST, 0, 2 * time.Second, 5, 2},
		"outbound|80|ports|" + webHost: {clusterv3.Cluster_RANDOM, 0, nearConnectTimeout, 1<<32 - 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.cluster(s.client, name)
			limits := c.GetCircuitBreakers().GetThresholds()[0]
			warmup := cmp.Or(c.GetRoundRobinLbConfig().GetSlowStartConfig(), c.GetLeastRequestLbConfig().GetSlowStartConfig()).GetSlowStartWindow()
			if c.LbPolicy != want.lb || warmup.AsDuration() != want.warmup || c.ConnectTimeout.AsDuration() != want.connect ||
				limits.GetMaxConnections().GetValue() != want.connections || limits.GetRetryBudget().GetBudgetPercent().GetValue() != want.budget {
				t.Errorf("got %s", protojson.Format(c))
			}
		})
	}
}

// TestPeakEWMA: the annotation holds for all that a rule covers, and a stock Envoy
// is asked for least request.
func TestPeakEWMA(t *testing.T) {
	s := newScene(t, `
kind: DestinationRule
metadata: {name: web, namespace: shop, annotations: {isthmus.io/load-balancer: peak-ewma}}
spec:
  host: web
  trafficPolicy:
    loadBalancer: {warmup: {duration: 9s}}
    portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {connectTimeout: 3s}}}]
  subsets: [{name: plain, labels: {version: v1}}]
`)
	insert(s.mesh, s.store.Services, service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080), port("http-b", 81, model.HTTP, 8081)))
	s.client = s.view(node("sidecar", "client", "c-1", nil))
	for name, warmup := range map[string]bool{
		"outbound|80||" + webHost:      true,
		"outbound|80|plain|" + webHost: true,
		"outbound|81||" + webHost:      false,
	} {
		c := s.cluster(s.client, name)
		asked := c.GetMetadata().GetFilterMetadata()["isthmus"].GetFields()["peak_ewma"].GetBoolValue()
		if !asked || c.LbPolicy != clusterv3.Cluster_LEAST_REQUEST || (c.LbConfig != nil) != warmup {
			t.Errorf("%s: got %s", name, protojson.Format(c))
		}
	}
}

// TestConnectTimeouts: what nobody sets depends on where endpoints are, and on
// whether there is another one to ask.
func TestConnectTimeouts(t *testing.T) {
	entry := func(name, rest string) string {
		return "kind: ServiceEntry\nmetadata: {name: " + name + ", namespace: shop}\nspec: {hosts: [" + name + ".example], ports: [{number: 80, name: http}], " + rest + "}\n---\n"
	}
	const one = `endpoints: [{address: 10.9.0.1}]`
	s := newScene(t, entry("inside", "location: MESH_INTERNAL, resolution: STATIC, "+one)+
		entry("named", "location: MESH_INTERNAL, resolution: DNS, endpoints: [{address: gw.example}]")+
		entry("outside", "resolution: STATIC, "+one)+
		entry("world", "resolution: DNS, endpoints: [{address: www.example}]")+
		entry("any", "location: MESH_INTERNAL, resolution: NONE"))
	check := func(mesh string, want map[string]time.Duration) {
		t.Helper()
		mc, told, err := api.LoadMeshConfig(mesh)
		if err != nil || len(told) > 0 {
			t.Fatal(told, err)
		}
		insert(s.mesh, s.store.Meshes, compile.Mesh(testCluster, mc))
		client := s.view(node("sidecar", "client", "c-1", nil))
		for name, d := range want {
			if got := s.cluster(client, name).GetConnectTimeout().AsDuration(); got != d {
				t.Errorf("%s: %s has %s to connect, want %s", mesh, name, got, d)
			}
		}
	}
	check("{}", map[string]time.Duration{
		"outbound|80||" + webHost:      nearConnectTimeout,
		"outbound|80||inside.example":  nearConnectTimeout,
		"outbound|80||named.example":   nearConnectTimeout,
		"outbound|80||outside.example": farConnectTimeout,
		"outbound|80||world.example":   farConnectTimeout,
		"outbound|80||any.example":     farConnectTimeout,
		passthroughCluster:             farConnectTimeout,
	})
	check("connectTimeout: 3s", map[string]time.Duration{
		"outbound|80||" + webHost:    3 * time.Second,
		"outbound|80||world.example": 3 * time.Second,
		passthroughCluster:           3 * time.Second,
	})
}

// TestMeshKeepalive: that of the mesh holds where a rule has none.
func TestMeshKeepalive(t *testing.T) {
	s := newScene(t, "kind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec: {host: web, subsets: [{name: own, trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {probes: 2}}}}}]}")
	mc, told, err := api.LoadMeshConfig("tcpKeepalive: {time: 60s}")
	if err != nil || len(told) > 0 {
		t.Fatal(told, err)
	}
	insert(s.mesh, s.store.Meshes, compile.Mesh(testCluster, mc))
	client := s.view(node("sidecar", "client", "c-1", nil))
	k := s.cluster(client, "outbound|80||"+webHost).GetUpstreamConnectionOptions().GetTcpKeepalive()
	if k.GetKeepaliveTime().GetValue() != 60 || k.GetKeepaliveProbes() != nil {
		t.Errorf("of the mesh: %v", k)
	}
	k = s.cluster(client, "outbound|80|own|"+webHost).GetUpstreamConnectionOptions().GetTcpKeepalive()
	if k.GetKeepaliveTime() != nil || k.GetKeepaliveProbes().GetValue() != 2 {
		t.Errorf("of the rule: %v", k)
	}
}

// TestRetries: what MeshConfig says of retries stands on every route of the mesh.
func TestRetries(t *testing.T) {
	for mesh, want := range map[string]string{
		`{}`:                                    `{"retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2}`,
		`defaultHttpRetryPolicy: {attempts: 0}`: `{"num_retries": 0}`,
		`defaultHttpRetryPolicy: {attempts: 5}`: `{"retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 5}`,
		`defaultHttpRetryPolicy: {attempts: 1, retryOn: "reset, 503,429", perTryTimeout: 2s, backoff: 40ms}`: `{"retry_on": "reset,retriable-status-codes",
			"num_retries": 1, "retriable_status_codes": [503, 429], "per_try_timeout": "2s", "retry_back_off": {"base_interval": "0.04s"}}`,
		`defaultHttpRetryPolicy: {attempts: 1, retryOn: gateway-error, retryRemoteLocalities: true, retryIgnorePreviousHosts: true}`: `{"retry_on": "gateway-error", "num_retries": 1,
			"retry_priority": {"name": "envoy.retry_priorities.previous_priorities", "typed_config":
				{"@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", "update_frequency": 2}},
			"retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config":
				{"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}],
			"host_selection_retry_max_attempts": 5}`,
	} {
		t.Run(mesh, func(t *testing.T) {
			s := newScene(t, "")
			mc, told, err := api.LoadMeshConfig(mesh)
			if err != nil || len(told) > 0 {
				t.Fatal(told, err)
			}
			insert(s.mesh, s.store.Meshes, compile.Mesh(testCluster, mc))
			client := s.view(node("sidecar", "client", "c-1", nil))
			rc := message[*routev3.RouteConfiguration](s, client, xds.TypeRoute, "80")
			expected := &routev3.RetryPolicy{}
			if err := protojson.Unmarshal([]byte(want), expected); err != nil {
				t.Fatal(err)
			}
			if got := rc.VirtualHosts[0].Routes[0].GetRoute().GetRetryPolicy(); !proto.Equal(got, expected) {
				t.Errorf("got %s, want %s", protojson.Format(got), protojson.Format(expected))
			}
		})
	}
}

// TestTimesOfTCP: connections to a port of TCP are silent, and last, for as long as the rule
// of the client's namespace says, on listeners of every kind, and an edit of the rule
// reaches them.
func TestTimesOfTCP(t *testing.T) {
	s := newScene(t, `
kind: ServiceEntry
metadata: {name: range, namespace: shop}
spec: {hosts: [range.example], addresses: [10.20.0.0/16], ports: [{number: 5432, name: tcp}]}
---
kind: ServiceEntry
metadata: {name: a, namespace: shop}
spec: {hosts: [a.example], addresses: [240.0.0.9], ports: [{number: 443, name: tls, protocol: TLS}]}
---
kind: ServiceEntry
metadata: {name: b, namespace: shop}
spec: {hosts: [b.example], addresses: [240.0.0.9], ports: [{number: 443, name: tls, protocol: TLS}]}
---
kind: ServiceEntry
metadata: {name: named, namespace: shop}
spec: {hosts: [named.example], ports: [{number: 8443, name: tls, protocol: TLS}]}
`)
	insert(s.mesh, s.store.Services, service("shop", "db", "10.96.0.20", port("tcp", 6000, model.TCP, 6000)))
	rule := func(spec string) {
		s.addObject([]byte("kind: DestinationRule\nmetadata: {name: all, namespace: client}\nspec: {host: '*', trafficPolicy: " + spec + "}"))
	}
	idle := true // else the greatest age is looked at
	check := func(view string, want map[string]*time.Duration) {
		t.Helper()
		client := s.view(node("sidecar", view, "c-1", nil))
		for name, d := range want {
			l := message[*listenerv3.Listener](s, client, xds.TypeListener, name)
			got := timesOfTCP(t, l, idle)["outbound"]
			if len(got) == 0 {
				t.Errorf("%s: no way out", name)
			}
			for _, g := range got {
				if (g == nil) != (d == nil) || g != nil && *g != *d {
					t.Errorf("%s, listener %s: times %v, want %v", view, name, got, d)
				}
			}
		}
	}
	all := func(d *time.Duration) map[string]*time.Duration {
		return map[string]*time.Duration{"10.96.0.20_6000": d, "0.0.0.0_5432": d, "240.0.0.9_443": d, "0.0.0.0_8443": d}
	}

	five, never := 5*time.Second, time.Duration(0)
	check("client", all(nil))
	rule("{connectionPool: {tcp: {idleTimeout: 5s}}}")
	check("client", all(&five))
	check("other", all(nil))
	rule("{connectionPool: {tcp: {idleTimeout: 0s}}}")
	check("client", all(&never))
	rule("{connectionPool: {tcp: {maxConnectionDuration: 5s}}}")
	check("client", all(nil))
	idle = false
	check("client", all(&five))
	check("other", all(nil))
	rule("{connectionPool: {tcp: {maxConnections: 1}}}")
	check("client", all(nil))

	// None of the edits stays in memory.
	for _, h := range s.source.hosts[hostsOf{s.source, testCluster}].value.list {
		for q := range h.listeners {
			if q.rule != nil {
				t.Errorf("%s keeps a listener of a rule that is gone", h.name)
			}
		}
	}
}

// timesOfTCP are the idle times, or else the greatest ages, of a listener's ways out, by
// whether they lead to a host of the mesh.
func timesOfTCP(t *testing.T, l *listenerv3.Listener, idle bool) map[string][]*time.Duration {
	t.Helper()
	out := map[string][]*time.Duration{}
	for _, c := range append(l.FilterChains, l.DefaultFilterChain) {
		for _, f := range c.GetFilters() {
			p := &tcpv3.TcpProxy{}
			if f.GetTypedConfig().UnmarshalTo(p) != nil {
				continue
			}
			kind, _, _ := strings.Cut(p.GetCluster(), "|")
			given := p.MaxDownstreamConnectionDuration
			if idle {
				given = p.IdleTimeout
			}
			var after *time.Duration
			if given != nil {
				d := given.AsDuration()
				after = &d
			}
			out[kind] = append(out[kind], after)
		}
	}
	return out
}
