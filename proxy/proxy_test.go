package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	clientID = "spiffe://cluster.local/ns/foo/sa/client"
	serverID = "spiffe://cluster.local/ns/bar/sa/server"
)

// node is a proxy under test.
type node struct {
	*Proxy
	t    testing.TB
	reg  *prometheus.Registry
	stop func()
	mu   sync.Mutex
	dst  netip.AddrPort // original destination of connections
}

func start(t testing.TB, id *mtlstest.Identity) *node {
	t.Helper()
	n := &node{t: t, reg: prometheus.NewRegistry()}
	p, err := New(Config{
		Identity: id, Registerer: n.reg, DrainTime: 100 * time.Millisecond,
		OriginalDst: func(*net.TCPConn) (netip.AddrPort, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.dst, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Proxy = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(n.stop)
	return n
}

// goingTo sets the original destination of the connections to come.
func (n *node) goingTo(dst netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dst = dst
}

// res packs a resource from JSON as Envoy writes it; NAME=VALUE pairs are put
// in for $NAME.
func res(t testing.TB, typeURL, js string, vars ...string) fetch.Resource {
	t.Helper()
	for i := 0; i < len(vars); i += 2 {
		js = strings.ReplaceAll(js, "$"+vars[i], vars[i+1])
	}
	msgs := map[string]proto.Message{
		typeCluster: &clusterv3.Cluster{}, typeEndpoint: &endpointv3.ClusterLoadAssignment{},
		typeListener: &listenerv3.Listener{}, typeRoute: &routev3.RouteConfiguration{},
		typeVirtualHost: &routev3.VirtualHost{},
	}
	m := msgs[typeURL]
	if err := protojson.Unmarshal([]byte(js), m); err != nil {
		t.Fatalf("%v in %s", err, js)
	}
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	var named struct {
		Name        string
		ClusterName string `json:"cluster_name"`
	}
	if err := json.Unmarshal([]byte(js), &named); err != nil {
		t.Fatal(err)
	}
	return fetch.Resource{Name: named.Name + named.ClusterName, Body: body}
}

func (n *node) apply(typeURL string, rs ...fetch.Resource) {
	n.t.Helper()
	if err := n.Apply(typeURL, rs, nil); err != nil {
		n.t.Fatal(err)
	}
}

const (
	typed      = `"typed_config":{"@type":"type.googleapis.com/envoy.`
	meshTLS    = `"common_tls_context":{"alpn_protocols":[$ALPN],"tls_certificate_sds_secret_configs":[{"name":"default","sds_config":{"ads":{}}}],"combined_validation_context":{"default_validation_context":{"match_typed_subject_alt_names":[{"san_type":"URI","matcher":{"prefix":"spiffe://cluster.local/"}}]},"validation_context_sds_secret_config":{"name":"ROOTCA","sds_config":{"ads":{}}}}}`
	router     = `"http_filters":[{"name":"router",` + typed + `extensions.filters.http.router.v3.Router"}}]`
	inspectors = `"listener_filters":[{"name":"tls",` + typed + `extensions.filters.listener.tls_inspector.v3.TlsInspector"}},{"name":"http",` + typed + `extensions.filters.listener.http_inspector.v3.HttpInspector"}}],"listener_filters_timeout":"0.1s","continue_on_listener_filters_timeout":true`
	tcpTo      = `{"name":"tcp",` + typed + `extensions.filters.network.tcp_proxy.v3.TcpProxy","stat_prefix":"x","cluster":"$CLUSTER"}}`
	hcmHead    = `{"name":"http",` + typed + `extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","stat_prefix":"x","server_name":"istio-envoy",` + router + `,`
	hcmRDS     = hcmHead + `"rds":{"route_config_name":"8000","config_source":{"ads":{}}}}}`
	hcmInline  = hcmHead + `"forward_client_cert_details":"SANITIZE_SET","set_current_client_cert_details":{"uri":true},"route_config":{"name":"in","virtual_hosts":[{"name":"in","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"$CLUSTER","timeout":"0s"}}]}]}}}`

	virtualOutbound = `{"name":"virtualOutbound","traffic_direction":"OUTBOUND","use_original_dst":true,"address":{"socket_address":{"address":"127.0.0.1","port_value":0}},"filter_chains":[{"filters":[` + tcpTo + `]}]}`
	serviceHTTP     = `{"name":"0.0.0.0_8000","traffic_direction":"OUTBOUND","bind_to_port":false,"address":{"socket_address":{"address":"0.0.0.0","port_value":8000}},` + inspectors + `,"filter_chains":[{"filter_chain_match":{"application_protocols":["http/1.1","h2c"]},"filters":[` + hcmRDS + `]}],"default_filter_chain":{"filters":[` + tcpTo + `]}}`
	virtualInbound  = `{"name":"virtualInbound","traffic_direction":"INBOUND","address":{"socket_address":{"address":"127.0.0.1","port_value":0}},` + inspectors + `,"filter_chains":[
		{"name":"mtls-http","filter_chain_match":{"transport_protocol":"tls","application_protocols":["istio-http/1.1","istio-h2"]},"transport_socket":{"name":"tls",` + typed + `extensions.transport_sockets.tls.v3.DownstreamTlsContext","require_client_certificate":true,` + meshTLS + `}},"filters":[` + hcmInline + `]},
		{"name":"mtls-tcp","filter_chain_match":{"transport_protocol":"tls","application_protocols":["istio","istio-peer-exchange"]},"transport_socket":{"name":"tls",` + typed + `extensions.transport_sockets.tls.v3.DownstreamTlsContext","require_client_certificate":true,` + meshTLS + `}},"filters":[` + tcpTo + `]}]}`
	passthrough = `{"name":"PassthroughCluster","type":"ORIGINAL_DST","lb_policy":"CLUSTER_PROVIDED"}`
	outbound    = `{"name":"outbound|8000||web.bar","type":"EDS","eds_cluster_config":{"eds_config":{"ads":{}}},"lb_policy":"LEAST_REQUEST","connect_timeout":"2s",
		"typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","use_downstream_protocol_config":{"http_protocol_options":{},"http2_protocol_options":{}}}},
		"transport_socket_matches":[{"name":"tlsMode-istio","match":{"tlsMode":"istio"},"transport_socket":{"name":"tls",` + typed + `extensions.transport_sockets.tls.v3.UpstreamTlsContext","sni":"outbound_.8000_._.web.bar",` + meshTLS + `}}},{"name":"plain","match":{},"transport_socket":{"name":"raw",` + typed + `extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}}]}`
	inbound    = `{"name":"inbound|8000||","type":"STATIC","load_assignment":{"cluster_name":"x","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":$PORT}}}}]}]}}`
	endpoints  = `{"cluster_name":"outbound|8000||web.bar","endpoints":[{"lb_endpoints":[{"metadata":{"filter_metadata":{"envoy.transport_socket_match":{"tlsMode":"$MODE"},"istio":{"workload":"web-1;bar;web;v1;cluster-2"}}},"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":$PORT}}}}]}]}`
	routes8000 = `{"name":"8000","virtual_hosts":[{"name":"web","domains":["web.bar","web.bar:8000"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"outbound|8000||web.bar","timeout":"0s"}}]}]}`
)

// mesh sets up client sidecar → server sidecar → backend.
func mesh(t testing.TB, backend netip.AddrPort) (client, server *node) {
	t.Helper()
	ca := mtlstest.NewCA(t, "root")
	server, client = start(t, ca.Identity(serverID)), start(t, ca.Identity(clientID))
	server.apply(typeCluster, res(t, typeCluster, inbound, "PORT", fmt.Sprint(backend.Port())))
	server.apply(typeListener, res(t, typeListener, virtualInbound, "CLUSTER", "inbound|8000||", "ALPN", `"h2","http/1.1"`))
	at, ok := server.Addr("virtualInbound")
	if !ok {
		t.Fatal("the inbound listener is not bound")
	}
	client.apply(typeListener,
		res(t, typeListener, virtualOutbound, "CLUSTER", "PassthroughCluster"),
		res(t, typeListener, serviceHTTP, "CLUSTER", "outbound|8000||web.bar"))
	client.apply(typeCluster, res(t, typeCluster, passthrough), res(t, typeCluster, outbound, "ALPN", `"istio-http/1.1","istio"`))
	client.apply(typeEndpoint, res(t, typeEndpoint, endpoints, "MODE", "istio", "PORT", fmt.Sprint(at.Port())))
	client.apply(typeRoute, res(t, typeRoute, routes8000))
	client.goingTo(netip.MustParseAddrPort("10.1.2.3:8000"))
	return client, server
}

// web is an HTTP backend that says what it saw.
func web(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s xfcc=%s", r.Method, r.Host, r.Header.Get("X-Forwarded-Client-Cert"))
	})}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { s.Close() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// get asks through the client's proxy.
func (n *node) get(host string) (int, string, error) {
	n.t.Helper()
	addr, ok := n.Addr("virtualOutbound")
	if !ok {
		n.t.Fatal("the outbound listener is not bound")
	}
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest("GET", "http://"+addr.String()+"/", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Host = host
	c := http.Client{Transport: tr, Timeout: 10 * time.Second}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestHTTPThroughTwoSidecars(t *testing.T) {
	client, _ := mesh(t, web(t))
	code, body, err := client.get("web.bar:8000")
	if err != nil || code != 200 {
		t.Fatalf("got %d %q, %v", code, body, err)
	}
	for _, want := range []string{"GET web.bar:8000", "By=" + serverID, "URI=" + clientID} {
		if !strings.Contains(body, want) {
			t.Errorf("the backend saw %q, not %q", body, want)
		}
	}
}

func TestTCPThroughTwoSidecars(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "server first")
			c.Close()
		}
	}()
	client, _ := mesh(t, ln.Addr().(*net.TCPAddr).AddrPort())
	// The mesh's TCP protocols instead of HTTP's, as for a TCP port.
	client.apply(typeCluster, res(t, typeCluster, outbound, "ALPN", `"istio-peer-exchange","istio"`))
	addr, _ := client.Addr("virtualOutbound")
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if b, err := io.ReadAll(c); err != nil || string(b) != "server first" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestEndpointsFollow: an update of endpoints takes effect with the next
// request, also from mTLS to plaintext.
func TestEndpointsFollow(t *testing.T) {
	client, _ := mesh(t, web(t))
	if code, body, err := client.get("web.bar"); err != nil || code != 200 || !strings.Contains(body, "URI="+clientID) {
		t.Fatalf("got %d %q, %v", code, body, err)
	}
	client.apply(typeEndpoint, res(t, typeEndpoint, endpoints, "MODE", "disabled", "PORT", fmt.Sprint(web(t).Port())))
	if code, body, err := client.get("web.bar"); err != nil || code != 200 || !strings.HasSuffix(body, "xfcc=") {
		t.Errorf("got %d %q, %v", code, body, err)
	}
	if err := client.Apply(typeEndpoint, nil, []string{"outbound|8000||web.bar"}); err != nil {
		t.Fatal(err)
	}
	if code, body, err := client.get("web.bar"); err != nil || code != 503 {
		t.Errorf("without endpoints: got %d %q, %v", code, body, err)
	}
}

// TestWarming: a listener waits for its routes, readiness for all.
func TestWarming(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	n := start(t, ca.Identity(clientID))
	ready := func(want string) {
		t.Helper()
		err := n.Ready()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("ready: %v, want %q", err, want)
		}
	}
	ready("no configuration")
	n.apply(typeListener, res(t, typeListener, virtualOutbound, "CLUSTER", "PassthroughCluster"),
		res(t, typeListener, serviceHTTP, "CLUSTER", "PassthroughCluster"))
	ready("no clusters")
	n.apply(typeCluster, res(t, typeCluster, outbound, "ALPN", `"istio"`))
	ready("0.0.0.0_8000")
	if got := fmt.Sprint(n.Wanted(typeRoute), n.Wanted(typeEndpoint)); got != "[8000] [outbound|8000||web.bar]" {
		t.Errorf("wanted: %s", got)
	}
	if d := n.ConfigDump().(Dump); len(d.Listeners) != 1 || len(d.Waiting) != 1 {
		t.Errorf("%d listeners in force and %d waiting, want one each", len(d.Listeners), len(d.Waiting))
	}
	n.apply(typeRoute, res(t, typeRoute, routes8000))
	ready("outbound|8000||web.bar")
	n.apply(typeEndpoint, res(t, typeEndpoint, endpoints, "MODE", "istio", "PORT", "1"))
	ready("")
	if err := n.Apply(typeListener, nil, []string{"0.0.0.0_8000"}); err != nil {
		t.Fatal(err)
	}
	if err := n.Apply(typeCluster, nil, []string{"outbound|8000||web.bar"}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(n.Wanted(typeRoute), n.Wanted(typeEndpoint)); got != "[] []" {
		t.Errorf("wanted at last: %s", got)
	}
	ready("")
	if _, err := json.Marshal(n.ConfigDump()); err != nil {
		t.Error(err)
	}
}

// TestReadyNamesTheSame: of several clusters that are waited for, the first by name is
// told of, each time.
func TestReadyNamesTheSame(t *testing.T) {
	n := start(t, mtlstest.NewCA(t, "root").Identity(clientID))
	n.apply(typeListener)
	var clusters []fetch.Resource
	for _, host := range []string{"d.bar", "b.bar", "a.bar", "c.bar"} {
		clusters = append(clusters, res(t, typeCluster, strings.ReplaceAll(outbound, "web.bar", host), "ALPN", `"istio"`))
	}
	n.apply(typeCluster, clusters...)
	for range 20 { // a map of four has no order
		if err := n.Ready(); err == nil || !strings.Contains(err.Error(), "||a.bar") || !strings.Contains(err.Error(), "4 clusters wait") {
			t.Fatalf("ready: %v", err)
		}
	}
}

// TestReadyWithoutEndpoints: what never comes does not hold readiness up for
// ever.
func TestReadyWithoutEndpoints(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	n := start(t, ca.Identity(clientID))
	now := time.Now()
	n.now = func() time.Time { return now }
	n.apply(typeListener)
	n.apply(typeCluster, res(t, typeCluster, outbound, "ALPN", `"istio"`))
	if n.Ready() == nil {
		t.Error("ready at once")
	}
	now = now.Add(warmGrace)
	if err := n.Ready(); err != nil {
		t.Error(err)
	}
}

// TestRefused: a bad resource is refused by name and leaves the good ones of
// the update, and its own former version, in force.
func TestRefused(t *testing.T) {
	client, _ := mesh(t, web(t))
	bad := strings.Replace(outbound, `"LEAST_REQUEST"`, `"LOAD_BALANCING_POLICY_CONFIG"`, 1)
	err := client.Apply(typeCluster, []fetch.Resource{
		res(t, typeCluster, bad, "ALPN", `"istio"`),
		res(t, typeCluster, inbound, "PORT", "1"),
		{Name: "another name", Body: res(t, typeCluster, passthrough).Body},
	}, nil)
	var r *fetch.RejectError
	if !errors.As(err, &r) || len(r.Reasons) != 2 {
		t.Fatalf("got %v", err)
	}
	if why := r.Reasons["outbound|8000||web.bar"]; why == nil || !strings.Contains(why.Error(), "lb_policy") {
		t.Errorf("the reason is %v", why)
	}
	if r.Reasons["another name"] == nil {
		t.Error("a resource under another name was taken")
	}
	if client.clusters.Get("inbound|8000||") == nil {
		t.Error("a good cluster of the same update is missing")
	}
	if code, _, err := client.get("web.bar"); err != nil || code != 200 {
		t.Errorf("the former version is not in force: %d, %v", code, err)
	}
	if err := client.Apply("type.googleapis.com/other", nil, nil); err == nil {
		t.Error("an unknown type was taken")
	}
}

// TestOtherClustersUntouched: the endpoints of one cluster change that cluster
// alone.
func TestOtherClustersUntouched(t *testing.T) {
	client, _ := mesh(t, web(t))
	other := strings.ReplaceAll(outbound, "web.bar", "other.bar")
	client.apply(typeCluster, res(t, typeCluster, other, "ALPN", `"istio"`))
	client.apply(typeEndpoint, res(t, typeEndpoint, strings.ReplaceAll(endpoints, "web.bar", "other.bar"), "MODE", "istio", "PORT", "1"))
	before := client.clusters.Get("outbound|8000||other.bar")
	eps := before.Endpoints()
	client.apply(typeEndpoint, res(t, typeEndpoint, endpoints, "MODE", "istio", "PORT", "2"))
	after := client.clusters.Get("outbound|8000||other.bar")
	if after != before || after.Endpoints()[0] != eps[0] || eps[0].Retired() {
		t.Error("another cluster was touched")
	}
}

// TestShutdown: Run ends with every connection, also a draining one.
func TestShutdown(t *testing.T) {
	client, server := mesh(t, web(t))
	addr, _ := client.Addr("virtualOutbound")
	idle, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	client.Drain()
	if code, _, err := client.get("web.bar"); err != nil || code != 200 {
		t.Errorf("a draining proxy answered %d, %v", code, err)
	}
	client.stop()
	server.stop()
	if err := client.Apply(typeCluster, nil, nil); err == nil {
		t.Error("an update after the end was taken")
	}
	if n := client.Active(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
