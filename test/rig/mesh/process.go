package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig/meter"
)

// Process is a discovery server that runs as a process of its own.
type Process struct {
	Config
	cmd   *exec.Cmd
	start func(*exec.Cmd) error
	dial  meter.Dialer
	ended chan struct{}
	log   string
	// program serves what file describes.
	program, file string
}

// Start runs `program FILE` (bench/discovery) through start and waits until it
// serves. dial reaches its ports.
func Start(ctx context.Context, program, dir string, cfg Config, start func(*exec.Cmd) error, dial meter.Dialer) (*Process, error) {
	data, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	p := &Process{Config: cfg, start: start, dial: dial, program: program,
		log: filepath.Join(dir, "discovery.log"), file: filepath.Join(dir, "discovery.json")}
	if err := os.WriteFile(p.file, data, 0o600); err != nil {
		return nil, err
	}
	return p, p.launch(ctx)
}

func (p *Process) launch(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(p.program, p.file)
	p.cmd.Stderr = log
	p.ended = make(chan struct{})
	if err := p.start(p.cmd); err != nil {
		return fmt.Errorf("start discovery: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // the log tells why
		close(p.ended)
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		c, err := p.dial(p.Plain)
		if err == nil {
			_ = c.Close()
			c, err = p.dial(p.TLS)
		}
		if err == nil {
			_ = c.Close()
			_, err = p.Stats(ctx)
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			out, _ := os.ReadFile(p.log)
			return fmt.Errorf("discovery ended: %s", out[max(0, len(out)-2000):])
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("discovery does not serve: %w", err)
		}
	}
}

// PID is the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop kills the process and waits for its end.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Restart kills the process and starts it anew with the mesh as it was first.
// It gives the time at which it was killed.
func (p *Process) Restart(ctx context.Context) (time.Time, error) {
	at := time.Now()
	p.Stop()
	return at, p.launch(ctx)
}

// Stats asks the process about itself.
func (p *Process) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	page, err := meter.Get(ctx, p.dial, "http://"+p.Control+"/stats")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(page, &s)
}

// Change asks for a change.
func (p *Process) Change(ctx context.Context, ch Change) (Changed, error) {
	var c Changed
	body, err := json.Marshal(ch)
	if err != nil {
		return c, err
	}
	page, err := meter.Post(ctx, p.dial, "http://"+p.Control+"/change", body)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(page, &c)
}

// Dial opens a connection to one of the process's ports.
func (p *Process) Dial(addr string) (net.Conn, error) { return p.dial(addr) }
