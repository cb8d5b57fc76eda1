package failover

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Lab is running clusters of bin/lab, and how they are reached.
type Lab struct {
	// Name is the lab's; Root is the repository, whose bin has lab, istioctl and
	// isthmus-proxy.
	Name, Root string
	// Env is added to the environment of all commands: KUBECONFIG, and a PATH
	// with kubectl.
	Env []string
	// Traffic is the built command of package traffic.
	Traffic string
}

// Open reaches a lab that runs.
func Open(ctx context.Context, name, root, traffic string) (*Lab, error) {
	l := &Lab{Name: name, Root: root, Traffic: traffic}
	l.Env = []string{"PATH=" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH")}
	out, err := l.Run(ctx, `eval "$(lab env --name `+name+`)"; echo "$KUBECONFIG"; dirname "$(command -v kubectl)"`)
	if err != nil {
		return nil, err
	}

	kubeconfig, kubectl, _ := strings.Cut(out, "\n")
	l.Env = []string{l.Env[0] + ":" + kubectl, "KUBECONFIG=" + kubeconfig}
	return l, nil
}

// commandTimeout bounds every command; installing is what takes longest.
const commandTimeout = 5 * time.Minute

// Run runs a bash script at the root, with more variables, each NAME=VALUE, and
// returns what it printed, trimmed.
func (l *Lab) Run(ctx context.Context, script string, env ...string) (string, error) {
	out, err := l.output(ctx, env, "bash", "-euo", "pipefail", "-c", script)
	return strings.TrimSpace(string(out)), err
}

func (l *Lab) output(ctx context.Context, env []string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()

	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = l.Root, slices.Concat(os.Environ(), l.Env, env)
	cmd.WaitDelay = 5 * time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(out.String() + complaint.String())
		return out.Bytes(), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, said)
	}
	return out.Bytes(), nil
}

// onNode runs a command on a cluster's node, with the node's network, processes
// and /var/lib: it needs no API server.
func (l *Lab) onNode(ctx context.Context, cluster string, command ...string) ([]byte, error) {
	args := []string{filepath.Join(l.Root, "bin", "lab"), "--name", l.Name, "exec", cluster, "--"}
	return l.output(ctx, nil, append(args, command...)...)
}

// ask asks a control port from the cluster's node.
func (l *Lab) ask(ctx context.Context, cluster, method, url, body string) ([]byte, error) {
	return l.onNode(ctx, cluster, l.Traffic, "ask", method, url, body)
}

// signal signals the processes on a cluster's node that were started with these
// words, all or one of them; if pod is not empty, those in pods whose names begin
// so.
func (l *Lab) signal(ctx context.Context, cluster, name, which, pod string, words ...string) error {
	_, err := l.onNode(ctx, cluster, append([]string{l.Traffic, "signal", name, which, pod}, words...)...)
	return err
}
