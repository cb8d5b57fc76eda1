package envoy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/test/rig/mesh"
	"github.com/isthmus-mesh/isthmus/test/rig/meter"
	"github.com/isthmus-mesh/isthmus/test/rig/peers"
	"github.com/isthmus-mesh/isthmus/test/rig/pki"
	"github.com/isthmus-mesh/isthmus/test/rig/topo"
)

const (
	namespace   = "bench"
	gatewaySpc  = "istio-system"
	portGateway = 15443

	portHTTP = 8080
	portH2   = 8081
	portGRPC = 8082
	portTCP  = 8083
)

func ports() []mesh.Port {
	return []mesh.Port{
		{Name: "http", Number: portHTTP, Protocol: model.HTTP},
		{Name: "http2", Number: portH2, Protocol: model.HTTP2},
		{Name: "grpc", Number: portGRPC, Protocol: model.GRPC},
		{Name: "tcp", Number: portTCP, Protocol: model.TCP},
	}
}

// pod is a workload with its proxy: client and server in one.
type pod struct {
	kind  string // envoy or isthmus
	node  *topo.Node
	proxy *peers.Proxy
}

// world is a mesh with one pod and one gateway of each kind.
type world struct {
	net      *topo.Net
	dir      string
	root     *pki.Root
	scene    mesh.Scene
	control  *topo.Node
	outsider *topo.Node // no proxy, no certificate
	pods     map[string]*pod
	gateways map[string]*pod
	refusals *refusals
	binaries map[string]string
	next     netip.Addr
}

// kinds are the two data planes.
func kinds() []string { return []string{"envoy", "isthmus"} }

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	envoy, err := peers.FindEnvoy(t.Context(), os.Getenv("ENVOY"))
	if err != nil {
		t.Skip(err)
	}
	w := &world{dir: t.TempDir(), pods: map[string]*pod{}, gateways: map[string]*pod{},
		refusals: &refusals{Handler: slog.DiscardHandler}, next: netip.MustParseAddr("10.78.0.1")}
	// The proxies' user must get to the files.
	for d := w.dir; strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	envoy, err = peers.Install(envoy, w.dir)
	must(t, err)
	w.binaries = map[string]string{"envoy": envoy, "isthmus": buildProxy(t, w.dir)}
	w.root, err = pki.NewRoot()
	must(t, err)
	must(t, w.root.Save(w.dir))
	w.net, err = topo.New()
	must(t, err)
	t.Cleanup(w.net.Close)
	w.control, w.outsider = w.node(t, "control"), w.node(t, "outsider")
	for _, k := range kinds() {
		w.pods[k] = &pod{kind: k, node: w.node(t, "pod-"+k)}
		w.gateways[k] = &pod{kind: k, node: w.node(t, "gateway-"+k)}
	}
	w.describe()
	w.startDiscovery(t)
	for _, k := range kinds() {
		w.serve(t, w.pods[k].node)
		w.startPod(t, w.pods[k])
		w.startGateway(t, w.gateways[k])
	}
	return w
}

func buildProxy(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(dir, "isthmus-proxy")
	cmd := exec.Command("go", "build", "-o", out, "github.com/isthmus-mesh/isthmus/cmd/isthmus-proxy")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build isthmus-proxy: %v: %s", err, msg)
	}
	return out
}

func (w *world) node(t *testing.T, name string) *topo.Node {
	t.Helper()
	n, err := w.net.Add(name, w.next)
	must(t, err)
	w.next = w.next.Next()
	return n
}

// describe writes the scene: a service per pod, and for each pair of gateway
// and pod the name under which another cluster would reach the pod through the
// gateway, and a service that only the other cluster has, in a network into which
// the gateway leads. The gateways are the other cluster's. Everything is strict: what is not mutual TLS is refused.
func (w *world) describe() {
	w.scene = mesh.Scene{Services: 20, Endpoints: 3, Strict: true}
	vip := netip.MustParseAddr("10.96.0.1")
	for _, k := range kinds() {
		p := w.pods[k]
		w.scene.Pods = append(w.scene.Pods, mesh.Pod{Name: k, Namespace: namespace, Account: k, Addr: p.node.Addr,
			Labels: map[string]string{"app": k}, Injected: true})
		w.scene.Named = append(w.scene.Named, mesh.Service{Name: k, Namespace: namespace, VIP: vip, Ports: ports(), Pods: []string{k}})
		vip = vip.Next()
		g := w.gateways[k]
		labels := map[string]string{"istio": "gateway-" + k}
		w.scene.Pods = append(w.scene.Pods, mesh.Pod{Name: "gateway-" + k, Namespace: gatewaySpc, Account: "gateway-" + k,
			Addr: g.node.Addr, Labels: labels, Far: true})
		w.scene.Gateways = append(w.scene.Gateways, mesh.Gateway{Name: k, Namespace: gatewaySpc, Selector: labels,
			Port: portGateway, Hosts: []string{"*.global", "*.local"}})
	}
	for _, through := range kinds() {
		to := other(through)
		w.scene.Far = append(w.scene.Far, mesh.Far{
			Service: mesh.Service{Name: "far-" + to, Namespace: namespace, VIP: vip, Ports: ports(), Pods: []string{to}},
			Network: "network-" + through, Gateway: netip.AddrPortFrom(w.gateways[through].node.Addr, portGateway),
		})
	}
	entry := netip.MustParseAddr("240.240.0.1")
	for _, through := range kinds() {
		// One host can lead through one gateway only: each gateway has the
		// pod of the other kind behind it.
		to := other(through)
		w.scene.Entries = append(w.scene.Entries, mesh.Entry{Host: globalHost(to), VIP: entry,
			Port:     mesh.Port{Name: "http", Number: portHTTP, Protocol: model.HTTP},
			Endpoint: netip.AddrPortFrom(w.gateways[through].node.Addr, portGateway)})
		entry = entry.Next()
	}
}

func other(kind string) string {
	if kind == "envoy" {
		return "isthmus"
	}
	return "envoy"
}

func globalHost(kind string) string { return kind + "." + namespace + ".global" }

func (w *world) startDiscovery(t *testing.T) {
	t.Helper()
	on := func(port uint16) string { return netip.AddrPortFrom(w.control.Addr, port).String() }
	cfg := mesh.Config{Scene: w.scene, RootDir: w.dir, Plain: on(15010), TLS: on(15012), Control: on(15014)}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mesh.Run(ctx, cfg, slog.New(w.refusals), w.control.Listen) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("discovery: %v", err)
		}
	})
	eventually(t, func() error {
		c, err := w.control.Dial(cfg.TLS)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

func (w *world) config(node *topo.Node, name, ns string, labels map[string]string) *peers.Mesh {
	addr := w.control.Addr.String()
	return &peers.Mesh{Node: node, Dir: w.dir, Discovery: addr + ":15010", DiscoveryTLS: addr + ":15012",
		ServerName: mesh.ServerName, Pod: name, Namespace: ns, Account: name, Labels: labels,
		Cluster: mesh.Cluster, Network: mesh.Network, Region: mesh.Region,
		RootPEM: w.root.PEM(), Token: mesh.Token(ns, name)}
}

func (w *world) start(t *testing.T, p *pod, m *peers.Mesh) {
	t.Helper()
	start := peers.StartEnvoy
	if p.kind == "isthmus" {
		start = peers.StartIsthmus
	}
	proxy, err := start(t.Context(), w.binaries[p.kind], m)
	must(t, err)
	p.proxy = proxy
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(proxy.LogFile)
			t.Logf("%s on %s:\n%s", proxy.Name, proxy.Node.Name, log[max(0, len(log)-3000):])
		}
		proxy.Stop()
	})
}

func (w *world) startPod(t *testing.T, p *pod) {
	t.Helper()
	m := w.config(p.node, p.kind, namespace, map[string]string{"app": p.kind})
	if p.kind == "isthmus" {
		m.ResolvConf = w.nameServer(t)
	}
	must(t, peers.Redirect(w.binaries["isthmus"], p.node, m.ResolvConf))
	w.start(t, p, m)
}

func (w *world) startGateway(t *testing.T, p *pod) {
	t.Helper()
	name := "gateway-" + p.kind
	m := w.config(p.node, name, gatewaySpc, map[string]string{"istio": name})
	m.Gateway, m.Cluster, m.Network = true, mesh.FarCluster, ""
	w.start(t, p, m)
	eventually(t, func() error {
		c, err := w.outsider.Dial(netip.AddrPortFrom(p.node.Addr, portGateway).String())
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// service is the address and the host of a pod's service.
func (w *world) service(kind string) (netip.Addr, string) {
	for i := range w.scene.Named {
		if s := &w.scene.Named[i]; s.Name == kind {
			return s.VIP, s.Host()
		}
	}
	panic("no service " + kind)
}

// serve runs the application of a pod: HTTP that answers with who called, a
// gRPC service, and a TCP server that answers each line.
func (w *world) serve(t *testing.T, node *topo.Node) {
	t.Helper()
	listen := func(port uint16) net.Listener {
		l, err := node.Listen(netip.AddrPortFrom(netip.IPv4Unspecified(), port).String())
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	web := &http.Server{Protocols: &protocols, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(whoCalls)}
	for _, port := range []uint16{portHTTP, portH2} {
		l := listen(port)
		go func() { _ = web.Serve(l) }()
	}
	t.Cleanup(func() { _ = web.Close() })
	g := grpc.NewServer()
	grpc_testing.RegisterBenchmarkServiceServer(g, &unary{})
	gl := listen(portGRPC)
	go func() { _ = g.Serve(gl) }()
	t.Cleanup(g.Stop)
	tl := listen(portTCP)
	go serveTCP(tl)
}

// whoCalls answers with the protocol and the client's identity as the proxy
// tells it.
func whoCalls(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(rw, "%s\n%s\n%s\n%d\n", r.Proto, r.Host, r.Header.Get("X-Forwarded-Client-Cert"), len(body))
}

type unary struct {
	grpc_testing.UnimplementedBenchmarkServiceServer
}

func (*unary) UnaryCall(_ context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Payload: r.GetPayload()}, nil
}

func serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			_, _ = io.Copy(c, c)
		}()
	}
}

// refusals is a log handler that keeps what proxies refused.
type refusals struct {
	slog.Handler
	mu   sync.Mutex
	seen []string
}

func (r *refusals) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (r *refusals) WithAttrs([]slog.Attr) slog.Handler           { return r }
func (r *refusals) WithGroup(string) slog.Handler                { return r }
func (r *refusals) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, line)
	return nil
}

func (r *refusals) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.seen...)
}

// admin fetches a page of Envoy's admin interface.
func (p *pod) admin(t *testing.T, path string) string {
	t.Helper()
	page, err := meter.Get(t.Context(), p.node.Dial, "http://127.0.0.1:15000"+path)
	must(t, err)
	return string(page)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually tries for a few seconds.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
