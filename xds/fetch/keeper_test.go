package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

func keepIn(dir string) *fetch.Keep {
	return &fetch.Keep{
		File: filepath.Join(dir, "kept"), Owner: "me", Every: time.Millisecond,
		Until: func() time.Time { return time.Now().Add(time.Hour) },
	}
}

// lockedBuffer takes a log from several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// changed waits until a file is there and is not as before.
func changed(t *testing.T, file string, before []byte) []byte {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if now, err := os.ReadFile(file); err == nil && !bytes.Equal(now, before) {
			return now
		}
		if time.Now().After(deadline) {
			t.Fatal("the file is not written")
		}
	}
}

// alone runs a client that has no discovery, until the handler has what it kept.
func alone(t *testing.T, keep *fetch.Keep, lines ...string) {
	t.Helper()
	h := newRecorder()
	h.wanted[xds.TypeEndpoint] = []string{"c", "b", "a"}
	c, err := fetch.New(fetch.Config{Address: "127.0.0.1:1", Node: &corev3.Node{Id: "n"}, Handler: h, Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = c.Run(ctx) })
	defer run.Wait()
	defer cancel()
	for _, want := range lines {
		if got := h.next(t); got != want {
			t.Errorf("applied %q, want %q", got, want)
		}
	}
}

// TestKeptOverARestart: a client that starts while discovery is away has what the
// one before it had at the end, whatever it was sent on the way there, and tells
// discovery of it.
func TestKeptOverARestart(t *testing.T) {
	keep := keepIn(t.TempDir())
	t.Run("before", func(t *testing.T) {
		h := newRecorder()
		srv, _ := startWith(t, fetch.Config{Handler: h, Keep: keep})
		p := <-srv.streams
		p.expect(t, "node Cluster", "Listener")
		p.send(t, xds.TypeCluster, "n1", "a=1", "b=1", "c=1", "d=bad")
		file := changed(t, keep.File, nil)
		if info, err := os.Stat(keep.File); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file has mode %v, %v", info.Mode(), err)
		}

		h.want(xds.TypeEndpoint, "a", "c")
		p.expect(t, "Cluster nack n1: d: version: is bad", "ClusterLoadAssignment +a +c")
		p.send(t, xds.TypeEndpoint, "n2", "a=7", "c=8")
		file = changed(t, keep.File, file)

		h.want(xds.TypeEndpoint, "c")
		p.send(t, xds.TypeCluster, "n3", "b=2", "-a")
		file = changed(t, keep.File, file)
		p.send(t, xds.TypeListener, "n4")
		changed(t, keep.File, file)
	})

	alone(t, keep, "Cluster +b=2 +c=1", "ClusterLoadAssignment +c=8", "Listener")

	t.Run("after", func(t *testing.T) {
		h := newRecorder()
		h.wanted[xds.TypeEndpoint] = []string{"b", "c"}
		srv, _ := startWith(t, fetch.Config{Handler: h, Keep: keep})
		p := <-srv.streams
		p.expect(t, "node Cluster b=2 c=1", "ClusterLoadAssignment +b +c c=8", "Listener")
	})
}

// TestVirtualHostsAreKept: those of the route configurations that are still wanted are
// there after a restart.
func TestVirtualHostsAreKept(t *testing.T) {
	keep := keepIn(t.TempDir())
	t.Run("before", func(t *testing.T) {
		h := newRecorder()
		srv, _ := startWith(t, fetch.Config{Handler: h, Keep: keep})
		p := <-srv.streams
		p.expect(t, "node Cluster", "Listener")
		h.want(xds.TypeVirtualHost, "80", "81")
		p.expect(t, "VirtualHost +80 +81")
		p.send(t, xds.TypeVirtualHost, "n1", "80/a=1", "80/b=1", "81/a=1")
		changed(t, keep.File, nil)
	})
	h := newRecorder()
	h.wanted[xds.TypeVirtualHost] = []string{"80"}
	srv, _ := startWith(t, fetch.Config{Handler: h, Keep: keep})
	// The file has no order within a type.
	got := strings.Fields(h.next(t))
	slices.Sort(got)
	if want := []string{"+80/a=1", "+80/b=1", "VirtualHost"}; !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
	p := <-srv.streams
	p.expect(t, "node Cluster", "Listener", "VirtualHost +80 80/a=1 80/b=1")
}

// TestNamesAreKept: the names that a sidecar answers for are kept, too, and given to
// a client alone that still asks for them.
func TestNamesAreKept(t *testing.T) {
	keep := keepIn(t.TempDir())
	t.Run("before", func(t *testing.T) {
		srv, _ := startWith(t, fetch.Config{Handler: newRecorder(), Keep: keep, Names: true})
		p := <-srv.streams
		p.expect(t, "node Cluster", "Listener", "NameTable +*")
		p.send(t, xds.TypeNameTable, "n1", "names=1")
		changed(t, keep.File, nil)
	})
	for _, tt := range []struct {
		names bool
		asks  []string
	}{
		{true, []string{"node Cluster", "Listener", "NameTable +* names=1"}},
		{false, []string{"node Cluster", "Listener"}},
	} {
		t.Run(fmt.Sprintf("after, with names %v", tt.names), func(t *testing.T) {
			h := newRecorder()
			srv, _ := startWith(t, fetch.Config{Handler: h, Keep: keep, Names: tt.names})
			if tt.names {
				if got := h.next(t); got != "NameTable +names=1" {
					t.Errorf("applied %q", got)
				}
			}
			p := <-srv.streams
			p.expect(t, tt.asks...)
		})
	}
}

// TestNothingIsKeptOfHalf: as long as Until gives no time, there is no file.
func TestNothingIsKeptOfHalf(t *testing.T) {
	keep := keepIn(t.TempDir())
	asked, complete := make(chan struct{}, 1000), make(chan struct{})
	keep.Until = func() time.Time {
		select {
		case <-complete:
			return time.Now().Add(time.Hour)
		default:
		}
		asked <- struct{}{}
		return time.Time{}
	}
	srv, _ := startWith(t, fetch.Config{Handler: newRecorder(), Keep: keep})
	p := <-srv.streams
	p.expect(t, "node Cluster", "Listener")
	p.send(t, xds.TypeCluster, "n1", "a=1")
	for range 3 {
		<-asked
	}
	if _, err := os.Stat(keep.File); !os.IsNotExist(err) {
		t.Errorf("there is a file of an unfinished configuration: %v", err)
	}
	close(complete)
	changed(t, keep.File, nil)
}

// TestKeptFileThatIsDamaged goes, with one line in the log, and the client starts
// from nothing.
func TestKeptFileThatIsDamaged(t *testing.T) {
	keep := keepIn(t.TempDir())
	if err := os.WriteFile(keep.File, []byte("boo"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	srv, _ := startWith(t, fetch.Config{Handler: newRecorder(), Keep: keep, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p := <-srv.streams
	p.expect(t, "node Cluster", "Listener")
	if _, err := os.Stat(keep.File); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
	if text := log.String(); strings.Count(text, "kept configuration is of no use") != 1 {
		t.Errorf("the log has not one line of it: %s", text)
	}
}

// TestFileThatIsLost: what has not changed is in the file alone. When somebody has
// taken it away, no file is better than half of one.
func TestFileThatIsLost(t *testing.T) {
	keep := keepIn(t.TempDir())
	srv, _ := startWith(t, fetch.Config{Handler: newRecorder(), Keep: keep})
	p := <-srv.streams
	p.expect(t, "node Cluster", "Listener")
	p.send(t, xds.TypeCluster, "n1", "a=1", "b=1")
	file := changed(t, keep.File, nil)

	// What is left of a process that was killed while it wrote is no obstacle.
	if err := os.WriteFile(keep.File+".tmp", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.send(t, xds.TypeCluster, "n2", "a=2")
	changed(t, keep.File, file)

	if err := os.WriteFile(keep.File, []byte("boo"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.send(t, xds.TypeCluster, "n3", "a=3")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(keep.File); os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("half of a configuration is kept")
		}
	}
	if left, _ := filepath.Glob(keep.File + "*"); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestLastChangeIsKept: one that comes right before the end is in the file.
func TestLastChangeIsKept(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	keep := keepIn(t.TempDir())
	keep.Every = time.Hour
	t.Run("run", func(t *testing.T) {
		h := newRecorder()
		srv, _ := startWith(t, fetch.Config{Handler: h, Keep: keep})
		p := <-srv.streams
		p.expect(t, "node Cluster", "Listener")
		p.send(t, xds.TypeCluster, "n1", "a=1")
		p.expect(t, "Cluster ack n1")
	})
	alone(t, keep, "Cluster +a=1")
}
