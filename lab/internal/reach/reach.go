// Package reach reaches from the host into the running node of a cluster: to
// run a command in its namespaces, or to load images into its containerd. It
// starts and stops no node.
package reach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// Node is a cluster's running node.
type Node struct {
	node nodeconf.Node
	// pid is the machine's first process, as the host counts.
	pid int
}

// Find returns the running node of a cluster.
func Find(p plan.Paths, lab *plan.Lab, c plan.Cluster) (*Node, error) {
	pid, err := plan.Holder(p.Cluster(c).MachineLock())
	if err != nil {
		return nil, err
	}
	if pid == 0 {
		return nil, fmt.Errorf("%s is off: switch it on with `lab start %s`", c.Name(), c.Name())
	}
	return &Node{node: nodeconf.Node{Lab: lab, Cluster: c}, pid: pid}, nil
}

// Command prepares a command in the node's namespaces, with the node's search
// path.
func (n *Node) Command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(n.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/", "--",
		"env", "PATH=" + n.node.SearchPath()}
	return exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
}

// dialTimeout bounds a try to connect to a containerd that hangs: its queue of
// connections is full then.
const dialTimeout = time.Second

// AwaitContainerd blocks until the node's containerd accepts connections.
func (n *Node) AwaitContainerd(ctx context.Context) error {
	path := fmt.Sprintf("/proc/%d/root%s", n.pid, nodeconf.ContainerdSocket)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()

	for {
		conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("containerd of %s does not answer: %w", n.node.Cluster.Name(), err)
		}
	}
}

// LoadImage imports an image archive into the node's containerd.
func (n *Node) LoadImage(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("load an image: %w", err)
	}
	defer f.Close()
	if _, err := n.ctr(ctx, f, "images", "import", "-"); err != nil {
		return fmt.Errorf("load %s into %s: %w", filepath.Base(file), n.node.Cluster.Name(), err)
	}
	return nil
}

// HasImage reports whether the node has an image of that full name.
func (n *Node) HasImage(ctx context.Context, ref string) (bool, error) {
	out, err := n.ctr(ctx, nil, "images", "list", "-q")
	if err != nil {
		return false, fmt.Errorf("list the images of %s: %w", n.node.Cluster.Name(), err)
	}
	return slices.Contains(strings.Fields(string(out)), ref), nil
}

func (n *Node) ctr(ctx context.Context, in io.Reader, args ...string) ([]byte, error) {
	cmd := n.Command(ctx, append([]string{"ctr", "--namespace", "k8s.io"}, args...)...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(err, errors.New(strings.TrimSpace(complaint.String())))
	}
	return out.Bytes(), nil
}
