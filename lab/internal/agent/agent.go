// Package agent is the process that a lab consists of. It is the first process
// of a PID namespace and lives in the network namespace that is the lab's
// fabric; the nodes are its children. It serves the lab's commands on a Unix
// socket, keeps listeners on the host's loopback, and gives addresses to load
// balancers. When it ends, the kernel ends every process of the lab with it: there
// is nothing to clean up but files and empty cgroups.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/internal/fabric"
	"github.com/isthmus-mesh/isthmus/lab/internal/forward"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// Config is what an agent needs.
type Config struct {
	Paths plan.Paths
	// HostNet is the host's network namespace.
	HostNet *os.File
	Log     *slog.Logger
}

// Agent runs one lab. Its methods may be called concurrently.
type Agent struct {
	cfg    Config
	lab    *plan.Lab
	fabric *fabric.Fabric
	nodes  map[string]*node
	ctx    context.Context // ends with the agent; for what outlives a request

	mu       sync.Mutex
	exposed  []Exposure
	forwards sync.WaitGroup
}

// Run is the agent's life. It returns only when it cannot go on.
func Run(ctx context.Context, cfg Config) error {
	if err := plan.HoldPID(cfg.Paths.AgentLock()); err != nil {
		return fmt.Errorf("the lab's agent runs already: %w", err)
	}

	lab, err := plan.Load(cfg.Paths)
	if err != nil {
		return err
	}
	if err := ownMounts(); err != nil {
		return err
	}

	fab, err := fabric.New(ctx, lab)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	a := &Agent{cfg: cfg, lab: lab, fabric: fab, nodes: map[string]*node{}, ctx: ctx}
	for _, c := range lab.Clusters {
		a.nodes[c.Name()] = newNode(a, c)
		if err := a.listenForAPI(c); err != nil {
			return err
		}
	}

	// The forwards end with ctx, so it is cancelled before they are waited for:
	// deferred calls run in reverse order.
	go serveNames(ctx, cfg.Log)
	go endWithout(ctx, cfg.Paths.Spec(), cancel)
	defer a.forwards.Wait()
	defer cancel()
	return a.serve(ctx)
}

// ownMounts parts the agent's mounts from the host's and shows it the
// processes of its own PID namespace.
func ownMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("part the lab's mounts from the host's: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the lab's /proc: %w", err)
	}
	return nil
}

// endWithout ends the lab when its description is gone: someone has removed its
// directory, and no command would find the agent any more.
func endWithout(ctx context.Context, file string, end func()) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			end()
			return
		}
	}
}

// serve answers on the Unix socket until ctx ends.
func (a *Agent) serve(ctx context.Context) error {
	path := a.cfg.Paths.Socket()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a stale socket: %w", err)
	}

	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen for commands: %w", err)
	}

	srv := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	a.cfg.Log.Info("the lab's agent is up", "lab", a.lab.Name, "socket", path)
	return srv.Serve(l)
}

// listenOnHost listens on a loopback port of the host; port 0 chooses one.
func (a *Agent) listenOnHost(port int) (net.Listener, error) {
	var l net.Listener
	err := fabric.Within(a.cfg.HostNet, func() error {
		var err error
		l, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		return err
	})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("port %d of 127.0.0.1 is in use by another program: stop that, or choose another port", port)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on the host's loopback: %w", err)
	}
	return l, nil
}

// listenForAPI opens the cluster's API server to the host.
func (a *Agent) listenForAPI(c plan.Cluster) error {
	l, err := a.listenOnHost(c.HostPort)
	if err != nil {
		return fmt.Errorf("API server of %s: %w", c.Name(), err)
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp4", c.APIAddr().String())
	}
	a.forwards.Go(func() { forward.Serve(a.ctx, l, dial, a.cfg.Log) })
	return nil
}

// dialTimeout bounds connecting to an address inside the lab.
const dialTimeout = 10 * time.Second

// expose opens addr, as seen from a cluster's node, on the host's loopback.
func (a *Agent) expose(c plan.Cluster, addr string, port int) (Exposure, error) {
	n := a.nodes[c.Name()]
	l, err := a.listenOnHost(port)
	if err != nil {
		return Exposure{}, err
	}

	e := Exposure{Cluster: c.Name(), Address: addr, Port: l.Addr().(*net.TCPAddr).Port}
	a.mu.Lock()
	a.exposed = append(a.exposed, e)
	a.mu.Unlock()

	a.forwards.Go(func() {
		forward.Serve(a.ctx, l, func(ctx context.Context) (net.Conn, error) { return n.dial(ctx, addr) }, a.cfg.Log)
	})
	return e, nil
}
