package agent

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// TestAgentThatHangsIsNotWaitedForForEver: an agent that was stopped, or hangs,
// still has its socket, and the kernel takes connections to it.
func TestAgentThatHangsIsNotWaitedForForEver(t *testing.T) {
	paths, err := plan.NewPaths(filepath.Join(t.TempDir(), "lab"))
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.WriteFile(paths.Spec(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", paths.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := NewClient(paths)
	defer client.http.CloseIdleConnections()
	client.patience = 50 * time.Millisecond
	err = client.Stop(t.Context(), "cluster-1")
	const want = "the lab's agent does not answer (no answer within 50ms): repair the lab with `lab up`"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want %q", err, want)
	}
}
