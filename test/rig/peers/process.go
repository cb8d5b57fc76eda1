// Package peers starts the proxies that talk with each other, or are measured
// against each other: haproxy, nginx, Envoy and isthmus-proxy, each in a network
// namespace of package topo, and with a configuration that does the same work.
package peers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig/meter"
	"github.com/isthmus-mesh/isthmus/test/rig/topo"
)

// ProxyUID is the user and group that proxies run as: redirection leaves its
// connections alone.
const ProxyUID = 1337

// Threads is how many processors each proxy may use, whichever it is.
const Threads = 2

// Proxy is a running proxy.
type Proxy struct {
	Name    string
	Node    *topo.Node
	Started time.Time
	// LogFile holds what it printed.
	LogFile string

	cmd   *exec.Cmd
	ended chan struct{}
	pids  []int
}

// start runs the command on the node as the proxy user, with its output in a
// file of dir.
func start(node *topo.Node, name, dir string, cmd *exec.Cmd) (*Proxy, error) {
	p := &Proxy{Name: name, Node: node, cmd: cmd, ended: make(chan struct{}),
		LogFile: filepath.Join(dir, fmt.Sprintf("%s-%s.log", name, node.Name))}
	log, err := os.Create(p.LogFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: ProxyUID, Gid: ProxyUID},
		// Low ports, as a container gives them to a proxy.
		AmbientCaps: []uintptr{10}, // CAP_NET_BIND_SERVICE
	}
	p.Started = time.Now()
	if err := node.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, node.Name, err)
	}
	p.pids = []int{cmd.Process.Pid}
	go func() {
		_ = cmd.Wait() // the log tells why
		close(p.ended)
	}()
	return p, nil
}

// PIDs are the processes of the proxy.
func (p *Proxy) PIDs() []int { return p.pids }

// addChildren counts the processes that the first one started.
func (p *Proxy) addChildren() error {
	kids, err := meter.Children(p.pids[0])
	if err != nil {
		return fmt.Errorf("children of %s: %w", p.Name, err)
	}
	p.pids = append(p.pids[:1], kids...)
	return nil
}

// waitPort waits until the address takes connections.
func (p *Proxy) waitPort(addr string) error {
	return p.wait(func() error {
		c, err := p.Node.Dial(addr)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// wait tries until ready gives no error, the process ends, or 20 s are over.
func (p *Proxy) wait(ready func() error) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s on %s ended: %s", p.Name, p.Node.Name, p.logTail())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.Stop()
			return fmt.Errorf("%s on %s is not ready: %w: %s", p.Name, p.Node.Name, err, p.logTail())
		}
	}
}

func (p *Proxy) logTail() string {
	data, err := os.ReadFile(p.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}

// Alive gives an error that holds the end of the log if the process ended.
func (p *Proxy) Alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s on %s ended: %s", p.Name, p.Node.Name, p.logTail())
	default:
		return nil
	}
}

// Stop kills the proxy and waits until it is gone.
func (p *Proxy) Stop() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.ended
}

// WaitGone waits for the children too: they end when the first process does.
func (p *Proxy) WaitGone() {
	for _, pid := range p.pids {
		for range 200 {
			if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// Install copies a binary to where the proxy user may execute it, and gives its
// path there.
func Install(binary, dir string) (string, error) {
	src, err := os.Open(binary)
	if err != nil {
		return "", err
	}
	defer func() { _ = src.Close() }()
	name := filepath.Join(dir, filepath.Base(binary))
	tmp, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(tmp, src)
	if err = errors.Join(err, tmp.Chmod(0o755), tmp.Close()); err != nil {
		return "", fmt.Errorf("copy %s: %w", binary, err)
	}
	return name, os.Rename(tmp.Name(), name)
}

// writeFile writes a file that the proxy user may read and nobody else need.
func writeFile(name string, data []byte) error {
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return err
	}
	return os.Chown(name, ProxyUID, ProxyUID)
}
