package bringup

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/lab/internal/addon"
	"github.com/isthmus-mesh/isthmus/lab/internal/agent"
	"github.com/isthmus-mesh/isthmus/lab/internal/kubeapi"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
	"github.com/isthmus-mesh/isthmus/lab/internal/reach"
)

const (
	// raisePatience is how long a cluster may take from its start until its
	// name server answers.
	raisePatience = 3 * time.Minute
	pollEvery     = 100 * time.Millisecond
	// remindEvery is how often a wait says that it goes on.
	remindEvery = 15 * time.Second
)

// Raise switches one cluster of a standing lab on and waits until it serves.
func (l *Lab) Raise(ctx context.Context, lab *plan.Lab, c plan.Cluster) error {
	l.lab = lab
	l.client = agent.NewClient(l.Paths)
	return l.raise(ctx, c, time.Now())
}

// raise brings one cluster from wherever it is to ready.
func (l *Lab) raise(ctx context.Context, c plan.Cluster, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, raisePatience)
	defer cancel()
	on, err := l.client.Start(ctx, c.Name())
	if err != nil {
		return err
	}

	node, err := l.findNode(ctx, c)
	if err != nil {
		return err
	}

	api, err := l.API(c)
	if err != nil {
		return err
	}
	defer api.Close()

	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.loadOwnImages(groupCtx, node) })
	group.Go(func() error { return l.addons(groupCtx, c, api) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := l.await(ctx, c, "node", func() bool { return NodeReady(ctx, api, c, on) }); err != nil {
		return err
	}

	fmt.Fprintf(l.Out, "%s: node ready after %s\n", c.Name(), time.Since(began).Round(100*time.Millisecond))
	if err := l.await(ctx, c, "name server", func() bool { return l.client.Reaches(ctx, c.Name(), dnsAddress(c)) }); err != nil {
		return err
	}
	fmt.Fprintf(l.Out, "%s: name server ready after %s\n", c.Name(), time.Since(began).Round(100*time.Millisecond))
	return nil
}

// findNode waits for the machine's first sign of life.
func (l *Lab) findNode(ctx context.Context, c plan.Cluster) (*reach.Node, error) {
	var node *reach.Node
	var last error
	err := l.await(ctx, c, "machine", func() bool {
		node, last = reach.Find(l.Paths, l.lab, c)
		return last == nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", err, last)
	}
	return node, nil
}

// loadOwnImages loads the images of the cluster's own parts, once.
func (l *Lab) loadOwnImages(ctx context.Context, node *reach.Node) error {
	if err := node.AwaitContainerd(ctx); err != nil {
		return err
	}

	for _, a := range l.images {
		has, err := node.HasImage(ctx, a.ref)
		if err != nil {
			return err
		}
		if has {
			continue
		}
		if err := node.LoadImage(ctx, a.file); err != nil {
			return err
		}
	}
	return nil
}

// addons waits for the API server and gives a new cluster its first objects.
// Once there, they are the user's to change.
func (l *Lab) addons(ctx context.Context, c plan.Cluster, api *kubeapi.Client) error {
	if err := l.await(ctx, c, "API server", func() bool { return api.Get(ctx, "/readyz", nil) == nil }); err != nil {
		return err
	}

	err := api.Get(ctx, addon.DeploymentPath, nil)
	if err == nil || !kubeapi.IsNotFound(err) {
		return err
	}

	admin, err := kubeapi.ReadAdmin(l.Paths.Cluster(c).Config())
	if err != nil {
		return err
	}

	kubectl, err := l.kubectl()
	if err != nil {
		return err
	}

	cmd := exec.CommandContext(ctx, kubectl, "--kubeconfig", l.Paths.Kubeconfig(), "--context", c.Name(),
		"apply", "--server-side", "--field-manager=isthmus-lab", "-f", "-")
	cmd.Stdin = strings.NewReader(addon.Manifest(c, admin.CA))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("create the cluster's name server: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// await polls until done, says from time to time what it waits for, and what it
// waited for when time runs out or the machine ends.
func (l *Lab) await(ctx context.Context, c plan.Cluster, what string, done func() bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	began := time.Now()
	told := began
	for !done() {
		if time.Since(told) >= remindEvery {
			told = time.Now()
			fmt.Fprintf(l.Out, "%s: waiting for its %s (%s; logs are under %s)\n", c.Name(), what, time.Since(began).Round(time.Second), l.Paths.Cluster(c).VarLog())
		}
		if state, err := l.client.State(ctx); err == nil && !slices.Contains(state.Running, c.Name()) {
			return fmt.Errorf("the machine ended while its %s was awaited: see %s", what, l.Paths.Cluster(c).MachineLog())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the %s is not ready: %w (logs are under %s)", what, ctx.Err(), l.Paths.Cluster(c).VarLog())
		}
	}

	return nil
}

// NodeReady reports whether the cluster's node is ready for pods, and has been
// heard of since that time: until then the API server's word is that of before
// a power cut. A taint, such as that of a node not yet welcomed, makes it not
// ready.
func NodeReady(ctx context.Context, api *kubeapi.Client, c plan.Cluster, since time.Time) bool {
	var node struct {
		Spec struct {
			Taints []struct{} `json:"taints"`
		} `json:"spec"`
		Status struct {
			Conditions []struct {
				Type   string `json:"type"`
				Status string `json:"status"`
			} `json:"conditions"`
		} `json:"status"`
	}

	var lease struct {
		Spec struct {
			RenewTime time.Time `json:"renewTime"`
		} `json:"spec"`
	}
	if api.Get(ctx, "/api/v1/nodes/"+c.NodeName(), &node) != nil || len(node.Spec.Taints) > 0 {
		return false
	}

	const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"
	if api.Get(ctx, leases+c.NodeName(), &lease) != nil || lease.Spec.RenewTime.Before(since) {
		return false
	}

	for _, cond := range node.Status.Conditions {
		if cond.Type == "Ready" {
			return cond.Status == "True"
		}
	}
	return false
}

// dnsAddress is where a cluster's name server answers its pods.
func dnsAddress(c plan.Cluster) string { return netip.AddrPortFrom(c.DNSServiceIP(), 53).String() }
