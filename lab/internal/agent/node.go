package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/internal/cgroup"
	"github.com/isthmus-mesh/isthmus/lab/internal/fabric"
	"github.com/isthmus-mesh/isthmus/lab/internal/kubeapi"
	"github.com/isthmus-mesh/isthmus/lab/internal/lbaddr"
	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

const (
	// killPatience is how long the kernel may take to end what was killed.
	killPatience = 30 * time.Second
	// cgroupPatience is how long the cgroups of a killed node may take to
	// empty.
	cgroupPatience = 20 * time.Second
)

// node is one cluster's machine: running, or switched off.
type node struct {
	agent   *Agent
	cluster plan.Cluster

	// change makes start and stop take turns.
	change sync.Mutex

	mu      sync.Mutex
	machine *os.Process // nil while off
	since   time.Time   // when the machine was last switched on
	ended   chan struct{}
}

func newNode(a *Agent, c plan.Cluster) *node { return &node{agent: a, cluster: c} }

// running returns the machine's process id in the agent's namespace, or 0.
func (n *node) running() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.machine == nil {
		return 0
	}
	return n.machine.Pid
}

func (n *node) cgroupRoot() string {
	return nodeconf.Node{Lab: n.agent.lab, Cluster: n.cluster}.CgroupRoot()
}

// start switches the machine on; a running one is left alone. It returns since
// when the machine runs.
func (n *node) start(ctx context.Context) (time.Time, error) {
	n.change.Lock()
	defer n.change.Unlock()
	if n.running() == 0 {
		if err := n.switchOn(ctx); err != nil {
			return time.Time{}, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.since, nil
}

// switchOn starts a machine that is off.
func (n *node) switchOn(ctx context.Context) error {
	if err := n.clean(ctx); err != nil {
		return err
	}
	if err := cgroup.Create(n.cgroupRoot()); err != nil {
		return err
	}

	cmd, plug, err := n.spawn()
	if err != nil {
		return fmt.Errorf("start the machine of %s: %w", n.cluster.Name(), err)
	}
	ended := make(chan struct{})

	n.mu.Lock()
	n.machine, n.ended, n.since = cmd.Process, ended, time.Now()
	n.mu.Unlock()

	go n.watch(cmd, ended)
	defer plug.Close() // the machine waits for this
	if err := n.agent.fabric.Plug(n.cluster, cmd.Process.Pid); err != nil {
		return errors.Join(err, n.kill())
	}
	return nil
}

// spawn starts the machine's process in namespaces of its own. Closing plug
// tells it that its network is there.
func (n *node) spawn() (cmd *exec.Cmd, plug *os.File, err error) {
	paths := n.agent.cfg.Paths
	log, err := os.OpenFile(paths.Cluster(n.cluster).MachineLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()

	wait, plug, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer wait.Close()

	cmd = exec.Command("/proc/self/exe", "machine", "--state-dir", paths.Root, "--cluster", n.cluster.Name())
	cmd.Args[0] = "lab"
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{wait}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}

	if err := cmd.Start(); err != nil {
		plug.Close()
		return nil, nil, err
	}
	return cmd, plug, nil
}

// watch serves a running machine and notes its end.
func (n *node) watch(cmd *exec.Cmd, ended chan struct{}) {
	ctx, cancel := context.WithCancel(n.agent.ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { n.giveAddresses(ctx, cmd.Process.Pid) })
	err := cmd.Wait()

	n.mu.Lock()
	n.machine = nil
	n.mu.Unlock()

	n.agent.cfg.Log.Info("machine ended", "cluster", n.cluster.Name(), "how", fmt.Sprint(err))
	cancel()
	wg.Wait()
	close(ended)
}

// giveAddresses serves the cluster's load balancers until ctx ends.
func (n *node) giveAddresses(ctx context.Context, pid int) {
	log := n.agent.cfg.Log.With("cluster", n.cluster.Name())
	admin, err := kubeapi.ReadAdmin(n.agent.cfg.Paths.Cluster(n.cluster).Config())
	if err != nil {
		log.Error("load balancers get no addresses", "error", err)
		return
	}

	client, err := kubeapi.New(n.cluster.APIAddr().String(), admin)
	if err != nil {
		log.Error("load balancers get no addresses", "error", err)
		return
	}
	defer client.Close()

	giver := lbaddr.Giver{
		Client: client,
		Pool:   n.cluster.LoadBalancerIPs(),
		Put:    func(ips []netip.Addr) error { return fabric.SetAddresses(n.cluster, pid, ips) },
		Log:    log,
	}
	giver.Run(ctx)
}

// stop switches the machine off as a power cut does.
func (n *node) stop(ctx context.Context) error {
	n.change.Lock()
	defer n.change.Unlock()
	if err := n.kill(); err != nil {
		return err
	}
	return n.clean(ctx)
}

// kill ends the machine and waits until the kernel has ended all in it.
func (n *node) kill() error {
	n.mu.Lock()
	machine, ended := n.machine, n.ended
	n.mu.Unlock()

	if machine == nil {
		return nil
	}

	// An error means that it has just ended by itself.
	_ = machine.Kill()
	select {
	case <-ended:
		return nil
	case <-time.After(killPatience):
		return fmt.Errorf("%s was killed and has not ended for %s: the kernel waits for something in it, such as a disk; try again when that is over", n.cluster.Name(), killPatience)
	}
}

// clean removes what a machine that is off may have left: its cable and its
// cgroups.
func (n *node) clean(ctx context.Context) error {
	if err := n.agent.fabric.Unplug(n.cluster); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cgroupPatience)
	defer cancel()
	return cgroup.Remove(ctx, n.cgroupRoot())
}

// dial connects to an address as the node sees it.
func (n *node) dial(ctx context.Context, addr string) (net.Conn, error) {
	pid := n.running()
	if pid == 0 {
		return nil, fmt.Errorf("%s is off", n.cluster.Name())
	}

	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("reach the network of %s: %w", n.cluster.Name(), err)
	}
	defer ns.Close()

	var conn net.Conn
	err = fabric.Within(ns, func() error {
		var err error
		conn, err = (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp4", addr)
		return err
	})
	return conn, err
}
