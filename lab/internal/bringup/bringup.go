// Package bringup takes a lab from nothing, or from any half-made state, to
// running clusters, and back to nothing. It gives the orders; the parts that
// carry them out are in the packages it calls.
package bringup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/lab/internal/agent"
	"github.com/isthmus-mesh/isthmus/lab/internal/cgroup"
	"github.com/isthmus-mesh/isthmus/lab/internal/kubeapi"
	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
	"github.com/isthmus-mesh/isthmus/lab/internal/release"
)

// Request is what the user asks of `lab up`. The zero value of a field leaves
// the choice to the lab that is there, or to the defaults.
type Request struct {
	Name     string
	Clusters int
	Network  plan.Network
	// SameRanges gives every cluster the same pod and service ranges.
	SameRanges bool
	Kubernetes string
	// KubernetesBin is a directory of ready-made binaries to prefer.
	KubernetesBin string
	// FromSource is set to run programs that were compiled here.
	FromSource bool
}

// Defaults of a new lab.
const (
	DefaultClusters = 2
	DefaultNetwork  = plan.MultiNetwork
)

// Lab brings one lab up and down.
type Lab struct {
	Paths plan.Paths
	// Store has the programs; nil where none is needed.
	Store *release.Store
	// Out receives a line per step.
	Out io.Writer

	lab    *plan.Lab
	client *agent.Client
	images []archive
}

// Up makes the lab run. On a running lab it does nothing and says so.
func (l *Lab) Up(ctx context.Context, request Request) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()

	if err := l.settle(request); err != nil {
		return err
	}

	l.client = agent.NewClient(l.Paths)
	if l.standing(ctx) {
		fmt.Fprintf(l.Out, "lab %s is up already: %d clusters, Kubernetes %s\n", l.lab.Name, len(l.lab.Clusters), l.lab.Kubernetes)
		return nil
	}
	if err := l.provide(ctx, request); err != nil {
		return err
	}

	fmt.Fprintf(l.Out, "lab %s: starting %s\n", l.lab.Name, strings.Join(l.lab.Names(), ", "))
	began := time.Now()
	if err := l.ready(ctx); err != nil {
		return err
	}

	group, groupCtx := errgroup.WithContext(ctx)
	for _, c := range l.lab.Clusters {
		group.Go(func() error {
			if err := l.raise(groupCtx, c, began); err != nil {
				return fmt.Errorf("%s: %w", c.Name(), err)
			}
			return nil
		})
	}

	if err := group.Wait(); err != nil {
		return fmt.Errorf("%w\n(the lab is left as it is: look under %s, `lab up` tries again, `lab down` removes it)", err, l.Paths.Root)
	}
	fmt.Fprintf(l.Out, "lab %s is up after %s\n", l.lab.Name, time.Since(began).Round(100*time.Millisecond))
	return nil
}

// lock lets one command at a time change the lab.
func (l *Lab) lock(ctx context.Context) (func(), error) {
	return plan.Lock(ctx, l.Paths.CommandLock(), func(waited time.Duration) {
		fmt.Fprintf(l.Out, "another lab command is at work on this lab: waiting for it (%s; Ctrl-C gives up)\n", waited.Round(time.Second))
	})
}

// settle loads the lab that is there, or lays out a new one.
func (l *Lab) settle(request Request) error {
	found, err := plan.Load(l.Paths)
	if err == nil {
		l.lab = found
		return conflict(found, request)
	}

	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if request.Clusters == 0 {
		request.Clusters = DefaultClusters
	}
	if request.Network == "" {
		request.Network = DefaultNetwork
	}
	if request.Kubernetes == "" {
		request.Kubernetes = plan.DefaultKubernetes
	}
	if l.lab, err = plan.New(request.Name, request.Clusters, request.Network, request.Kubernetes); err != nil {
		return err
	}
	if request.SameRanges {
		return l.lab.ShareRanges()
	}
	return nil
}

// conflict reports a request that the lab that is there cannot fulfil.
func conflict(have *plan.Lab, request Request) error {
	differ := func(what string, has, want any) error {
		return fmt.Errorf("lab %s has %s %v, not %v: run `lab down` first, or choose another --name", have.Name, what, has, want)
	}
	switch {
	case request.Clusters != 0 && request.Clusters != len(have.Clusters):
		return differ("a number of clusters of", len(have.Clusters), request.Clusters)
	case request.Network != "" && request.Network != have.Network:
		return differ("network", have.Network, request.Network)
	case request.SameRanges && !have.SameRanges():
		return differ("ranges of addresses", "for each cluster", "the same for all")
	case request.Kubernetes != "" && request.Kubernetes != have.Kubernetes:
		return differ("Kubernetes", have.Kubernetes, request.Kubernetes)
	}
	return nil
}

// standing reports whether every cluster runs and is ready.
func (l *Lab) standing(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	state, err := l.client.State(ctx)
	if err != nil {
		return false
	}

	for _, c := range l.lab.Clusters {
		if !slices.Contains(state.Running, c.Name()) {
			return false
		}
		client, err := l.API(c)
		if err != nil {
			return false
		}
		ready := NodeReady(ctx, client, c, time.Time{}) && l.client.Reaches(ctx, c.Name(), dnsAddress(c))
		client.Close()
		if !ready {
			return false
		}
	}

	return true
}

// API makes a client for a cluster's API server, through the host's loopback.
func (l *Lab) API(c plan.Cluster) (*kubeapi.Client, error) {
	admin, err := kubeapi.ReadAdmin(l.Paths.Cluster(c).Config())
	if err != nil {
		return nil, err
	}
	return kubeapi.New(fmt.Sprintf("127.0.0.1:%d", c.HostPort), admin)
}

// ready writes the lab's files and makes its agent run, in place of one that
// does not answer.
func (l *Lab) ready(ctx context.Context) error {
	try, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	if _, err := l.client.State(try); err == nil {
		return l.writeFiles()
	}
	if err := agent.Kill(l.Paths); err != nil {
		return err
	}
	if err := l.choosePorts(); err != nil {
		return err
	}
	if err := l.writeFiles(); err != nil {
		return err
	}
	return agent.Launch(ctx, l.Paths)
}

// choosePorts finds a free loopback port for each cluster. A cluster keeps the
// port that it has, unless another program has taken it meanwhile.
func (l *Lab) choosePorts() error {
	for i := range l.lab.Clusters {
		c := &l.lab.Clusters[i]
		listener, err := listenLoopback(c.HostPort)
		if err != nil {
			if listener, err = listenLoopback(0); err != nil {
				return fmt.Errorf("find a free port on the host's loopback: %w", err)
			}
			fmt.Fprintf(l.Out, "port %d of 127.0.0.1 is in use by another program: the API server of %s moves to another\n", c.HostPort, c.Name())
		}
		defer listener.Close() // only when all are chosen, so that they differ
		c.HostPort = listener.Addr().(*net.TCPAddr).Port
	}
	return nil
}

func listenLoopback(port int) (net.Listener, error) {
	return net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
}

// Down removes the lab, whatever state it is in.
func (l *Lab) Down(ctx context.Context, name string) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()

	if found, err := plan.Load(l.Paths); err == nil {
		name = found.Name
	}
	if err := agent.Kill(l.Paths); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	if err := cgroup.Remove(ctx, nodeconf.CgroupOf(name)); err != nil {
		return err
	}
	if err := cgroup.RemoveIfEmpty(filepath.Dir(nodeconf.CgroupOf(name))); err != nil {
		return err
	}

	found, left, err := l.Paths.Remove()
	if err != nil {
		return err
	}
	if err := os.Remove(l.Paths.CommandLock()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the lab's lock: %w", err)
	}
	if filepath.Dir(l.Paths.Root) == plan.DefaultStateDir {
		_ = os.Remove(plan.DefaultStateDir) // stays while another lab is in it
	}

	if !found {
		fmt.Fprintf(l.Out, "there is no lab %s\n", name)
		return nil
	}

	fmt.Fprintf(l.Out, "lab %s is gone\n", name)
	if len(left) > 0 {
		fmt.Fprintf(l.Out, "%s stays, with what the lab did not make: %s\n", l.Paths.Root, strings.Join(left, ", "))
	}
	return nil
}
