// Package machine is the inside of a cluster's node: the first process of a
// PID namespace that also has its own mounts, network, host name and IPC. It
// lays out the node's file system, then keeps the Kubernetes components
// running. It never shuts down: killing it is the power cut, upon which the
// kernel ends every process of the node and drops every mount.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// Config says which node this process is to become.
type Config struct {
	Node  nodeconf.Node
	Paths plan.ClusterPaths
	// Plugged yields end of file once the node's network cable is in.
	Plugged io.Reader
	Log     *slog.Logger
}

// Run turns the process into the node. It returns only when that fails.
func Run(ctx context.Context, cfg Config) error {
	if err := plan.HoldPID(cfg.Paths.MachineLock()); err != nil {
		return fmt.Errorf("%s runs already: %w", cfg.Node.Cluster.Name(), err)
	}
	if err := layOut(cfg); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(cfg.Node.Cluster.NodeName())); err != nil {
		return fmt.Errorf("set the node's host name: %w", err)
	}
	if _, err := io.Copy(io.Discard, cfg.Plugged); err != nil {
		return fmt.Errorf("wait for the network cable: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("let the node forward packets: %w", err)
	}

	s := newSupervisor(cfg)
	go s.reap(ctx)
	if err := s.once(ctx, []string{"nft", "-f", nodeconf.ConfigDir + "/node.nft"}); err != nil {
		return fmt.Errorf("load the node's packet rules: %w", err)
	}

	native := !overlayWorks()
	if native {
		cfg.Log.Info("overlay mounts do not work under the state directory: images are copied instead")
	}
	for _, p := range cfg.Node.Processes(native) {
		go s.keep(ctx, p)
	}
	<-ctx.Done()
	return ctx.Err()
}

// overlayWorks tries an overlay mount where containerd would make them.
func overlayWorks() bool {
	base, err := os.MkdirTemp("/var/lib", ".overlay-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(base)

	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(base+"/"+d, 0o755); err != nil {
			return false
		}
	}

	opts := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base)
	if err := unix.Mount("overlay", base+"/merged", "overlay", 0, opts); err != nil {
		return false
	}
	return unix.Unmount(base+"/merged", unix.MNT_DETACH) == nil
}

// environ is the components' environment.
func environ(n nodeconf.Node) []string {
	return []string{"PATH=" + n.SearchPath(), "HOME=/root"}
}

// lookPath finds a program in the node's search path.
func lookPath(n nodeconf.Node, name string) (string, error) {
	for dir := range strings.SplitSeq(n.SearchPath(), ":") {
		file := dir + "/" + name
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", errors.New(name + " is not in " + n.SearchPath())
}
