package config

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// pack reads JSON as Envoy writes it.
func pack(t testing.TB, m proto.Message, js string) *anypb.Any {
	t.Helper()
	if err := protojson.Unmarshal([]byte(js), m); err != nil {
		t.Fatalf("%v in %s", err, js)
	}
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const (
	tcpTo = `{"name":"envoy.filters.network.tcp_proxy","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","stat_prefix":"x","cluster":"CLUSTER"}}`
	hcm   = `{"name":"hcm","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix":"x","rds":{"route_config_name":"80","config_source":{"ads":{},"resource_api_version":"V3"}},
		"server_name":"istio-envoy","use_remote_address":false,"forward_client_cert_details":"SANITIZE_SET",
		"set_current_client_cert_details":{"subject":true,"uri":true},
		"upgrade_configs":[{"upgrade_type":"WebSocket"}],"stream_idle_timeout":"0s",
		"http_filters":[{"name":"router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
		}}`
	mesh = `"common_tls_context":{"alpn_protocols":["istio-peer-exchange","istio"],
		"tls_params":{"tls_minimum_protocol_version":"TLSv1_3","tls_maximum_protocol_version":"TLSv1_3"},
		"tls_certificate_sds_secret_configs":[{"name":"default","sds_config":{"ads":{}}}],
		"combined_validation_context":{"default_validation_context":{"match_typed_subject_alt_names":[{"san_type":"URI","matcher":{"prefix":"spiffe://cluster.local/"}}]},
		"validation_context_sds_secret_config":{"name":"ROOTCA","sds_config":{"ads":{}}}}}`
	serverSocket = `{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","require_client_certificate":true,` + mesh + `}}`
	clientSocket = `{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext","sni":"outbound_.80_._.a","max_session_keys":5,` + mesh + `}}`
	rawSocket    = `{"name":"raw","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}`
)

// virtualInbound is a listener as discovery sends it to a sidecar.
func virtualInbound() string {
	return `{"name":"virtualInbound","address":{"socket_address":{"address":"0.0.0.0","port_value":15006}},
	"traffic_direction":"INBOUND","use_original_dst":true,"listener_filters_timeout":"0.1s","continue_on_listener_filters_timeout":true,
	"listener_filters":[
	 {"name":"a","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"}},
	 {"name":"b","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}},
	 {"name":"c","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"}}],
	"filter_chains":[
	 {"name":"mtls","filter_chain_match":{"destination_port":80,"transport_protocol":"tls","application_protocols":["istio"],"prefix_ranges":[{"address_prefix":"10.0.0.1","prefix_len":8}],"server_names":["*.Example.com"]},
	  "transport_socket":` + serverSocket + `,"filters":[` + hcm + `]},
	 {"name":"plain","filter_chain_match":{"transport_protocol":"raw_buffer"},"filters":[` + tcpTo + `]}],
	"default_filter_chain":{"filters":[{"name":"envoy.filters.network.sni_cluster","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.sni_cluster.v3.SniCluster"}},` + tcpTo + `]}}`
}

func TestDecodeListener(t *testing.T) {
	l, err := DecodeListener(pack(t, &listenerv3.Listener{}, virtualInbound()))
	if err != nil {
		t.Fatal(err)
	}
	if l.Name != "virtualInbound" || l.Address != netip.MustParseAddrPort("0.0.0.0:15006") || !l.Bind ||
		l.Direction != DirectionInbound || !l.UseOriginalDst || !l.RestoreDst || !l.InspectTLS || !l.InspectHTTP ||
		l.InspectTimeout != 100*time.Millisecond || !l.ContinueOnTimeout || len(l.Chains) != 2 || l.Version == "" {
		t.Errorf("got %+v", l)
	}
	c := l.Chains[0]
	wantMatch := ChainMatch{
		DestinationPort: 80, TransportProtocol: "tls", ApplicationProtocols: []string{"istio"},
		PrefixRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ServerNames: []string{"*.example.com"},
	}
	if !reflect.DeepEqual(c.Match, wantMatch) {
		t.Errorf("match: got %+v, want %+v", c.Match, wantMatch)
	}
	if c.TLS == nil || !c.TLS.RequireClientCert || c.TLS.Cert != CertMesh || c.TLS.Roots.Source != CertMesh ||
		len(c.TLS.SANs) != 1 || c.TLS.SANs[0].Type != SANURI || !c.TLS.SANs[0].Match.Match("spiffe://cluster.local/ns/a/sa/b") ||
		c.TLS.SANs[0].Match.Match("spiffe://elsewhere/ns/a/sa/b") || c.TLS.Params.MinVersion != 0x304 {
		t.Errorf("TLS: got %+v", c.TLS)
	}
	h := c.HTTP
	if h == nil || h.RouteName != "80" || h.ServerName != "istio-envoy" || h.ForwardClientCert != ForwardClientCertSanitizeSet ||
		!h.ClientCertDetails.URI || !h.GenerateRequestID || !reflect.DeepEqual(h.Upgrades, []string{"websocket"}) || h.StreamIdleTimeout != 0 {
		t.Errorf("HTTP: got %+v", h)
	}
	if l.Chains[1].TCP == nil || l.Chains[1].TCP.Cluster != "CLUSTER" || l.Chains[1].TCP.IdleTimeout != time.Hour {
		t.Errorf("TCP: got %+v", l.Chains[1].TCP)
	}
	if l.Default == nil || !l.Default.TCP.SNICluster {
		t.Errorf("default chain: got %+v", l.Default)
	}
	if got := l.RouteNames(); !reflect.DeepEqual(got, []string{"80"}) {
		t.Errorf("routes: got %v", got)
	}
}

// TestChainVersions: a change of content changes the version of that chain
// alone, and Access only when who may connect changes.
func TestChainVersions(t *testing.T) {
	decode := func(js string) *Listener {
		l, err := DecodeListener(pack(t, &listenerv3.Listener{}, js))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a := decode(virtualInbound())
	b := decode(strings.ReplaceAll(virtualInbound(), `"server_name":"istio-envoy"`, `"server_name":"other"`))
	c := decode(strings.ReplaceAll(virtualInbound(), "spiffe://cluster.local/", "spiffe://elsewhere/"))
	d := decode(strings.ReplaceAll(virtualInbound(), `"alpn_protocols":["istio-peer-exchange","istio"]`, `"alpn_protocols":["istio"]`))
	if a.Version == b.Version || a.Chains[0].Version == b.Chains[0].Version || a.Chains[1].Version != b.Chains[1].Version {
		t.Error("versions do not follow the content")
	}
	if a.Chains[0].Access != b.Chains[0].Access || a.Chains[0].Access == c.Chains[0].Access {
		t.Error("access does not follow who may connect")
	}
	if a.Chains[0].Version == d.Chains[0].Version || a.Chains[0].Access != d.Chains[0].Access {
		t.Error("access follows the protocols that are offered")
	}
}

// refusal is a change of a good resource that makes it bad, and the field
// that the error has to name.
type refusal struct{ from, to, field string }

func testRefusals(t *testing.T, good string, decode func(string) error, cases map[string]refusal) {
	t.Helper()
	if err := decode(good); err != nil {
		t.Fatal(err)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, c.from, c.to, 1)
			if bad == good {
				t.Fatalf("%q is not in the resource", c.from)
			}
			err := decode(bad)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("taken: %v", err)
			}
			if e.Name == "" || !strings.HasPrefix(e.Field, c.field) {
				t.Errorf("the error is %q, want one of field %s", err, c.field)
			}
		})
	}
}

func TestListenerRefused(t *testing.T) {
	decode := func(js string) error {
		_, err := DecodeListener(pack(t, &listenerv3.Listener{}, js))
		return err
	}
	testRefusals(t, virtualInbound(), decode, map[string]refusal{
		"source range": {
			from:  `"destination_port":80`,
			to:    `"destination_port":80,"source_prefix_ranges":[{"address_prefix":"10.0.0.0","prefix_len":8}]`,
			field: "filter_chains[0].filter_chain_match.source_prefix_ranges",
		},
		"source type": {
			from:  `"destination_port":80`,
			to:    `"destination_port":80,"source_type":"EXTERNAL"`,
			field: "filter_chains[0].filter_chain_match.source_type",
		},
		"bad port": {
			from:  `"destination_port":80`,
			to:    `"destination_port":99999`,
			field: "filter_chains[0].filter_chain_match.destination_port",
		},
		"bad name": {
			from:  `*.Example.com`,
			to:    `a*.example.com`,
			field: "filter_chains[0].filter_chain_match.server_names[0]",
		},
		"bad prefix": {
			from:  `"prefix_len":8`,
			to:    `"prefix_len":99`,
			field: "filter_chains[0].filter_chain_match.prefix_ranges[0].prefix_len",
		},
		"same match twice": {
			from:  `"filter_chain_match":{"transport_protocol":"raw_buffer"}`,
			to:    `"filter_chain_match":{"destination_port":80,"transport_protocol":"tls","application_protocols":["istio"],"prefix_ranges":[{"address_prefix":"10.9.9.9","prefix_len":8}],"server_names":["*.example.com"]}`,
			field: "filter_chains[1].filter_chain_match",
		},
		"UDP": {
			from:  `"address":"0.0.0.0"`,
			to:    `"protocol":"UDP","address":"0.0.0.0"`,
			field: "address.socket_address.protocol",
		},
		"host name": {
			from:  `"address":"0.0.0.0"`,
			to:    `"address":"localhost"`,
			field: "address.socket_address.address",
		},
		"unknown filter": {
			from:  `"name":"plain"`,
			to:    `"name":"plain","use_proxy_proto":true`,
			field: "filter_chains[1].use_proxy_proto",
		},
		"no roots": {
			from:  `"validation_context_sds_secret_config":{"name":"ROOTCA","sds_config":{"ads":{}}}`,
			to:    `"validation_context_sds_secret_config":{"name":"file-root","sds_config":{"ads":{}}}`,
			field: "filter_chains[0].transport_socket.typed_config.common_tls_context.combined_validation_context.validation_context_sds_secret_config.name",
		},
		"other certificate": {
			from:  `{"name":"default","sds_config"`,
			to:    `{"name":"file-root:secret","sds_config"`,
			field: "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificate_sds_secret_configs[0].name",
		},
		"CRL": {
			from:  `"default_validation_context":{`,
			to:    `"default_validation_context":{"crl":{"inline_string":"x"},`,
			field: "filter_chains[0].transport_socket.typed_config.common_tls_context.combined_validation_context.default_validation_context.crl",
		},
		"pinned hash": {
			from:  `"default_validation_context":{`,
			to:    `"default_validation_context":{"verify_certificate_hash":["x"],`,
			field: "filter_chains[0].transport_socket.typed_config.common_tls_context.combined_validation_context.default_validation_context.verify_certificate_hash",
		},
		"accept untrusted": {
			from:  `"default_validation_context":{`,
			to:    `"default_validation_context":{"trust_chain_verification":"ACCEPT_UNTRUSTED",`,
			field: "filter_chains[0].transport_socket.typed_config.common_tls_context.combined_validation_context.default_validation_context.trust_chain_verification",
		},
		"match everything": {
			from:  `{"prefix":"spiffe://cluster.local/"}`,
			to:    `{"contains":""}`,
			field: "filter_chains[0].transport_socket.typed_config.common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names[0].matcher",
		},
		"RBAC": {
			from:  `"http_filters":[`,
			to:    `"http_filters":[{"name":"rbac","typed_config":{"@type":"type.googleapis.com/google.protobuf.Empty"}},`,
			field: "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config",
		},
		"fault for all routes": {
			from:  `"http_filters":[`,
			to:    `"http_filters":[{"name":"fault","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault","abort":{}}},`,
			field: "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.abort",
		},
		"no router": {
			from:  `{"name":"router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}`,
			to:    ``,
			field: "filter_chains[0].filters[0].typed_config.http_filters",
		},
		"scoped routes": {
			from:  `"rds":{"route_config_name":"80","config_source":{"ads":{},"resource_api_version":"V3"}}`,
			to:    `"scoped_routes":{"name":"x"}`,
			field: "filter_chains[0].filters[0].typed_config.scoped_routes",
		},
		"routes from a file": {
			from:  `"config_source":{"ads":{},`,
			to:    `"config_source":{"path":"/x",`,
			field: "filter_chains[0].filters[0].typed_config.rds.config_source",
		},
		"negative timeout": {
			from:  `"stream_idle_timeout":"0s"`,
			to:    `"stream_idle_timeout":"-1s"`,
			field: "filter_chains[0].filters[0].typed_config.stream_idle_timeout",
		},
		"tunnelling": {
			from:  `"cluster":"CLUSTER"`,
			to:    `"cluster":"CLUSTER","tunneling_config":{"hostname":"x"}`,
			field: "filter_chains[1].filters[0].typed_config.tunneling_config",
		},
		"metadata match": {
			from:  `"cluster":"CLUSTER"`,
			to:    `"cluster":"CLUSTER","metadata_match":{}`,
			field: "filter_chains[1].filters[0].typed_config.metadata_match",
		},
		"no cluster": {
			from:  `"cluster":"CLUSTER"`,
			to:    `"cluster":""`,
			field: "filter_chains[1].filters[0].typed_config.cluster",
		},
		"proxy protocol": {
			from:  `"@type":"type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"`,
			to:    `"@type":"type.googleapis.com/google.protobuf.Empty"`,
			field: "listener_filters[2].typed_config",
		},
		"default with match": {
			from:  `"default_filter_chain":{`,
			to:    `"default_filter_chain":{"filter_chain_match":{},`,
			field: "default_filter_chain.filter_chain_match",
		},
		"two terminal filters": {
			from:  `"name":"plain","filter_chain_match":{"transport_protocol":"raw_buffer"},"filters":[`,
			to:    `"name":"plain","filter_chain_match":{"transport_protocol":"raw_buffer"},"filters":[` + tcpTo + `,`,
			field: "filter_chains[1].filters[1]",
		},
		"additional address": {
			from:  `"traffic_direction"`,
			to:    `"additional_addresses":[{}],"traffic_direction"`,
			field: "additional_addresses",
		},
	})
}

// TestUnknownField: a field of a newer Envoy is refused, wherever it is.
func TestUnknownField(t *testing.T) {
	p := &listenerv3.Listener{}
	pack(t, p, virtualInbound())
	p.FilterChains[1].FilterChainMatch.ProtoReflect().SetUnknown([]byte{0xf8, 0x7f, 1}) // field 2047
	body, err := anypb.New(p)
	if err != nil {
		t.Fatal(err)
	}
	_, err = DecodeListener(body)
	if err == nil || !strings.Contains(err.Error(), "filter_chains[1].filter_chain_match: holds field number 2047") {
		t.Errorf("got %v", err)
	}
}

func autoMTLS() string {
	return `{"name":"outbound|80||a.default.svc.cluster.local","type":"EDS","eds_cluster_config":{"eds_config":{"ads":{}},"service_name":"shared"},
	"connect_timeout":"10s","lb_policy":"LEAST_REQUEST",
	"metadata":{"filter_metadata":{"istio":{"services":[{"host":"a.default.svc.cluster.local","name":"a","namespace":"default"}]}}},
	"typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","use_downstream_protocol_config":{"http_protocol_options":{},"http2_protocol_options":{"max_concurrent_streams":100}}}},
	"circuit_breakers":{"thresholds":[{"max_connections":4294967295,"max_retries":4294967295}]},
	"outlier_detection":{"consecutive_5xx":7,"enforcing_success_rate":0,"base_ejection_time":"20s"},
	"upstream_bind_config":{"source_address":{"address":"127.0.0.6","port_value":0}},
	"transport_socket_matches":[{"name":"tlsMode-istio","match":{"tlsMode":"istio"},"transport_socket":` + clientSocket + `},{"name":"tlsMode-disabled","match":{},"transport_socket":` + rawSocket + `}]}`
}

func TestDecodeCluster(t *testing.T) {
	c, err := DecodeCluster(pack(t, &clusterv3.Cluster{}, autoMTLS()))
	if err != nil {
		t.Fatal(err)
	}
	if c.Type != ClusterEDS || c.EDSName != "shared" || c.LB != LBLeastRequest || c.ConnectTimeout != 10*time.Second ||
		c.Service != (Service{"a.default.svc.cluster.local", "a", "default"}) || c.HTTP.Protocol != HTTPUseDownstream ||
		c.HTTP.MaxStreams != 100 || !reflect.DeepEqual(c.BindSource, []netip.Addr{netip.MustParseAddr("127.0.0.6")}) {
		t.Errorf("got %+v", c)
	}
	if len(c.Matches) != 2 || c.Matches[0].Match["tlsMode"] != "istio" || !c.Matches[0].Transport.TLS.Mesh() ||
		c.Matches[0].Transport.TLS.SNI != "outbound_.80_._.a" || c.Matches[1].Transport.TLS != nil {
		t.Errorf("transports: got %+v", c.Matches)
	}
	if o := c.Outlier; o.Consecutive5xx != 7 || o.ConsecutiveGateway != 0 || o.ConsecutiveLocal != 0 ||
		o.BaseEjection != 20*time.Second || o.MaxPercent != 10 {
		t.Errorf("outlier detection: got %+v", o)
	}
}

// TestDecodeTrafficPolicy: what a DestinationRule can ask of a cluster.
func TestDecodeTrafficPolicy(t *testing.T) {
	js := `{"name": "c", "lb_policy": "LEAST_REQUEST",
		"metadata": {"filter_metadata": {"isthmus": {"peak_ewma": true}}},
		"common_lb_config": {"healthy_panic_threshold": {"value": 0}, "locality_weighted_lb_config": {}},
		"least_request_lb_config": {"slow_start_config": {
			"slow_start_window": "30s", "aggression": {"default_value": 2, "runtime_key": "x"}, "min_weight_percent": {"value": 5}}},
		"circuit_breakers": {"thresholds": [{
			"max_connections": 10, "max_pending_requests": 0, "max_requests": 30, "max_retries": 4, "track_remaining": true,
			"retry_budget": {"budget_percent": {"value": 25}}}]},
		"outlier_detection": {"split_external_local_origin_errors": true, "consecutive_local_origin_failure": 2,
			"consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100,
			"enforcing_consecutive_5xx": 0, "max_ejection_percent": 70, "interval": "1s", "max_ejection_time": "90s"},
		"upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 60, "keepalive_interval": 5}},
		"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
			"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"common_http_protocol_options": {"idle_timeout": "7s", "max_requests_per_connection": 8, "max_connection_duration": "9s"},
			"explicit_http_config": {"http2_protocol_options": {
				"max_concurrent_streams": 11, "connection_keepalive": {"interval": "12s", "timeout": "13s"}}}}}}`
	c, err := DecodeCluster(pack(t, &clusterv3.Cluster{}, js))
	if err != nil {
		t.Fatal(err)
	}

	for what, is := range map[string]struct{ got, want any }{
		"limits": {c.Limits, &Limits{10, 0, 30, 4, &RetryBudget{25, 3}}},
		"balance": {c.Balance, Balance{
			LocalityWeights: true, SlowStart: &SlowStart{30 * time.Second, 2, 5}, PeakEWMA: true,
		}},
		"outlier detection": {c.Outlier, &OutlierDetection{
			ConsecutiveGateway: 3, ConsecutiveLocal: 2, Split: true,
			BaseEjection: 30 * time.Second, MaxEjection: 90 * time.Second, MaxPercent: 70, MaxPercentGiven: true,
		}},
		"keepalive": {c.Keepalive, &TCPKeepalive{Probes: 3, Idle: time.Minute, Interval: 5 * time.Second}},
		"HTTP": {c.HTTP, HTTPOptions{
			Protocol: HTTP2, IdleTimeout: 7 * time.Second, IdleSet: true, MaxRequests: 8, MaxAge: 9 * time.Second, MaxStreams: 11,
			Ping: &HTTP2Ping{12 * time.Second, 13 * time.Second},
		}},
	} {
		if !reflect.DeepEqual(is.got, is.want) {
			t.Errorf("%s: got %+v, want %+v", what, is.got, is.want)
		}
	}
}

// TestTrafficPolicyNotGiven: what is not given is left to the proxy.
func TestTrafficPolicyNotGiven(t *testing.T) {
	for js, want := range map[string]Balance{
		`{"name": "c"}`:                          {},
		`{"name": "c", "outlier_detection": {}}`: {PanicPercent: 50},
		`{"name": "c", "common_lb_config": {"healthy_panic_threshold": {"value": 30}}}`: {PanicPercent: 30},
		`{"name": "c", "round_robin_lb_config": {"slow_start_config": {"slow_start_window": "3s"}}}`: {
			SlowStart: &SlowStart{3 * time.Second, 1, 10},
		},
		`{"name": "c", "round_robin_lb_config": {"slow_start_config": {}}}`: {},
		`{"name": "c", "circuit_breakers": {"thresholds": [{}]}}`:           {},
	} {
		c, err := DecodeCluster(pack(t, &clusterv3.Cluster{}, js))
		if err != nil {
			t.Fatal(err)
		}
		if c.Limits != nil || c.Keepalive != nil || c.HTTP.Ping != nil || !reflect.DeepEqual(c.Balance, want) {
			t.Errorf("%s: got %+v", js, c)
		}
	}

	off := `{"name": "c", "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 60, "keepalive_probes": 0}}}`
	c, err := DecodeCluster(pack(t, &clusterv3.Cluster{}, off))
	if err != nil || !c.Keepalive.Off {
		t.Errorf("keepalives with no probes are not off: %+v, %v", c, err)
	}
}

func TestClusterRefused(t *testing.T) {
	decode := func(js string) error {
		_, err := DecodeCluster(pack(t, &clusterv3.Cluster{}, js))
		return err
	}
	testRefusals(t, autoMTLS(), decode, map[string]refusal{
		"own policy": {
			from:  `"lb_policy"`,
			to:    `"load_balancing_policy":{},"lb_policy"`,
			field: "load_balancing_policy",
		},
		"health checks": {`"lb_policy"`, `"health_checks":[{}],"lb_policy"`, "health_checks"},
		"endpoints of a file": {
			from:  `"eds_config":{"ads":{}}`,
			to:    `"eds_config":{"path":"/x"}`,
			field: "eds_cluster_config.eds_config",
		},
		"limits of another priority": {
			from:  `"thresholds":[{`,
			to:    `"thresholds":[{"priority":"HIGH",`,
			field: "circuit_breakers.thresholds[0].priority",
		},
		"limits twice": {
			from:  `"thresholds":[{"max_connections":4294967295`,
			to:    `"thresholds":[{"max_connections":1},{"max_connections":4294967295`,
			field: "circuit_breakers.thresholds[1]",
		},
		"pools": {
			from:  `"max_connections":4294967295`,
			to:    `"max_connection_pools":1`,
			field: "circuit_breakers.thresholds[0].max_connection_pools",
		},
		"retry budget of an interval": {
			from:  `"max_connections":4294967295`,
			to:    `"retry_budget":{"budget_interval":"1s"}`,
			field: "circuit_breakers.thresholds[0].retry_budget.budget_interval",
		},
		"retry budget of more than all": {
			from:  `"max_connections":4294967295`,
			to:    `"retry_budget":{"budget_percent":{"value":101}}`,
			field: "circuit_breakers.thresholds[0].retry_budget.budget_percent",
		},
		"ejection now and then": {
			from:  `"enforcing_success_rate":0`,
			to:    `"enforcing_consecutive_5xx":50`,
			field: "outlier_detection.enforcing_consecutive_5xx",
		},
		"failure percentage": {
			from:  `"enforcing_success_rate":0`,
			to:    `"enforcing_failure_percentage":1`,
			field: "outlier_detection.enforcing_failure_percentage",
		},
		"panic above all": {
			from:  `"lb_policy"`,
			to:    `"common_lb_config":{"healthy_panic_threshold":{"value":100.5}},"lb_policy"`,
			field: "common_lb_config.healthy_panic_threshold",
		},
		"panic of no number": {
			from:  `"lb_policy"`,
			to:    `"common_lb_config":{"healthy_panic_threshold":{"value":"NaN"}},"lb_policy"`,
			field: "common_lb_config.healthy_panic_threshold",
		},
		"five choices": {
			from:  `"lb_policy"`,
			to:    `"least_request_lb_config":{"choice_count":5},"lb_policy"`,
			field: "least_request_lb_config.choice_count",
		},
		"a slow start that never ends": {
			from:  `"lb_policy"`,
			to:    `"least_request_lb_config":{"slow_start_config":{"slow_start_window":"1s","aggression":{"runtime_key":"x"}}},"lb_policy"`,
			field: "least_request_lb_config.slow_start_config.aggression.default_value",
		},
		"a PING without patience": {
			from:  `"max_concurrent_streams":100`,
			to:    `"connection_keepalive":{"interval":"1s"}`,
			field: "typed_extension_protocol_options[envoy.extensions.upstreams.http.v3.HttpProtocolOptions].use_downstream_protocol_config.http2_protocol_options.connection_keepalive.timeout",
		},
		"unknown metadata": {
			from:  `"filter_metadata":{`,
			to:    `"filter_metadata":{"isthmus":{"peak_ewma":"yes"},`,
			field: "metadata.filter_metadata.isthmus.peak_ewma",
		},
		"success rate": {
			from:  `"enforcing_success_rate":0`,
			to:    `"enforcing_success_rate":100`,
			field: "outlier_detection.enforcing_success_rate",
		},
		"no roots": {
			from:  `"validation_context_sds_secret_config":{"name":"ROOTCA","sds_config":{"ads":{}}}`,
			to:    `"validation_context_sds_secret_config":{"name":"other"}`,
			field: "transport_socket_matches[0].transport_socket.typed_config.common_tls_context.combined_validation_context.validation_context_sds_secret_config.name",
		},
		"other socket": {
			from:  `"@type":"type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"`,
			to:    `"@type":"type.googleapis.com/google.protobuf.Empty"`,
			field: "transport_socket_matches[1].transport_socket.typed_config",
		},
		"other options": {
			from:  `"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{`,
			to:    `"x":{`,
			field: "typed_extension_protocol_options[x]",
		},
		"source port": {
			from:  `"address":"127.0.0.6","port_value":0`,
			to:    `"address":"127.0.0.6","port_value":7`,
			field: "upstream_bind_config",
		},
		"no time to connect": {`"connect_timeout":"10s"`, `"connect_timeout":"0s"`, "connect_timeout"},
		"original dst alone": {`"LEAST_REQUEST"`, `"CLUSTER_PROVIDED"`, "lb_policy"},
		"zone awareness": {
			from:  `"lb_policy"`,
			to:    `"common_lb_config":{"zone_aware_lb_config":{}},"lb_policy"`,
			field: "common_lb_config.zone_aware_lb_config",
		},
		"cluster filters": {`"lb_policy"`, `"filters":[{"name":"x"}],"lb_policy"`, "filters"},
		"number to match": {
			from:  `"match":{"tlsMode":"istio"}`,
			to:    `"match":{"tlsMode":1}`,
			field: "transport_socket_matches[0].match.tlsMode",
		},
	})
}

func TestDecodeDNSCluster(t *testing.T) {
	js := `{
		"name": "d", "type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY",
		"dns_refresh_rate": "5s", "respect_dns_ttl": true,
		"load_assignment": {"cluster_name": "d", "endpoints": [{"lb_endpoints": [
			{"endpoint": {"address": {"socket_address": {"address": "example.com", "port_value": 443}}}},
			{"endpoint": {"address": {"socket_address": {"address": "::ffff:10.0.0.1", "port_value": 1}}}}
		]}]}
	}`
	c, err := DecodeCluster(pack(t, &clusterv3.Cluster{}, js))
	if err != nil {
		t.Fatal(err)
	}
	if c.Type != ClusterStrictDNS || c.DNSFamily != DNSV4Only || c.DNSRefresh != 5*time.Second || !c.DNSByTTL {
		t.Errorf("got %+v", c)
	}

	eps := c.Endpoints.Localities[0].Endpoints
	if eps[0].Host != "example.com" || eps[0].Port != 443 || eps[1].Addr != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("got %+v", eps)
	}
	if _, err := DecodeCluster(pack(t, &clusterv3.Cluster{}, strings.Replace(js, "STRICT_DNS", "STATIC", 1))); err == nil {
		t.Error("a host name in a static cluster was taken")
	}
}

const assignment = `{"cluster_name":"shared","endpoints":[{"locality":{"region":"r","zone":"z"},"priority":1,"load_balancing_weight":3,"lb_endpoints":[
	{"health_status":"HEALTHY","load_balancing_weight":2,"metadata":{"filter_metadata":{"envoy.transport_socket_match":{"tlsMode":"istio"},"istio":{"workload":"a-1;default;a;v1;cluster-1"}}},"endpoint":{"address":{"socket_address":{"address":"10.0.0.1","port_value":80}}}},
	{"health_status":"DRAINING","endpoint":{"address":{"socket_address":{"address":"fd00::1","port_value":80}}}}]}]}`

func TestDecodeLoadAssignment(t *testing.T) {
	la, err := DecodeLoadAssignment(pack(t, &endpointv3.ClusterLoadAssignment{}, assignment))
	if err != nil {
		t.Fatal(err)
	}
	want := []LocalityEndpoints{{Region: "r", Zone: "z", Priority: 1, Weight: 3, Endpoints: []Endpoint{
		{
			Addr:           netip.MustParseAddr("10.0.0.1"),
			Port:           80,
			Weight:         2,
			Healthy:        true,
			TransportMatch: map[string]string{"tlsMode": "istio"},
			Workload:       Workload{"a-1", "default", "a", "v1", "cluster-1"},
		},
		{Addr: netip.MustParseAddr("fd00::1"), Port: 80, Weight: 1},
	}}}
	if la.Name != "shared" || la.Overprovision != 0 || !reflect.DeepEqual(la.Localities, want) {
		t.Errorf("got %+v, want %+v", la.Localities, want)
	}
}

// TestDecodeGateway: the gateway of another network is known as one, and of which, and
// the overprovisioning factor is read.
func TestDecodeGateway(t *testing.T) {
	js := `{"cluster_name": "c", "policy": {"overprovisioning_factor": 200}, "endpoints": [{"lb_endpoints": [{
		"metadata": {"filter_metadata": {"istio": {"workload": ";;;;b", "network": "net-2"}}},
		"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 15443}}}}]}]}`
	la, err := DecodeLoadAssignment(pack(t, &endpointv3.ClusterLoadAssignment{}, js))
	if err != nil {
		t.Fatal(err)
	}
	if e := &la.Localities[0].Endpoints[0]; la.Overprovision != 200 || !e.Gateway || e.Network != "net-2" {
		t.Errorf("got %+v", la)
	}
}

func TestLoadAssignmentRefused(t *testing.T) {
	decode := func(js string) error {
		_, err := DecodeLoadAssignment(pack(t, &endpointv3.ClusterLoadAssignment{}, js))
		return err
	}
	testRefusals(t, assignment, decode, map[string]refusal{
		"host name": {
			from:  `"address":"10.0.0.1"`,
			to:    `"address":"example.com"`,
			field: "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address",
		},
		"pipe": {
			from:  `"socket_address":{"address":"10.0.0.1","port_value":80}`,
			to:    `"pipe":{"path":"/x"}`,
			field: "endpoints[0].lb_endpoints[0].endpoint.address",
		},
		"port 0": {
			from:  `"port_value":80`,
			to:    `"port_value":0`,
			field: "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value",
		},
		"overload": {
			from:  `"endpoints":[`,
			to:    `"policy":{"drop_overloads":[{"category":"x"}]},"endpoints":[`,
			field: "policy.drop_overloads",
		},
		"no overprovisioning": {
			from:  `"endpoints":[`,
			to:    `"policy":{"overprovisioning_factor":0},"endpoints":[`,
			field: "policy.overprovisioning_factor",
		},
		"by name": {
			from:  `"endpoint":{"address":{"socket_address":{"address":"10.0.0.1","port_value":80}}}`,
			to:    `"endpoint_name":"x"`,
			field: "endpoints[0].lb_endpoints[0].endpoint_name",
		},
		"tls mode": {`{"tlsMode":"istio"}`, `{"tlsMode":true}`, "endpoints[0].lb_endpoints[0].metadata"},
	})
}

const routes = `{"name":"80","ignore_port_in_host_matching":true,"virtual_hosts":[
	{"name":"a","domains":["A","a.default","*.suffix.org"],"routes":[
	 {"match":{"path":"/exact","headers":[{"name":"X-User","string_match":{"exact":"me"}}]},"route":{"weighted_clusters":{"clusters":[{"name":"v1","weight":90},{"name":"v2","weight":10},{"name":"v3","weight":0}]}}},
	 {"match":{"prefix":"/"},"route":{"cluster":"c","timeout":"0s","retry_policy":{"retry_on":"connect-failure,refused-stream","num_retries":2,"retry_host_predicate":[{"name":"envoy.retry_host_predicates.previous_hosts"}],"host_selection_retry_max_attempts":5}}}]},
	{"name":"block_all","domains":["*"],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":502}}]}]}`

func TestDecodeRoutes(t *testing.T) {
	r, err := DecodeRouteConfiguration(pack(t, &routev3.RouteConfiguration{}, routes))
	if err != nil {
		t.Fatal(err)
	}
	a := r.VirtualHosts[0]
	if !r.IgnorePortInHost || !reflect.DeepEqual(a.Domains, []string{"a", "a.default", "*.suffix.org"}) {
		t.Errorf("got %+v", a)
	}
	split, all := a.Routes[0], a.Routes[1]
	if split.Match.Path != "/exact" || split.Match.Headers[0].Name != "x-user" ||
		len(split.Action.Weighted) != 2 || split.Action.Timeout != 15*time.Second {
		t.Errorf("got %+v %+v", split.Match, split.Action)
	}
	if all.Match.Prefix != "/" || all.Action.Cluster != "c" || all.Action.Timeout != 0 || all.Action.Retry.Attempts != 2 {
		t.Errorf("got %+v %+v", all.Match, all.Action)
	}
	if d := r.VirtualHosts[1].Routes[0].Direct; d == nil || d.Status != 502 {
		t.Errorf("got %+v", d)
	}
}

// faultOf is what a route says to the fault filter.
func faultOf(fields string) string {
	return `"typed_per_filter_config":{"envoy.filters.http.fault":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",` + fields + `}}`
}

// corsOf is what a route says to the CORS filter.
func corsOf(fields string) string {
	return `"typed_per_filter_config":{"envoy.filters.http.cors":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",` + fields + `}}`
}

func TestDecodeMirrors(t *testing.T) {
	r, err := DecodeRouteConfiguration(pack(t, &routev3.RouteConfiguration{}, strings.Replace(routes, `"cluster":"c"`, `"cluster":"c","request_mirror_policies":[
		{"cluster":"a","trace_sampled":false},
		{"cluster":"b","runtime_fraction":{"default_value":{"numerator":5,"denominator":"TEN_THOUSAND"}},"disable_shadow_host_suffix_append":true}]`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mirror{{Cluster: "a", Share: Whole}, {Cluster: "b", Share: 500, KeepHost: true}}
	if got := r.VirtualHosts[0].Routes[1].Action.Mirrors; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDecodeFault(t *testing.T) {
	for fields, want := range map[string]Fault{
		`"delay":{"fixed_delay":"5s","percentage":{"numerator":100}},"abort":{"http_status":503,"percentage":{"numerator":1250,"denominator":"TEN_THOUSAND"}}`: {
			Delay: 5 * time.Second, DelayShare: Whole, Status: 503, AbortShare: 125_000,
		},
		`"abort":{"grpc_status":14,"percentage":{"numerator":2000000,"denominator":"MILLION"}}`: {ByGRPC: true, GRPCStatus: 14, AbortShare: Whole},
	} {
		r, err := DecodeRouteConfiguration(pack(t, &routev3.RouteConfiguration{},
			strings.Replace(routes, `"match":{"prefix":"/"},"direct_response"`, `"match":{"prefix":"/"},`+faultOf(fields)+`,"direct_response"`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.VirtualHosts[1].Routes[0].Fault; got == nil || *got != want {
			t.Errorf("%s: got %+v", fields, got)
		}
	}
}

func TestDecodeRetries(t *testing.T) {
	policy := `"num_retries":2,"retry_back_off":{"base_interval":"0.010s"},"retriable_status_codes":[503],
		"retry_priority":{"name":"envoy.retry_priorities.previous_priorities","typed_config":{
			"@type":"type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig","update_frequency":1}}`
	r, err := DecodeRouteConfiguration(pack(t, &routev3.RouteConfiguration{}, strings.Replace(routes, `"num_retries":2`, policy, 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := &RetryPolicy{
		On: []string{"connect-failure", "refused-stream"}, Statuses: []int{503}, Attempts: 2,
		BackOff: 10 * time.Millisecond, MaxBackOff: 100 * time.Millisecond, LeavePriorities: 1,
	}
	if got := r.VirtualHosts[0].Routes[1].Action.Retry; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRoutesRefused(t *testing.T) {
	decode := func(js string) error {
		_, err := DecodeRouteConfiguration(pack(t, &routev3.RouteConfiguration{}, js))
		return err
	}
	testRefusals(t, routes, decode, map[string]refusal{
		"domain twice": {`"domains":["*"]`, `"domains":["a"]`, "virtual_hosts[1].domains"},
		"bad domain":   {`"*.suffix.org"`, `"a.*.org"`, "virtual_hosts[0].domains[2]"},
		"query": {
			from:  `"prefix":"/"`,
			to:    `"prefix":"/","query_parameters":[{"name":""}]`,
			field: "virtual_hosts[0].routes[1].match.query_parameters[0].name",
		},
		"rewrite to two lines": {
			from:  `"cluster":"c"`,
			to:    `"cluster":"c","prefix_rewrite":"/\r\nx"`,
			field: "virtual_hosts[0].routes[1].route.prefix_rewrite",
		},
		"group that is not there": {
			from:  `"cluster":"c"`,
			to:    `"cluster":"c","regex_rewrite":{"pattern":{"regex":"a"},"substitution":"\\1"}`,
			field: "virtual_hosts[0].routes[1].route.regex_rewrite.substitution",
		},
		"rewrite with a wrong pattern": {
			from:  `"cluster":"c"`,
			to:    `"cluster":"c","regex_rewrite":{"pattern":{"regex":"("},"substitution":""}`,
			field: "virtual_hosts[0].routes[1].route.regex_rewrite.pattern.regex",
		},
		"fraction": {
			from:  `"prefix":"/"`,
			to:    `"prefix":"/","runtime_fraction":{}`,
			field: "virtual_hosts[0].routes[1].match.runtime_fraction",
		},
		"mirror to nowhere": {
			from:  `"cluster":"c"`,
			to:    `"cluster":"c","request_mirror_policies":[{"cluster":"m"},{}]`,
			field: "virtual_hosts[0].routes[1].route.request_mirror_policies[1].cluster",
		},
		"mirror by header": {
			from:  `"cluster":"c"`,
			to:    `"cluster":"c","request_mirror_policies":[{"cluster_header":"x"}]`,
			field: "virtual_hosts[0].routes[1].route.request_mirror_policies[0].cluster_header",
		},
		"mirror of a share that may change": {
			from:  `"cluster":"c"`,
			to:    `"cluster":"c","request_mirror_policies":[{"cluster":"m","runtime_fraction":{"default_value":{"numerator":1},"runtime_key":"k"}}]`,
			field: "virtual_hosts[0].routes[1].route.request_mirror_policies[0].runtime_fraction.runtime_key",
		},
		"mirror under another name": {
			from:  `"cluster":"c"`,
			to:    `"cluster":"c","request_mirror_policies":[{"cluster":"m","host_rewrite_literal":"x"}]`,
			field: "virtual_hosts[0].routes[1].route.request_mirror_policies[0].host_rewrite_literal",
		},
		"by header": {
			from:  `"cluster":"c"`,
			to:    `"cluster_header":"x"`,
			field: "virtual_hosts[0].routes[1].route.cluster_header",
		},
		"hash": {
			from:  `"cluster":"c"`,
			to:    `"cluster":"c","hash_policy":[{}]`,
			field: "virtual_hosts[0].routes[1].route.hash_policy",
		},
		"per filter": {
			from:  `"name":"block_all"`,
			to:    `"name":"block_all","typed_per_filter_config":{"x":{"@type":"type.googleapis.com/google.protobuf.Empty"}}`,
			field: "virtual_hosts[1].typed_per_filter_config",
		},
		"of an unknown filter": {
			from:  `"match":{"prefix":"/"},"direct_response"`,
			to:    `"match":{"prefix":"/"},"typed_per_filter_config":{"x":{"@type":"type.googleapis.com/google.protobuf.Empty"}},"direct_response"`,
			field: "virtual_hosts[1].routes[0].typed_per_filter_config.x",
		},
		"fault that is more": {
			from:  `"match":{"prefix":"/"},"direct_response"`,
			to:    `"match":{"prefix":"/"},` + faultOf(`"delay":{"fixed_delay":"1s","percentage":{"numerator":1}},"max_active_faults":3`) + `,"direct_response"`,
			field: "virtual_hosts[1].routes[0].typed_per_filter_config.envoy.filters.http.fault.max_active_faults",
		},
		"delay without end": {
			from:  `"match":{"prefix":"/"},"direct_response"`,
			to:    `"match":{"prefix":"/"},` + faultOf(`"delay":{"fixed_delay":"3601s","percentage":{"numerator":1}}`) + `,"direct_response"`,
			field: "virtual_hosts[1].routes[0].typed_per_filter_config.envoy.filters.http.fault.delay.fixed_delay",
		},
		"delay by a header": {
			from:  `"match":{"prefix":"/"},"direct_response"`,
			to:    `"match":{"prefix":"/"},` + faultOf(`"delay":{"header_delay":{}}`) + `,"direct_response"`,
			field: "virtual_hosts[1].routes[0].typed_per_filter_config.envoy.filters.http.fault.delay.header_delay",
		},
		"CORS in part": {
			from: `"match":{"prefix":"/"},"direct_response"`,
			to: `"match":{"prefix":"/"},` + corsOf(`"allow_origin_string_match":[{"exact":"*"}],"filter_enabled":{"default_value":{"numerator":50}}`) +
				`,"direct_response"`,
			field: "virtual_hosts[1].routes[0].typed_per_filter_config.envoy.filters.http.cors.filter_enabled.default_value",
		},
		"CORS of private networks": {
			from:  `"match":{"prefix":"/"},"direct_response"`,
			to:    `"match":{"prefix":"/"},` + corsOf(`"allow_private_network_access":true`) + `,"direct_response"`,
			field: "virtual_hosts[1].routes[0].typed_per_filter_config.envoy.filters.http.cors.allow_private_network_access",
		},
		"CORS in two lines": {
			from:  `"match":{"prefix":"/"},"direct_response"`,
			to:    `"match":{"prefix":"/"},` + corsOf(`"allow_methods":"GET\r\nx: y"`) + `,"direct_response"`,
			field: "virtual_hosts[1].routes[0].typed_per_filter_config.envoy.filters.http.cors.allow_methods",
		},
		"abort without a status": {
			from:  `"match":{"prefix":"/"},"direct_response"`,
			to:    `"match":{"prefix":"/"},` + faultOf(`"abort":{"percentage":{"numerator":1}}`) + `,"direct_response"`,
			field: "virtual_hosts[1].routes[0].typed_per_filter_config.envoy.filters.http.fault.abort",
		},
		"tls only": {
			from:  `"name":"block_all"`,
			to:    `"name":"block_all","require_tls":"ALL"`,
			field: "virtual_hosts[1].require_tls",
		},
		"bad status": {
			from:  `"status":502`,
			to:    `"status":99`,
			field: "virtual_hosts[1].routes[0].direct_response.status",
		},
		"no weight": {
			from:  `"weight":90},{"name":"v2","weight":10}`,
			to:    `"weight":0},{"name":"v2","weight":0}`,
			field: "virtual_hosts[0].routes[0].route.weighted_clusters.clusters",
		},
		"retry condition": {
			from:  `connect-failure,`,
			to:    `envoy-ratelimited,`,
			field: "virtual_hosts[0].routes[1].route.retry_policy.retry_on",
		},
		"back-off without a base": {
			from:  `"num_retries":2`,
			to:    `"retry_back_off":{"base_interval":"0s"}`,
			field: "virtual_hosts[0].routes[1].route.retry_policy.retry_back_off.base_interval",
		},
		"back-off that shrinks": {
			from:  `"num_retries":2`,
			to:    `"retry_back_off":{"base_interval":"2s","max_interval":"1s"}`,
			field: "virtual_hosts[0].routes[1].route.retry_policy.retry_back_off.max_interval",
		},
		"unknown retry priority": {
			from:  `"num_retries":2`,
			to:    `"retry_priority":{"name":"x"}`,
			field: "virtual_hosts[0].routes[1].route.retry_policy.retry_priority.name",
		},
		"priorities that are never left": {
			from:  `"num_retries":2`,
			to:    `"retry_priority":{"name":"envoy.retry_priorities.previous_priorities","typed_config":{"@type":"type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"}}`,
			field: "virtual_hosts[0].routes[1].route.retry_policy.retry_priority.typed_config.update_frequency",
		},
		"substitution": {
			from:  `"name":"block_all"`,
			to:    `"name":"block_all","request_headers_to_add":[{"header":{"key":"x","value":"%REQ(y)%"}}]`,
			field: "virtual_hosts[1].request_headers_to_add[0].header.value",
		},
		"edit of host": {
			from:  `"name":"block_all"`,
			to:    `"name":"block_all","request_headers_to_add":[{"header":{"key":":authority","value":"y"}}]`,
			field: "virtual_hosts[1].request_headers_to_add[0].header.key",
		},
		"unknown host": {`"virtual_hosts":[`, `"metadata":{"filter_metadata":{"isthmus":{"unknown_host":"elsewhere"}}},"virtual_hosts":[`,
			"metadata.filter_metadata.isthmus.unknown_host"},
		"unknown metadata": {`"virtual_hosts":[`, `"metadata":{"filter_metadata":{"isthmus":{"new":true}}},"virtual_hosts":[`,
			"metadata.filter_metadata.isthmus.new"},
		"vhds": {`"virtual_hosts":[`, `"vhds":{},"virtual_hosts":[`, "vhds"},
	})
}

func TestWrongType(t *testing.T) {
	body := pack(t, &listenerv3.Listener{}, virtualInbound())
	if _, err := DecodeCluster(body); err == nil {
		t.Error("a listener was taken for a cluster")
	}
	if _, err := DecodeListener(nil); err == nil {
		t.Error("nothing was taken for a listener")
	}
}
