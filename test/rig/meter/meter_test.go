package meter

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestCPU(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
	}
	after, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if d := after - before; d < time.Millisecond || d > 10*time.Second {
		t.Fatalf("50 ms of work cost %s", d)
	}
	if _, err := CPU(1 << 22); err == nil {
		t.Fatal("a process that does not exist has used processor time")
	}
}

func TestRSSAndChildren(t *testing.T) {
	n, err := RSS(os.Getpid())
	if err != nil || n < 1<<20 {
		t.Fatalf("RSS %d, %v", n, err)
	}
	cmd := exec.Command("sleep", "10")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	kids, err := Children(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(kids, cmd.Process.Pid) {
		t.Fatalf("children %v, want %d among them", kids, cmd.Process.Pid)
	}
}

func TestCounter(t *testing.T) {
	page := []byte(`# HELP mallocs_total Of objects.
# TYPE mallocs_total counter
mallocs_total 5
mallocs_total{kind="a} b"} 2.5e+01
# TYPE mallocs_total_other counter
mallocs_total_other 7
# TYPE heap_bytes gauge
heap_bytes 3
`)
	if v, err := Counter(page, "mallocs_total"); err != nil || v != 30 {
		t.Errorf("%v, %v; want 30", v, err)
	}
	for _, name := range []string{"none", "heap_bytes", "mallocs"} {
		if v, err := Counter(page, name); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
	if v, err := Counter(append(page, `broken{x="y"} z`+"\n"...), "mallocs_total"); err == nil {
		t.Errorf("a page that is broken: %v", v)
	}
}

func TestGauge(t *testing.T) {
	page := []byte("# TYPE clusters gauge\nclusters{status=\"synced\"} 3\nclusters{status=\"stale\"} 1\n")
	if n, err := Gauge(page, "clusters", "status", "synced"); err != nil || n != 3 {
		t.Errorf("got %v, %v, want 3", n, err)
	}
	if _, err := Gauge(page, "others", "status", "synced"); err == nil {
		t.Error("a gauge that is not there is found")
	}
}
