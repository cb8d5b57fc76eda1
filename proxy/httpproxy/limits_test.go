package httpproxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

func noLimits() *config.Limits {
	return &config.Limits{
		Connections: config.NoLimit, Pending: config.NoLimit, Requests: config.NoLimit, Retries: config.NoLimit,
	}
}

// gate is a backend whose requests wait until it opens.
type gate struct {
	addr    string
	waiting atomic.Int32
	peers   sync.Map
	open    chan struct{}
}

func newGate(t *testing.T) *gate {
	g := &gate{open: make(chan struct{})}
	g.addr = backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		g.peers.Store(r.RemoteAddr, true)
		g.waiting.Add(1)
		<-g.open
	}))
	return g
}

// TestLimitOfRequests: what is above the limit is refused, under Envoy's flag.
func TestLimitOfRequests(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		g := newGate(t)
		cluster := staticCluster("c", proto, g.addr)
		cluster.Limits = noLimits()
		cluster.Limits.Requests = 1
		h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
		first := make(chan int)
		go func() { first <- statusOfGet(t, client(t, h.addr, h2)) }()
		eventually(t, "the first request", func() bool { return g.waiting.Load() == 1 })

		resp, err := client(t, h.addr, h2).Get("http://a/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 503 || !strings.Contains(string(body), "overflow") {
			t.Errorf("the second request: %d %s", resp.StatusCode, body)
		}
		eventually(t, "the flag UO", func() bool { return counted(t, h, "istio_requests_total", "response_flags", "UO") == 1 })

		close(g.open)
		if status := <-first; status != 200 {
			t.Errorf("the first request: %d", status)
		}
		if status := statusOfGet(t, client(t, h.addr, h2)); status != 200 {
			t.Errorf("after it: %d", status)
		}
	})
}

// TestLimitOfConnections: what is above the limit waits for a connection, up to the limit of those that wait.
func TestLimitOfConnections(t *testing.T) {
	g := newGate(t)
	cluster := staticCluster("c", config.HTTP1, g.addr)
	cluster.Limits = noLimits()
	cluster.Limits.Connections, cluster.Limits.Pending = 1, 1
	h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})

	statuses := make(chan int, 3)
	for range 3 {
		go func() { statuses <- statusOfGet(t, client(t, h.addr, false)) }()
	}
	if status := <-statuses; status != 503 {
		t.Errorf("with one under way and one waiting, a third one got %d", status)
	}
	close(g.open)
	for range 2 {
		if status := <-statuses; status != 200 {
			t.Errorf("got %d", status)
		}
	}
	connections := 0
	g.peers.Range(func(any, any) bool { connections++; return true })
	if connections != 1 {
		t.Errorf("%d connections were made", connections)
	}
}

// TestRetryBudgetIsUsedUp: the answer at hand is passed on.
func TestRetryBudgetIsUsedUp(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		var asked atomic.Int32
		bad := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.WriteHeader(503)
		})
		cluster := staticCluster("c", proto, backend(t, bad), backend(t, bad))
		cluster.Limits = noLimits()
		cluster.Limits.Retries = 0
		routes := toCluster("c")
		routes.VirtualHosts[0].Routes[0].Action.Retry = &config.RetryPolicy{On: []string{"5xx"}, Attempts: 2}
		h := startHop(t, setup{hcm: config.HCM{Routes: routes}, clusters: []*config.Cluster{cluster}})
		if status := statusOfGet(t, client(t, h.addr, h2)); status != 503 || asked.Load() != 1 {
			t.Errorf("status %d after %d tries", status, asked.Load())
		}
		eventually(t, "the flag UO", func() bool { return counted(t, h, "istio_requests_total", "response_flags", "UO") == 1 })
	})
}

// TestAgeOfConnections: one that is too old, or idle for too long by the cluster's bounds, is not used again.
func TestAgeOfConnections(t *testing.T) {
	for name, set := range map[string]func(*config.HTTPOptions){
		"max_connection_duration": func(o *config.HTTPOptions) { o.MaxAge = time.Nanosecond },
		"idle_timeout":            func(o *config.HTTPOptions) { o.IdleTimeout, o.IdleSet = time.Nanosecond, true },
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan string, 10)
			cluster := staticCluster("c", config.HTTP1, backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.RemoteAddr })))
			set(&cluster.HTTP)
			h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
			cl := client(t, h.addr, false)
			peers := map[string]bool{}
			for range 3 {
				if status := statusOfGet(t, cl); status != 200 {
					t.Fatalf("status %d", status)
				}
				peers[<-seen] = true
			}
			if len(peers) != 3 {
				t.Errorf("3 requests came by %d connections", len(peers))
			}
		})
	}
}

// TestIdleForEver: a connection is kept for as long as the cluster says, for ever where that is 0, and by the proxy's
// own measure where it says nothing.
func TestIdleForEver(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*config.HTTPOptions)
		kept int
	}{
		"nothing said": {func(*config.HTTPOptions) {}, 0},
		"for ever":     {func(o *config.HTTPOptions) { o.IdleSet = true }, 1},
		"two hours":    {func(o *config.HTTPOptions) { o.IdleSet, o.IdleTimeout = true, 2*time.Hour }, 1},
		"a minute":     {func(o *config.HTTPOptions) { o.IdleSet, o.IdleTimeout = true, time.Minute }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := staticCluster("c", config.HTTP1, backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			c.set(&cluster.HTTP)
			h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
			if status := statusOfGet(t, client(t, h.addr, false)); status != 200 {
				t.Fatalf("status %d", status)
			}

			p := h.server.pool(h.set.Get("c").Endpoints()[0])
			idle := func() int {
				p.mu.Lock()
				defer p.mu.Unlock()
				for _, c := range p.idle {
					c.since = time.Now().Add(-time.Hour)
				}
				return len(p.idle)
			}
			eventually(t, "the connection falls idle", func() bool { return idle() == 1 })
			p.sweep()
			if got := idle(); got != c.kept {
				t.Errorf("after an hour %d connections are left, want %d", got, c.kept)
			}
		})
	}
}

func statusOfGet(t *testing.T, cl *http.Client) int {
	resp, err := cl.Get("http://a/")
	if err != nil {
		t.Error(err)
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// counted returns the sum of a metric's series with a label.
func counted(t *testing.T, h *hop, metric, label, value string) float64 {
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
