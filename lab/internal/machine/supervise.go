package machine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
)

const (
	// logDir holds a log per component.
	logDir = "/var/log/lab"
	// logLimit is the size from which a log starts anew at a restart, in
	// bytes.
	logLimit = 16 << 20

	firstPause = 200 * time.Millisecond
	lastPause  = 5 * time.Second
	// steady is how long a component must run for its pauses to start over.
	steady = 30 * time.Second
)

// supervisor starts processes and, being the first of its namespace, buries
// all that die in it, its own and orphans alike.
type supervisor struct {
	node nodeconf.Node
	log  *slog.Logger

	mu       sync.Mutex
	children map[int]chan unix.WaitStatus
}

func newSupervisor(cfg Config) *supervisor {
	return &supervisor{node: cfg.Node, log: cfg.Log, children: map[int]chan unix.WaitStatus{}}
}

// reap collects dead processes until ctx ends.
func (s *supervisor) reap(ctx context.Context) {
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	defer signal.Stop(died)

	for {
		for s.reapOne() {
		}
		select {
		case <-died:
		case <-ctx.Done():
			return
		}
	}
}

// reapOne collects one dead process, if there is one. The lock makes a start
// and its entry in children one step.
func (s *supervisor) reapOne() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	var ws unix.WaitStatus
	pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
	if err == unix.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}

	if done, ok := s.children[pid]; ok {
		delete(s.children, pid)
		done <- ws
	}
	return true
}

// start runs a program; the channel yields its end.
func (s *supervisor) start(args []string, out *os.File) (<-chan unix.WaitStatus, error) {
	file, err := lookPath(s.node, args[0])
	if err != nil {
		return nil, err
	}

	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	defer null.Close()
	s.mu.Lock()
	defer s.mu.Unlock()

	p, err := os.StartProcess(file, args, &os.ProcAttr{
		Dir: "/", Env: environ(s.node), Files: []*os.File{null, out, out},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}

	done := make(chan unix.WaitStatus, 1)
	s.children[p.Pid] = done
	return done, nil
}

// once runs a program to its end; what it prints goes to the machine's log.
func (s *supervisor) once(ctx context.Context, args []string) error {
	done, err := s.start(args, os.Stderr)
	if err != nil {
		return err
	}

	select {
	case ws := <-done:
		if !ws.Exited() || ws.ExitStatus() != 0 {
			return fmt.Errorf("%s: %s", args[0], describe(ws))
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keep runs a component for ever, beginning when its probe succeeds.
func (s *supervisor) keep(ctx context.Context, p nodeconf.Process) {
	if p.After != nil {
		waiting := func(d time.Duration) {
			s.log.Info("component waits", "component", p.Name, "for", p.After.URL+p.After.Socket, "since", d.Round(time.Second))
		}
		if err := await(ctx, *p.After, waiting); err != nil {
			s.log.Error("component not started", "component", p.Name, "error", err)
			return
		}
	}

	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		s.log.Info("component starts", "component", p.Name)
		how := s.runLogged(ctx, p)
		if time.Since(began) > steady {
			pause = firstPause
		}
		s.log.Warn("component ended", "component", p.Name, "how", how, "restart in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
}

// runLogged runs a component once and tells how it ended.
func (s *supervisor) runLogged(ctx context.Context, p nodeconf.Process) string {
	out, err := openLog(filepath.Join(logDir, p.Name+".log"))
	if err != nil {
		return err.Error()
	}
	defer out.Close()

	done, err := s.start(p.Args, out)
	if err != nil {
		return err.Error()
	}

	select {
	case ws := <-done:
		return describe(ws)
	case <-ctx.Done():
		return ctx.Err().Error()
	}
}

func openLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > logLimit {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open a component's log: %w", err)
	}
	return f, nil
}

func describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "killed by " + ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}
