// Package controlplane measures discovery: a process of its own over a made-up
// mesh, and a fleet of simulated proxies on real streams over loopback. What
// counts is processor time, bytes and memory of the server, and the time until
// the last proxy has acknowledged.
package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/bench/fleet"
	"github.com/isthmus-mesh/isthmus/bench/report"
	"github.com/isthmus-mesh/isthmus/test/rig/mesh"
	"github.com/isthmus-mesh/isthmus/test/rig/meter"
	"github.com/isthmus-mesh/isthmus/test/rig/pki"
	"github.com/isthmus-mesh/isthmus/xds"
)

// Options say how much to measure.
type Options struct {
	// Discovery is the binary of bench/discovery, Dir a directory for files.
	Discovery, Dir string
	Root           *pki.Root
	Quick          bool
}

// The standard case.
const (
	stdProxies   = 1000
	stdServices  = 1000
	stdEndpoints = 10
	// settle is the pause before memory is read, and between changes.
	settle = 3 * time.Second
	apart  = 25 * time.Millisecond
)

// Run measures the standard case, then how it grows.
func Run(ctx context.Context, o Options, r *report.Report) error {
	proxies, services := stdProxies, stdServices
	if o.Quick {
		proxies, services = stdProxies/5, stdServices/2
	}
	if err := standard(ctx, o, r, proxies, services); err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	if o.Quick {
		return nil
	}
	if err := growth(ctx, o, r); err != nil {
		return fmt.Errorf("control plane, growth: %w", err)
	}
	return nil
}

// rig is one discovery process with its fleet.
type rig struct {
	o       Options
	proc    *mesh.Process
	fleet   *fleet.Fleet
	proxies int

	end  context.CancelFunc // of the fleet
	gone <-chan struct{}

	rssAlone int64 // before the first proxy
	connect  phase
}

// phase is what a step cost.
type phase struct {
	took    time.Duration
	cpu     time.Duration
	traffic fleet.Traffic
}

// newRig starts discovery and a fleet that holds nothing, and waits until it
// holds everything.
func newRig(ctx context.Context, o Options, proxies, services, endpoints int) (*rig, error) {
	cfg := mesh.Config{Scene: mesh.Scene{Services: services, Endpoints: endpoints}, RootDir: o.Dir}
	for _, addr := range []*string{&cfg.Plain, &cfg.TLS, &cfg.Control} {
		var err error
		if *addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	start := func(cmd *exec.Cmd) error {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return cmd.Start()
	}
	proc, err := mesh.Start(ctx, o.Discovery, o.Dir, cfg, start, dialLoopback)
	if err != nil {
		return nil, err
	}
	r := &rig{o: o, proc: proc, proxies: proxies}
	if r.rssAlone, err = meter.RSS(proc.PID()); err != nil {
		proc.Stop()
		return nil, err
	}
	before, err := meter.CPU(proc.PID())
	if err != nil {
		proc.Stop()
		return nil, err
	}
	fleetCtx, end := context.WithCancel(ctx)
	r.end = end
	began := time.Now()
	r.fleet, r.gone = fleet.Start(fleetCtx, fleet.Config{Address: cfg.Plain, Count: proxies, Node: Node("bench", mesh.Cluster)})
	if err := r.sync(ctx, began, before, fleet.Traffic{}, &r.connect); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// sync waits until the fleet has everything, and fills in the phase.
func (r *rig) sync(ctx context.Context, began time.Time, cpu time.Duration, traffic fleet.Traffic, p *phase) error {
	limit, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	at, err := r.fleet.Synced(limit)
	if err != nil {
		return err
	}
	after, err := meter.CPU(r.proc.PID())
	if err != nil {
		return err
	}
	*p = phase{took: at.Sub(began), cpu: after - cpu, traffic: r.fleet.Traffic().Sub(traffic)}
	return nil
}

// restart kills discovery under the connected fleet and waits until all is as
// before.
func (r *rig) restart(ctx context.Context) (phase, error) {
	traffic := r.fleet.Traffic()
	at, err := r.proc.Restart(ctx)
	if err != nil {
		return phase{}, err
	}
	var p phase
	return p, r.sync(ctx, at, 0, traffic, &p)
}

func (r *rig) close() {
	r.end()
	<-r.gone
	r.proc.Stop()
}

// change asks for a change n times, each time waiting for the watch that is set
// before, and gives the delays.
func (r *rig) changes(ctx context.Context, n int, change func(i int) (mesh.Change, *fleet.Watch)) ([]time.Duration, error) {
	delays := make([]time.Duration, 0, n)
	for i := range n {
		limit, cancel := context.WithTimeout(ctx, 30*time.Second)
		ch, watch := change(i)
		done, err := r.proc.Change(limit, ch)
		if err == nil {
			var last time.Time
			if _, last, err = watch.Wait(limit); err == nil {
				delays = append(delays, last.Sub(done.At))
			}
		}
		cancel()
		if err != nil {
			return nil, fmt.Errorf("change %d (%s %d): %w", i+1, ch.Kind, ch.N, err)
		}
		time.Sleep(apart)
	}
	return delays, nil
}

// measured runs f and tells what it cost the server.
func (r *rig) measured(f func() error) (phase, error) {
	cpu, err := meter.CPU(r.proc.PID())
	if err != nil {
		return phase{}, err
	}
	traffic, began := r.fleet.Traffic(), time.Now()
	if err := f(); err != nil {
		return phase{}, err
	}
	took := time.Since(began)
	after, err := meter.CPU(r.proc.PID())
	if err != nil {
		return phase{}, err
	}
	return phase{took: took, cpu: after - cpu, traffic: r.fleet.Traffic().Sub(traffic)}, nil
}

func (r *rig) endpointChange(i int) (mesh.Change, *fleet.Watch) {
	n := i % r.proc.Scene.Services
	return mesh.Change{Kind: mesh.ChangeEndpoint, N: n}, r.fleet.WatchEndpoints(mesh.EndpointsName(n))
}

// Node makes the nodes of one Deployment's proxies: all of one namespace, so
// all with one View.
func Node(namespace, cluster string) func(i int) *corev3.Node {
	text := structpb.NewStringValue
	return func(i int) *corev3.Node {
		addr := netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})
		name := fmt.Sprintf("client-%d", i)
		return &corev3.Node{
			Id:      xds.NodeID{Kind: xds.KindSidecar, IP: addr, Pod: name, Namespace: namespace, Domain: "cluster.local"}.String(),
			Cluster: "client." + namespace,

			ClientFeatures: []string{xds.FeatureVirtualHosts},
			Locality:       &corev3.Locality{Region: mesh.Region, Zone: mesh.Zone},
			Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
				"CLUSTER_ID": text(cluster), "NETWORK": text(mesh.Network), "NAMESPACE": text(namespace),
				"SERVICE_ACCOUNT": text("client"), "NAME": text(name),
				"LABELS": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"app": text("client")}}),
			}},
		}
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

func dialLoopback(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, time.Second) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func millisecondsOf(list []time.Duration) []float64 {
	out := make([]float64, len(list))
	for i, d := range list {
		out[i] = milliseconds(d)
	}
	return out
}
