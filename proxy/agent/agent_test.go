package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/proxy"
	"github.com/isthmus-mesh/isthmus/proxy/agent"
	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// fixedView always has the same resources.
type fixedView map[string]map[string]*serve.Resource

func (v fixedView) Key() string { return "fixed" }

func (v fixedView) Resources(typeURL string, names []string) (serve.Set, <-chan struct{}, error) {
	out := map[string]*serve.Resource{}
	for n, r := range v[typeURL] {
		out[n] = r
	}
	return serve.NewSet(out), make(chan struct{}), nil
}

func (v fixedView) View(_ context.Context, n serve.Node) (serve.View, <-chan struct{}, error) {
	if n.Cluster != "c2" {
		return nil, nil, fmt.Errorf("proven is cluster %q: no token came beside the certificate, or no name of its cluster", n.Cluster)
	}
	return v, make(chan struct{}), nil
}

func (v fixedView) add(t *testing.T, typeURL, name string, m proto.Message) {
	t.Helper()
	body, err := anypb.New(m)
	check(t, err)
	if v[typeURL] == nil {
		v[typeURL] = map[string]*serve.Resource{}
	}
	v[typeURL][name] = &serve.Resource{Name: name, Version: "1", Body: body}
}

func address(a netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

// discovery is a control plane on loopback: CA and ADS, with one TCP listener
// that leads to backend.
type discovery struct {
	t         *testing.T
	addr      string
	authority *ca.Authority
	auth      *ca.Authenticator
	view      fixedView
	source    serve.Source // instead of view, when there is one
	server    *grpc.Server
	stop      func()
}

func newDiscovery(t *testing.T, backend netip.AddrPort) *discovery {
	t.Helper()
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		tr := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if tr.Spec.Token == "good" {
			tr.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: tr.Spec.Audiences,
				User: authenticationv1.UserInfo{Username: "system:serviceaccount:shop:web"}}
		}
		return true, tr, nil
	})
	d := &discovery{t: t, view: fixedView{}}
	var err error
	d.authority, err = ca.Load(t.Context(), client, ca.Config{})
	check(t, err)
	// The proxies' tokens are of another cluster, whose API server is client.
	d.auth, err = ca.NewAuthenticator(fake.NewClientset(), ca.AuthConfig{Cluster: "c1", Remote: func(cluster string) kubernetes.Interface {
		if cluster != "c2" {
			return nil
		}
		return client
	}})
	check(t, err)
	filter, err := anypb.New(&tcpv3.TcpProxy{StatPrefix: "echo", ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: "echo"}})
	check(t, err)
	d.view.add(t, xds.TypeListener, "front", &listenerv3.Listener{
		Name: "front", Address: address(netip.MustParseAddrPort("127.0.0.1:0")),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.tcp_proxy", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: filter},
		}}}},
	})
	d.view.add(t, xds.TypeCluster, "echo", &clusterv3.Cluster{
		Name: "echo", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, ConnectTimeout: durationpb.New(time.Second),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: "echo", Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(backend)}}}},
		}}},
	})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	d.addr = lis.Addr().String()
	lis.Close()
	return d
}

// start serves at the address that was given to the proxy from the beginning.
func (d *discovery) start() {
	d.t.Helper()
	lis, err := net.Listen("tcp", d.addr)
	check(d.t, err)
	source := d.source
	if source == nil {
		source = d.view
	}
	xds := serve.New(source, d.auth, serve.Config{})
	d.server = grpc.NewServer(append(xds.GRPCOptions(), grpc.Creds(credentials.NewTLS(d.authority.ServerTLS([]string{"istiod.istio-system.svc"}))))...)
	xds.Register(d.server)
	ca.NewService(d.authority, d.auth).Register(d.server)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- xds.Run(ctx) }()
	go func() { done <- d.server.Serve(lis) }()
	d.stop = func() {
		cancel()
		<-done
		d.server.Stop()
		<-done
	}
}

// running is an agent under test.
type running struct {
	*agent.Agent
	engine *proxy.Proxy
	addrs  agent.Addresses
	cancel context.CancelFunc
	done   chan error
}

// engine fits proxy.Proxy to agent.Engine, as the command does.
type engine struct{ *proxy.Proxy }

func (engine) ListenerDump() any { return []string{} }

func startAgent(t *testing.T, d *discovery, dir string, edit func(*agent.Config)) *running {
	t.Helper()
	cfg := agent.Config{
		Kind: agent.Router, Pod: "web-1", Namespace: "shop", ServiceAccount: "web", IP: netip.MustParseAddr("127.0.0.1"),
		Discovery: d.addr, ServerName: "istiod.istio-system.svc",
		TokenFile: filepath.Join(dir, "token"), RootFile: filepath.Join(dir, "root-cert.pem"), StateDir: dir,
		LabelsFile: filepath.Join(dir, "labels"),
		Meta:       map[string]string{"CLUSTER_ID": "c2"},
		DrainFor:   2 * time.Second,
		Ports:      agent.Ports{Host: "127.0.0.1"},
		Logger:     slog.New(slog.DiscardHandler), Level: new(slog.LevelVar), Registry: prometheus.NewRegistry(),
	}
	if edit != nil {
		edit(&cfg)
	}
	id, err := agent.NewIdentity(cfg)
	check(t, err)
	p, err := proxy.New(proxy.Config{Identity: id, Registerer: cfg.Registry})
	check(t, err)
	cfg.Identity, cfg.Engine = id, engine{p}
	a, err := agent.New(cfg)
	check(t, err)
	r := &running{Agent: a, engine: p, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- a.Run(ctx) }()
	r.addrs, err = a.Addresses(ctx)
	check(t, err)
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.cancel()
	check(t, <-r.done)
}

func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	check(t, err)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := c.Do(req)
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// echoServer answers what it is told.
func echoServer(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

func exchange(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "hello"); err != nil {
		return err
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != "hello" {
		return fmt.Errorf("echo says %q", buf)
	}
	return nil
}

func write(t *testing.T, dir, name, data string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600))
}

func TestLifeOfAProxy(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	dir := t.TempDir()
	write(t, dir, "labels", "app=\"web\"\nversion=\"v1\"\n")
	// A gateway would end a connection that is quiet.
	r := startAgent(t, d, dir, func(c *agent.Config) { c.Kind = agent.Sidecar })
	ready := func() (int, string) { return get(t, "GET", "http://"+r.addrs.Health+"/healthz/ready") }
	says := func(text string) func() bool {
		return func() bool {
			code, body := ready()
			return code == http.StatusServiceUnavailable && strings.HasPrefix(body, "not ready: ") && strings.Contains(body, text)
		}
	}
	eventually(t, "the missing root is named", says("root-cert.pem is not there"))
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	eventually(t, "the missing token is named", says("no certificate yet: there is no service account token in "+filepath.Join(dir, "token")))
	write(t, dir, "token", "good")
	eventually(t, "the unreachable CA is named", says("no certificate yet: ask CA "+d.addr+": Unavailable: "))
	d.start()
	eventually(t, "ready", func() bool { code, _ := ready(); return code == 200 })

	front, ok := r.engine.Addr("front")
	if !ok {
		t.Fatal("the listener is not bound")
	}
	conn, err := net.Dial("tcp", front.String())
	check(t, err)
	defer conn.Close()
	check(t, exchange(conn))

	// Discovery goes: the proxy stays.
	d.stop()
	eventually(t, "the loss is told", func() bool {
		_, body := get(t, "GET", "http://"+r.addrs.Admin+"/server_info")
		return strings.Contains(body, "discovery "+d.addr+": ")
	})
	if code, body := ready(); code != 200 {
		t.Errorf("not ready without discovery: %s", body)
	}
	check(t, exchange(conn))

	// SIGTERM: the open connection is waited for, and served meanwhile.
	r.cancel()
	eventually(t, "draining", says("draining"))
	check(t, exchange(conn))
	start := time.Now()
	conn.Close()
	check(t, <-r.done)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the end took %s after the last connection", took)
	}
}

func TestUnreachableDiscoveryIsNamed(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	dir := t.TempDir()
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	write(t, dir, "token", "good")
	d.start()
	first := startAgent(t, d, dir, nil)
	eventually(t, "ready", func() bool { return first.Ready() == nil })
	first.end(t)
	d.stop()
	check(t, os.Remove(filepath.Join(dir, "configuration.gz")))

	// The container restarts while discovery is away: it has its certificate, and
	// no configuration.
	r := startAgent(t, d, dir, nil)
	defer r.end(t)
	want := "not ready: no configuration yet: cannot reach discovery " + d.addr + ": "
	eventually(t, "discovery is named", func() bool {
		err := r.Ready()
		return err != nil && strings.HasPrefix(err.Error(), want) && strings.Contains(err.Error(), "connection refused")
	})
	d.start()
	defer d.stop()
	eventually(t, "ready again", func() bool { return r.Ready() == nil })
}

func TestAdminAndQuit(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	dir := t.TempDir()
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	write(t, dir, "token", "good")
	d.start()
	defer d.stop()
	r := startAgent(t, d, dir, nil)
	eventually(t, "ready", func() bool { return r.Ready() == nil })
	for _, page := range []string{"/config_dump", "/clusters", "/listeners", "/certs", "/server_info"} {
		code, body := get(t, "GET", "http://"+r.addrs.Admin+page)
		if code != 200 || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %.200s", page, code, body)
		}
		if strings.Contains(body, "PRIVATE KEY") {
			t.Errorf("%s shows a private key", page)
		}
	}
	if _, body := get(t, "GET", "http://"+r.addrs.Admin+"/certs"); !strings.Contains(body, "spiffe://cluster.local/ns/shop/sa/web") {
		t.Errorf("/certs: %s", body)
	}
	for _, addr := range []string{r.addrs.Status, r.addrs.Metrics} {
		if _, body := get(t, "GET", "http://"+addr+"/stats/prometheus"); !strings.Contains(body, "isthmus_proxy_xds_connected 1") {
			t.Errorf("metrics at %s lack the stream's state", addr)
		}
	}
	if code, body := get(t, "POST", "http://"+r.addrs.Admin+"/logging?level=debug"); code != 200 || body != "DEBUG" {
		t.Errorf("/logging: %d %s", code, body)
	}
	if code, _ := get(t, "POST", "http://"+r.addrs.Admin+"/logging?level=loud"); code != 400 {
		t.Errorf("/logging takes level loud: %d", code)
	}
	if code, _ := get(t, "GET", "http://"+r.addrs.Status+"/quitquitquit"); code != http.StatusMethodNotAllowed {
		t.Errorf("GET /quitquitquit: %d", code)
	}
	if code, _ := get(t, "POST", "http://"+r.addrs.Status+"/quitquitquit"); code != 200 {
		t.Errorf("POST /quitquitquit: %d", code)
	}
	select {
	case err := <-r.done:
		check(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("no end after /quitquitquit")
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	d := newDiscovery(t, netip.MustParseAddrPort("127.0.0.1:1"))
	cfg := agent.Config{Kind: agent.Router, Pod: "p", Namespace: "n", ServiceAccount: "s", IP: netip.MustParseAddr("127.0.0.1"),
		Discovery: d.addr, RootFile: "x", TokenFile: "x", Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Ports: agent.Ports{Host: "127.0.0.1", Health: uint16(l.Addr().(*net.TCPAddr).Port)}}
	id, err := agent.NewIdentity(cfg)
	check(t, err)
	p, err := proxy.New(proxy.Config{Identity: id, Registerer: cfg.Registry})
	check(t, err)
	cfg.Engine = engine{p}
	a, err := agent.New(cfg)
	check(t, err)
	err = a.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "open the health port") || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	check(t, p.Run(ctx))
}

// TestDrillByAdminPort: what is asked for wrongly, or cannot be, is answered as such.
func TestDrillByAdminPort(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	dir := t.TempDir()
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	write(t, dir, "token", "good")
	d.start()
	defer d.stop()
	r := startAgent(t, d, dir, nil)
	defer r.end(t)
	for query, want := range map[string]int{
		"":                             400,
		"?lease=-1s":                   400,
		"?host=a.b&cluster=c&lease=5s": 409,
		"?host=a.b&cluster=c&lease=1h": 409,
		"?host=a.b&cluster=c&lease=0s": 200,
	} {
		if code, body := get(t, "POST", "http://"+r.addrs.Admin+"/drill"+query); code != want {
			t.Errorf("%q: %d %s, want %d", query, code, body, want)
		}
	}
}

// TestSidecarDrain: /drain asks callers from outside to go elsewhere, the
// application's own calls go on; at the end the proxy waits for the last of
// them, and with DrainUntilIdle for longer than DrainFor.
func TestSidecarDrain(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	dir := t.TempDir()
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	write(t, dir, "token", "good")
	d.start()
	defer d.stop()
	r := startAgent(t, d, dir, func(c *agent.Config) {
		c.Kind, c.DrainFor, c.DrainAtLeast, c.DrainUntilIdle = agent.Sidecar, 50*time.Millisecond, 100*time.Millisecond, true
	})
	eventually(t, "ready", func() bool { return r.Ready() == nil })
	front, _ := r.engine.Addr("front")
	conn, err := net.Dial("tcp", front.String())
	check(t, err)
	defer conn.Close()
	check(t, exchange(conn))

	if code, body := get(t, "POST", "http://"+r.addrs.Admin+"/drain"); code != 200 || body != "draining" {
		t.Errorf("/drain: %d %s", code, body)
	}
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "draining") {
		t.Errorf("it is ready while it drains: %v", err)
	}
	check(t, exchange(conn))
	late, err := net.Dial("tcp", front.String())
	check(t, err)
	check(t, exchange(late))
	late.Close()

	r.cancel()
	time.Sleep(400 * time.Millisecond)
	check(t, exchange(conn))
	select {
	case err := <-r.done:
		t.Fatalf("it ended with a connection open: %v", err)
	default:
	}
	conn.Close()
	select {
	case err := <-r.done:
		check(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("it did not end after the last connection")
	}
}
