package agent_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/agent"
	"github.com/isthmus-mesh/isthmus/test/leak"
)

// TestRestartWithoutDiscovery: a proxy that is killed while discovery is away
// serves again with what it had, within two seconds; in another pod's place it
// does not.
func TestRestartWithoutDiscovery(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	dir := t.TempDir()
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	write(t, dir, "token", "good")
	d.start()
	first := startAgent(t, d, dir, nil)
	kept := filepath.Join(dir, "configuration.gz")
	eventually(t, "the configuration is kept", func() bool { _, err := os.Stat(kept); return err == nil })
	d.stop()

	// What a process writes when it ends in good order is not there after a kill.
	asKilled, err := os.ReadFile(kept)
	check(t, err)
	first.end(t)
	check(t, os.WriteFile(kept, asKilled, 0o600))

	started := time.Now()
	again := startAgent(t, d, dir, nil)
	eventually(t, "ready without discovery", func() bool { return again.Ready() == nil })
	front, ok := again.engine.Addr("front")
	if !ok {
		t.Fatal("the listener is not bound")
	}
	conn, err := net.Dial("tcp", front.String())
	check(t, err)
	check(t, exchange(conn))
	t.Logf("served %s after the start", time.Since(started))
	conn.Close()
	again.end(t)

	other := startAgent(t, d, dir, func(c *agent.Config) { c.Pod = "web-2" })
	defer other.end(t)
	eventually(t, "another pod waits for discovery", func() bool {
		err := other.Ready()
		return err != nil && strings.Contains(err.Error(), "no configuration yet: cannot reach discovery")
	})
	if _, err := os.Stat(kept); !os.IsNotExist(err) {
		t.Errorf("what another pod had is still there: %v", err)
	}
}
