package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/internal/fabric"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// commandPatience bounds a command to the agent. The longest, switching a
// machine off, waits for the end of its processes and for its cgroups; an agent
// that takes longer hangs.
const commandPatience = killPatience + cgroupPatience + 10*time.Second

// Client gives commands to a lab's agent.
type Client struct {
	http *http.Client
	// patience bounds a command.
	patience time.Duration
}

// NewClient makes a client; it does not connect yet.
func NewClient(p plan.Paths) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.Socket())
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, patience: commandPatience}
}

// State asks what runs.
func (c *Client) State(ctx context.Context) (State, error) {
	var s State
	err := c.call(ctx, http.MethodGet, "/state", nil, &s)
	return s, err
}

// Start switches a cluster's machine on; a running one is left alone. It
// returns since when the machine runs.
func (c *Client) Start(ctx context.Context, cluster string) (time.Time, error) {
	var s started
	err := c.call(ctx, http.MethodPost, "/clusters/"+cluster+"/start", nil, &s)
	return s.Since, err
}

// Stop switches a cluster's machine off, as a power cut does.
func (c *Client) Stop(ctx context.Context, cluster string) error {
	return c.call(ctx, http.MethodPost, "/clusters/"+cluster+"/stop", nil, nil)
}

// Partition parts two clusters.
func (c *Client) Partition(ctx context.Context, a, b string, mode fabric.Mode) error {
	return c.call(ctx, http.MethodPost, "/partition", Partition{A: a, B: b, Mode: mode}, nil)
}

// Heal ends all partitions.
func (c *Client) Heal(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/heal", nil, nil)
}

// Expose opens an address of a cluster's network on the host's loopback; the
// result names the host's port.
func (c *Client) Expose(ctx context.Context, e Exposure) (Exposure, error) {
	var got Exposure
	err := c.call(ctx, http.MethodPost, "/expose", e, &got)
	return got, err
}

// Reaches reports whether a cluster's node can connect to an address.
func (c *Client) Reaches(ctx context.Context, cluster, addr string) bool {
	return c.call(ctx, http.MethodPost, "/reach", Exposure{Cluster: cluster, Address: addr}, nil) == nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("encode a command: %w", err)
		}
	}

	ctx, cancel := context.WithTimeoutCause(ctx, c.patience, fmt.Errorf("no answer within %s", c.patience))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, &body)
	if err != nil {
		return fmt.Errorf("ask the lab's agent: %w", err)
	}

	resp, err := c.http.Do(req)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("the lab's agent does not answer (%w): repair the lab with `lab up`", err)
	}
	defer resp.Body.Close()

	dec := json.NewDecoder(resp.Body)
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := dec.Decode(&f); err != nil || f.Error == "" {
			return fmt.Errorf("the lab's agent answers %s", resp.Status)
		}
		return errors.New(f.Error)
	}

	if out == nil {
		return nil
	}
	if err := dec.Decode(out); err != nil {
		return fmt.Errorf("read the answer of the lab's agent: %w", err)
	}
	return nil
}

// startPatience is how long a new agent may take to answer.
const startPatience = 15 * time.Second

// Launch starts the agent of the lab under p and waits until it answers. The
// agent stays when the caller ends.
func Launch(ctx context.Context, p plan.Paths) error {
	log, err := os.OpenFile(p.AgentLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open the agent's log: %w", err)
	}
	defer log.Close()

	began, err := log.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("open the agent's log: %w", err)
	}

	hostNet, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("open the host's network namespace: %w", err)
	}
	defer hostNet.Close()

	cmd := exec.Command("/proc/self/exe", "agent", "--state-dir", p.Root)
	cmd.Args[0] = "lab"
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{hostNet}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}

	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the lab's agent: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return awaitAgent(ctx, p, ended, began)
}

func awaitAgent(ctx context.Context, p plan.Paths, ended <-chan error, logFrom int64) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	client := NewClient(p)
	defer client.http.CloseIdleConnections()

	for {
		if _, err := client.State(ctx); err == nil {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the lab's agent ended at once (%w): %s", err, logSince(p.AgentLog(), logFrom))
		case <-ctx.Done():
			return fmt.Errorf("the lab's agent does not answer: see %s", p.AgentLog())
		case <-tick.C:
		}
	}
}

// logSince is what a process has logged since offset from.
func logSince(path string, from int64) string {
	raw, err := os.ReadFile(path)
	if err != nil || int64(len(raw)) < from {
		return "see " + path
	}
	return string(bytes.TrimSpace(raw[from:]))
}

// Kill ends the agent and with it the whole lab; it returns when the kernel
// has ended every process of it. Without an agent it does nothing.
func Kill(p plan.Paths) error {
	pid, err := plan.Holder(p.AgentLock())
	if err != nil || pid == 0 {
		return err
	}

	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the lab's agent, process %d: %w", pid, err)
	}
	defer unix.Close(fd)

	// The number may have been given to another process meanwhile: ask again
	// now that the descriptor holds on to the process.
	if again, err := plan.Holder(p.AgentLock()); err != nil || again != pid {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the lab's agent, process %d: %w", pid, err)
	}

	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(killPatience.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the lab's agent to end: %w", err)
		case n == 0:
			return fmt.Errorf("process %d, the lab's agent, was killed and has not ended for %s: the kernel waits for something in it, such as a disk; when that is over, run the command again", pid, killPatience)
		default:
			return nil
		}
	}
}
