package dataplane

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/bench/report"
	"github.com/isthmus-mesh/isthmus/bench/upstream"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/test/rig/mesh"
	"github.com/isthmus-mesh/isthmus/test/rig/peers"
	"github.com/isthmus-mesh/isthmus/test/rig/pki"
	"github.com/isthmus-mesh/isthmus/test/rig/topo"
)

// Options say what to measure.
type Options struct {
	// Self is this program's binary, Discovery that of bench/discovery, and Dir
	// a directory for files that the proxy user can reach.
	Self, Discovery, Dir string
	Root                 *pki.Root
	// IsthmusProxy and Envoy are binaries.
	IsthmusProxy, Envoy string
	// Lanes are the contenders; all when empty.
	Lanes []string
	Quick bool
	// Profiles, if not empty, is a directory for profiles of isthmus-proxy,
	// which are then taken instead of figures.
	Profiles string
}

// The mesh around the pods that are measured.
const (
	meshServices  = 1000
	meshEndpoints = 10
	namespace     = "bench"
)

// The ports of the discovery process on its node.
const (
	portPlain   = 15010
	portTLS     = 15012
	portControl = 15099
)

// bench is the nodes and processes of a run.
type bench struct {
	o         Options
	net       *topo.Net
	plain     *topo.Node // the upstream without a proxy
	control   *topo.Node
	discovery *mesh.Process
	lanes     []*lane
	scene     mesh.Scene
	nextAddr  netip.Addr
	stop      context.CancelFunc
}

// Run measures all contenders and adds the figures to the report.
func Run(ctx context.Context, o Options, r *report.Report) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	b := &bench{o: o, nextAddr: netip.MustParseAddr("10.77.0.1"), stop: stop}
	defer b.close()
	if err := b.build(ctx); err != nil {
		return fmt.Errorf("data plane: %w", err)
	}
	if o.Profiles != "" {
		return b.profiles(ctx, o.Profiles)
	}
	if err := b.measure(ctx, r); err != nil {
		return fmt.Errorf("data plane: %w", err)
	}
	return nil
}

func (b *bench) close() {
	for _, l := range b.lanes {
		for _, p := range []*peers.Proxy{l.near, l.far} {
			if p != nil {
				p.Stop()
				p.WaitGone()
			}
		}
	}
	if b.discovery != nil {
		b.discovery.Stop()
	}
	b.stop()
	if b.net != nil {
		b.net.Close()
	}
}

func (b *bench) node(name string) (*topo.Node, error) {
	addr := b.nextAddr
	b.nextAddr = addr.Next()
	return b.net.Add(name, addr)
}

// build makes the nodes, the upstreams and all contenders.
func (b *bench) build(ctx context.Context) error {
	var err error
	if b.net, err = topo.New(); err != nil {
		return err
	}
	if b.plain, err = b.node("plain"); err != nil {
		return err
	}
	if err := startUpstream(ctx, b.o.Self, b.plain); err != nil {
		return err
	}

	for _, name := range []string{Direct, HAProxy, Nginx, Isthmus, Envoy} {
		if len(b.o.Lanes) > 0 && !slices.Contains(b.o.Lanes, name) {
			continue
		}
		l := &lane{name: name}
		if l.client, err = b.node("client-" + name); err != nil {
			return err
		}
		if l.server, err = b.node("server-" + name); err != nil {
			return err
		}
		if err := startUpstream(ctx, b.o.Self, l.server); err != nil {
			return err
		}
		b.lanes = append(b.lanes, l)
	}

	if err := b.startDiscovery(ctx); err != nil {
		return err
	}
	for _, binary := range []*string{&b.o.IsthmusProxy, &b.o.Envoy} {
		if *binary, err = peers.Install(*binary, b.o.Dir); err != nil {
			return err
		}
	}

	var g errgroup.Group
	for _, l := range b.lanes {
		g.Go(func() error { return b.startLane(ctx, l) })
	}
	return g.Wait()
}

func (b *bench) startLane(ctx context.Context, l *lane) error {
	switch l.name {
	case Direct:
		l.target = func(s scenario) target {
			if s.way == OneHop {
				return at(b.plain.Addr, s.port)
			}
			return at(l.server.Addr, s.port)
		}
		return nil
	case HAProxy, Nginx:
		return b.startClassic(l)
	}
	l.target = func(s scenario) target {
		svc := b.service(serviceName(l.name, s.way))
		return target{addr: netip.AddrPortFrom(svc.VIP, uint16(s.port)), authority: fmt.Sprintf("%s:%d", svc.Host(), s.port)}
	}
	var g errgroup.Group
	g.Go(func() (err error) {
		l.far, err = b.startMesh(ctx, l, l.server, podName("server", l.name))
		return err
	})
	g.Go(func() (err error) {
		l.near, err = b.startMesh(ctx, l, l.client, podName("client", l.name))
		return err
	})
	return g.Wait()
}

func at(addr netip.Addr, port int) target {
	ap := netip.AddrPortFrom(addr, uint16(port))
	return target{addr: ap, authority: ap.String()}
}

func (b *bench) startClassic(l *lane) error {
	l.target = func(s scenario) target {
		shift := peers.PlainShift
		if s.way == TwoHops {
			shift = peers.SecureShift
		}
		return at(netip.AddrFrom4([4]byte{127, 0, 0, 1}), s.port+shift)
	}
	start := peers.StartHAProxy
	if l.name == Nginx {
		start = peers.StartNginx
	}
	c := peers.Classic{Dir: b.o.Dir, Plain: b.plain.Addr.String(), Server: l.server.Addr.String(), Root: b.o.Root,
		HTTP1: upstream.PortHTTP1, HTTP2: upstream.PortHTTP2, GRPC: upstream.PortGRPC, TCP: upstream.PortTCP}
	far, near := c, c
	far.Node, far.Role = l.server, peers.ServerSide
	near.Node, near.Role = l.client, peers.ClientSide
	var err error
	if l.far, err = start(&far); err != nil {
		return err
	}
	l.near, err = start(&near)
	return err
}

func (b *bench) meshConfig(node *topo.Node, pod string) *peers.Mesh {
	addr := b.control.Addr
	return &peers.Mesh{Node: node, Dir: b.o.Dir,
		Discovery:    netip.AddrPortFrom(addr, portPlain).String(),
		DiscoveryTLS: netip.AddrPortFrom(addr, portTLS).String(), ServerName: mesh.ServerName,
		Pod: pod, Namespace: namespace, Account: pod, Labels: map[string]string{"app": pod},
		Cluster: mesh.Cluster, Network: mesh.Network, Region: mesh.Region,
		RootPEM: b.o.Root.PEM(), Token: mesh.Token(namespace, pod)}
}

func (b *bench) startMesh(ctx context.Context, l *lane, node *topo.Node, pod string) (*peers.Proxy, error) {
	if err := peers.Redirect(b.o.IsthmusProxy, node, ""); err != nil {
		return nil, err
	}
	if l.name == Envoy {
		return peers.StartEnvoy(ctx, b.o.Envoy, b.meshConfig(node, pod))
	}
	return peers.StartIsthmus(ctx, b.o.IsthmusProxy, b.meshConfig(node, pod))
}

func podName(side, lane string) string { return side + "-" + lane }

// serviceName is the service that a lane's requests go to: all lanes share the
// one without proxies.
func serviceName(lane string, w Way) string {
	if w == OneHop {
		return "plain"
	}
	return podName("server", lane)
}

func (b *bench) service(name string) *mesh.Service {
	for i := range b.scene.Named {
		if b.scene.Named[i].Name == name {
			return &b.scene.Named[i]
		}
	}
	return nil
}

// startDiscovery describes the lanes' pods as a mesh of the usual size and
// serves it.
func (b *bench) startDiscovery(ctx context.Context) error {
	var err error
	if b.control, err = b.node("control"); err != nil {
		return err
	}
	b.scene = mesh.Scene{Services: meshServices, Endpoints: meshEndpoints}
	b.addPod("plain", b.plain, false)
	b.addService("plain")
	for _, l := range b.lanes {
		if l.name != Isthmus && l.name != Envoy {
			continue
		}
		b.addPod(podName("client", l.name), l.client, true)
		b.addPod(podName("server", l.name), l.server, true)
		b.addService(podName("server", l.name))
	}
	on := func(port uint16) string { return netip.AddrPortFrom(b.control.Addr, port).String() }
	b.discovery, err = mesh.Start(ctx, b.o.Discovery, b.o.Dir, mesh.Config{Scene: b.scene, RootDir: b.o.Dir,
		Plain: on(portPlain), TLS: on(portTLS), Control: on(portControl)}, b.control.Start, b.control.Dial)
	return err
}

func (b *bench) addPod(name string, node *topo.Node, injected bool) {
	b.scene.Pods = append(b.scene.Pods, mesh.Pod{Name: name, Namespace: namespace, Account: name, Addr: node.Addr,
		Labels: map[string]string{"app": name}, Injected: injected})
}

func (b *bench) addService(pod string) {
	b.scene.Named = append(b.scene.Named, mesh.Service{Name: pod, Namespace: namespace,
		VIP:  netip.AddrFrom4([4]byte{10, 96, 0, byte(len(b.scene.Named) + 1)}),
		Pods: []string{pod},
		Ports: []mesh.Port{
			{Name: "http", Number: upstream.PortHTTP1, Protocol: model.HTTP},
			{Name: "http2", Number: upstream.PortHTTP2, Protocol: model.HTTP2},
			{Name: "grpc", Number: upstream.PortGRPC, Protocol: model.GRPC},
			{Name: "tcp", Number: upstream.PortTCP, Protocol: model.TCP},
		}})
}

// lane finds a contender; nil when it does not take part.
func (b *bench) lane(name string) *lane {
	for _, l := range b.lanes {
		if l.name == name {
			return l
		}
	}
	return nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
