package clusters

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/controlplane"
	"github.com/isthmus-mesh/isthmus/bench/fleet"
	"github.com/isthmus-mesh/isthmus/bench/report"
	"github.com/isthmus-mesh/isthmus/test/rig/apiserver"
	"github.com/isthmus-mesh/isthmus/test/rig/meter"
)

// Options say how much to measure.
type Options struct {
	// Self is this program's binary, Dir a directory for files.
	Self, Dir string
	Quick     bool
}

const (
	proxies = 50
	changes = 50
	// apart is the pause between changes, settle that before memory is read.
	apart  = 20 * time.Millisecond
	settle = 3 * time.Second
)

// Run measures with one cluster and with more.
func Run(ctx context.Context, o Options, rep *report.Report) error {
	counts := []int{1, 2, 5, 10}
	if o.Quick {
		counts = []int{1, 2}
	}

	table := report.Table{
		Title: fmt.Sprintf("Control plane, clusters of %d services with %d pods each, every cluster on a network of its own, %d proxies", services, podsEach, proxies),
		Head: []string{"clusters", "ready s", "all read s", "CPU to then s", "RSS MB", "RSS per cluster MB",
			"change in the last cluster, p50 ms", "CPU per change ms", "rebuilt per change"},
	}
	var first, last figures
	for _, n := range counts {
		f, err := measure(ctx, o, n)
		if err != nil {
			return fmt.Errorf("%d clusters: %w", n, err)
		}
		if n == counts[0] {
			first = f
		}
		last = f
		table.Rows = append(table.Rows, f.row(n))
	}

	n := float64(counts[len(counts)-1])
	rep.AtMost(fmt.Sprintf("discovery RSS with %.0f clusters, against %.0f times that with one", n, n), last.rss/(n*first.rss), "×", 1)
	rep.AtMost(fmt.Sprintf("processor time to read %.0f clusters, against %.0f times that of one", n, n), last.cpu.Seconds()/(n*first.cpu.Seconds()), "×", 1)
	rep.AtMost("resources rebuilt when an endpoint of one cluster changes, per View", last.rebuilt, "", 1)
	rep.Table(table)
	return nil
}

// figures are what one size comes to.
type figures struct {
	ready, read time.Duration
	cpu         time.Duration // until all was read
	rss         float64       // in MB
	delays      []float64     // of changes, in ms
	perChange   float64       // processor time, in ms
	rebuilt     float64
}

func (f figures) row(n int) []string {
	return []string{
		fmt.Sprint(n), report.Number(f.ready.Seconds()), report.Number(f.read.Seconds()), report.Number(f.cpu.Seconds()),
		report.Number(f.rss), report.Number(f.rss / float64(n)),
		report.Number(report.Median(f.delays)), report.Number(f.perChange), report.Number(f.rebuilt),
	}
}

// rig is the API servers, the control plane and its proxies.
type rig struct {
	servers []*apiserver.Server
	cfg     Config
	cmd     *exec.Cmd
	began   time.Time
}

func measure(ctx context.Context, o Options, n int) (f figures, err error) {
	r, err := start(o, n)
	if err != nil {
		return f, err
	}
	defer r.close()

	if err := r.ready(ctx); err != nil {
		return f, err
	}
	f.ready = time.Since(r.began)

	fleetCtx, end := context.WithCancel(ctx)
	fl, gone := fleet.Start(fleetCtx, fleet.Config{Address: r.cfg.XDS, Count: proxies, Node: controlplane.Node(namespace(0), clusterName(0))})
	defer func() {
		end()
		<-gone
	}()
	if err := r.allRead(ctx, n); err != nil {
		return f, err
	}
	f.read = time.Since(r.began)
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := fl.Synced(limit); err != nil {
		return f, err
	}

	time.Sleep(settle)
	if f.cpu, err = meter.CPU(r.cmd.Process.Pid); err != nil {
		return f, err
	}
	rss, err := meter.RSS(r.cmd.Process.Pid)
	if err != nil {
		return f, err
	}
	f.rss = float64(rss) / 1e6
	return f, r.change(ctx, fl, n-1, &f)
}

// change changes endpoints of one cluster, one after the other.
func (r *rig) change(ctx context.Context, fl *fleet.Fleet, cluster int, f *figures) error {
	built, err := r.counter(ctx, "isthmus_xds_resources_built_total")
	if err != nil {
		return err
	}
	cpu, err := meter.CPU(r.cmd.Process.Pid)
	if err != nil {
		return err
	}

	for i := range changes {
		// A service that every cluster has: one that is only on another network
		// is a gateway to the proxies, whatever is behind it.
		s, pods := i*everywhere%services, podsEach-1-i*everywhere/services
		watch := fl.WatchEndpoints(fmt.Sprintf("outbound|80||%s.%s.svc.cluster.local", serviceName(cluster, s), namespace(s)))
		if err := r.servers[cluster].Apply(slice(cluster, s, pods)); err != nil {
			return err
		}
		at := time.Now()
		limit, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, last, err := watch.Wait(limit)
		cancel()
		if err != nil {
			return err
		}
		f.delays = append(f.delays, float64(last.Sub(at))/float64(time.Millisecond))
		time.Sleep(apart)
	}

	after, err := meter.CPU(r.cmd.Process.Pid)
	if err != nil {
		return err
	}
	builtNow, err := r.counter(ctx, "isthmus_xds_resources_built_total")
	n := float64(len(f.delays))
	f.perChange = float64(after-cpu) / float64(time.Millisecond) / n
	f.rebuilt = (builtNow - built) / n
	return err
}

// start starts API servers and the control plane of the first.
func start(o Options, n int) (r *rig, err error) {
	r = &rig{}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for c := range n {
		s, err := apiserver.Start(objects(c)...)
		if err != nil {
			return nil, err
		}
		r.servers = append(r.servers, s)
		if c > 0 {
			if err := r.servers[0].Apply(secret(c, s.Kubeconfig(""))); err != nil {
				return nil, err
			}
		}
	}

	r.cfg = Config{Kubeconfig: r.servers[0].Kubeconfig("")}
	for _, addr := range []*string{&r.cfg.XDS, &r.cfg.Monitoring} {
		if *addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	data, err := json.Marshal(r.cfg)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(o.Dir, "control.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, err
	}

	r.cmd = exec.Command(o.Self, "control", file)
	r.cmd.Stderr = os.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.began = time.Now()
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	return r, nil
}

func (r *rig) close() {
	if r.cmd != nil && r.cmd.Process != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	}
	for _, s := range r.servers {
		s.Close()
	}
}

// ready waits until the control plane says that it is.
func (r *rig) ready(ctx context.Context) error {
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, err := meter.Get(ctx, dial, "http://"+r.cfg.Monitoring+"/ready")
		if err == nil {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("the control plane is not ready: %w", err)
		}
	}
}

// allRead waits until every cluster has been read.
func (r *rig) allRead(ctx context.Context, n int) error {
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		read, err := r.synced(ctx)
		if err == nil && int(read) == n {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%.0f of %d clusters are read: %w", read, n, err)
		}
	}
}

// synced is how many clusters have been read.
func (r *rig) synced(ctx context.Context) (float64, error) {
	page, err := meter.Get(ctx, dial, "http://"+r.cfg.Monitoring+"/metrics")
	if err != nil {
		return 0, err
	}
	return meter.Gauge(page, "isthmus_clusters", "status", "synced")
}

func (r *rig) counter(ctx context.Context, name string) (float64, error) {
	page, err := meter.Get(ctx, dial, "http://"+r.cfg.Monitoring+"/metrics")
	if err != nil {
		return 0, err
	}
	return meter.Counter(page, name)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

func dial(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, time.Second) }
