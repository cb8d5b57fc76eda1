package agent_test

import (
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/agent"
	"github.com/isthmus-mesh/isthmus/test/leak"
)

const (
	socketHeader = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	byProxy      = "   0: 00000000:3A9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1337        0 39245 1 0000000000000000 100 0 0 10 0\n"
	byApp        = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 39246 1 0000000000000000 100 0 0 10 0\n"
	connected    = "   2: 0100007F:1F90 0100007F:8F2A 01 00000000:00000000 00:00000000 00000000     0        0 39247 1 0000000000000000 20 4 30 10 -1\n"
)

func TestAppListens(t *testing.T) {
	for name, tt := range map[string]struct {
		tcp, tcp6 string
		want      bool
		fails     string
	}{
		"the proxy alone":    {tcp: socketHeader + byProxy, tcp6: socketHeader + byProxy},
		"the application":    {tcp: socketHeader + byProxy + byApp, want: true},
		"by IPv6 alone":      {tcp: socketHeader + byProxy, tcp6: socketHeader + byApp, want: true},
		"only connections":   {tcp: socketHeader + byProxy + connected},
		"nothing":            {tcp: socketHeader},
		"not such a table":   {tcp: socketHeader + "   0: 00000000:3A9E\n", fails: "line 2 of the table of sockets has 2 columns"},
		"a line without end": {tcp: strings.Repeat("x", 1<<20), fails: "token too long"},
	} {
		t.Run(name, func(t *testing.T) {
			tables := fstest.MapFS{"tcp": {Data: []byte(tt.tcp)}}
			if tt.tcp6 != "" {
				tables["tcp6"] = &fstest.MapFile{Data: []byte(tt.tcp6)}
			}
			got, err := agent.AppListens(tables, 1337)
			if got != tt.want || tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("%v, error %v; want %v, %q", got, err, tt.want, tt.fails)
			}
		})
	}
}

// TestOwnSocketsAreSeen: what the kernel writes is read.
func TestOwnSocketsAreSeen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	if yes, err := agent.AppListens(os.DirFS("/proc/net"), os.Getuid()+1); !yes || err != nil {
		t.Errorf("a socket of this process is not found: %v, %v", yes, err)
	}
}

// TestSidecarOutlivesItsApplication: one that gets its SIGTERM together with the
// application stays for as long as that has a port open, however late it is; not
// so when the application itself asks it to end.
func TestSidecarOutlivesItsApplication(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	dir := t.TempDir()
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	write(t, dir, "token", "good")
	d.start()
	defer d.stop()

	var listens atomic.Bool
	asked := make(chan struct{}, 1000)
	start := func() *running {
		listens.Store(true)
		r := startAgent(t, d, dir, func(c *agent.Config) {
			c.Kind, c.DrainFor = agent.Sidecar, time.Millisecond
			c.AppListens = func() (bool, error) {
				asked <- struct{}{}
				return listens.Load(), nil
			}
		})
		eventually(t, "ready", func() bool { return r.Ready() == nil })
		return r
	}

	r := start()
	r.cancel()
	for range 3 {
		<-asked // it would have ended, each time
	}
	front, _ := r.engine.Addr("front")
	conn, err := net.Dial("tcp", front.String())
	check(t, err)
	check(t, exchange(conn))
	conn.Close()
	listens.Store(false)
	check(t, <-r.done)

	r = start()
	if code, _ := get(t, "POST", "http://"+r.addrs.Status+"/quitquitquit"); code != 200 {
		t.Errorf("/quitquitquit: %d", code)
	}
	check(t, <-r.done)
}

// TestStopDelay: the hook of the application answers after its time, and a caller
// of it changes nothing.
func TestStopDelay(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	dir := t.TempDir()
	r := startAgent(t, d, dir, func(c *agent.Config) { c.Kind, c.StopDelay = agent.Sidecar, 100*time.Millisecond })
	defer r.end(t)
	start := time.Now()
	if code, _ := get(t, "GET", "http://"+r.addrs.Status+"/application-stops"); code != 200 {
		t.Errorf("the hook answers %d", code)
	}
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("the hook answered after %s", took)
	}
	if err := r.Ready(); err != nil && strings.Contains(err.Error(), "draining") {
		t.Errorf("who asks makes the proxy drain: %v", err)
	}
}
