package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

const host = "web.shop.svc.cluster.local"

// caller is a proxy, as its admin port shows it, through which ten calls go between two
// looks.
type caller struct {
	mu     sync.Mutex
	counts map[[3]string]int // cluster, code, flags
	drill  string            // the cluster that fails
	said   []string          // what it was told

	// quiet makes no calls.
	quiet bool
	// refuses is why a drill is not taken.
	refuses string
	// loses of the ten calls while endpoints fail.
	loses int
	// stays tells that calls do not go back.
	stays bool
	moved bool
}

func (c *caller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.URL.Path {
	case "/stats/prometheus":
		c.call()
		c.page(w)
	case "/drill":
		c.said = append(c.said, r.FormValue("cluster")+" "+r.FormValue("lease"))
		if r.FormValue("lease") == "0s" {
			c.drill = ""
			return
		}
		if c.refuses != "" || r.FormValue("host") != host {
			http.Error(w, c.refuses, http.StatusConflict)
			return
		}
		c.drill = r.FormValue("cluster")
	}
}

// call makes ten calls.
func (c *caller) call() {
	if c.counts == nil {
		c.counts = map[[3]string]int{}
	}
	if c.quiet {
		return
	}
	to := "near"
	if c.drill == "near" || c.stays && c.moved {
		to, c.moved = "far", true
	}
	lost := 0
	if c.drill != "" {
		lost = c.loses
	}
	c.counts[[3]string{to, "200", "-"}] += 10 - lost
	c.counts[[3]string{"near", "503", "UF"}] += lost
	// A caller that gives up says nothing of the service.
	c.counts[[3]string{"near", "0", "DC"}]++
}

func (c *caller) page(w http.ResponseWriter) {
	fmt.Fprintln(w, "# TYPE istio_requests_total counter")
	for key, n := range c.counts {
		for _, reporter := range []string{"source", "destination"} {
			fmt.Fprintf(w, "istio_requests_total{reporter=%q,destination_service=%q,destination_cluster=%q,response_code=%q,response_flags=%q} %d\n",
				reporter, host, key[0], key[1], key[2], n)
		}
		fmt.Fprintf(w, "istio_requests_total{reporter=\"source\",destination_service=\"other\",destination_cluster=%q,response_code=%q} %d\n", key[0], key[1], n)
	}
}

// game is one with a caller, at a pace of milliseconds.
func game(t *testing.T, callers ...*caller) *Game {
	g := &Game{
		Host: host, Tick: 5 * time.Millisecond,
		Before: 50 * time.Millisecond, During: 100 * time.Millisecond, After: 500 * time.Millisecond,
	}
	for i, c := range callers {
		srv := httptest.NewServer(c)
		t.Cleanup(srv.Close)
		g.Clients = append(g.Clients, Client{Name: fmt.Sprintf("caller-%d", i), Admin: strings.TrimPrefix(srv.URL, "http://")})
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return g
}

// released fails the test where a caller's endpoints still fail.
func released(t *testing.T, callers ...*caller) {
	t.Helper()
	for i, c := range callers {
		if c.drill != "" || len(c.said) == 0 || c.said[len(c.said)-1] != " 0s" {
			t.Errorf("caller-%d was told %q: its endpoints fail on", i, c.said)
		}
	}
}

// TestWon: calls move to the other cluster and return, and none is lost.
func TestWon(t *testing.T) {
	a, b := &caller{}, &caller{}
	g := game(t, a, b)
	stages := map[Stage]int{}
	g.Tell = func(l Look) { stages[l.Stage]++ }
	v, err := g.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	if !v.Won() || v.Cluster != "near" || v.Before.Total == 0 || v.Before.Total%20 != 0 {
		t.Errorf("the verdict is %+v", v)
	}
	if v.During.To["far"] == 0 || v.After.To["near"] == 0 || v.Before.To["far"] != 0 {
		t.Errorf("calls went to %+v, then to %+v, and then to %+v", v.Before.To, v.During.To, v.After.To)
	}
	if stages[Before] == 0 || stages[During] == 0 || stages[After] == 0 {
		t.Errorf("told were %v", stages)
	}
	released(t, a, b)
}

// TestLost: what a verdict holds against a service.
func TestLost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		caller *caller
		want   string
	}{
		{
			name:   "calls fail",
			caller: &caller{loses: 1},
			want:   "calls failed while the endpoints failed (before: 0 of",
		},
		{
			name:   "calls do not come back",
			caller: &caller{stays: true},
			want:   "after the drill 0 % of the calls went to cluster near; before it were 100 %",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := game(t, tt.caller).Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if v.Won() || len(v.Problems) != 1 || !strings.Contains(v.Problems[0], tt.want) {
				t.Errorf("the problems are %q, want one with %q", v.Problems, tt.want)
			}
			released(t, tt.caller)
		})
	}
}

// TestNotBegun: where there is nothing to see, or a proxy refuses, no endpoint fails.
func TestNotBegun(t *testing.T) {
	t.Run("no calls", func(t *testing.T) {
		c := &caller{quiet: true}
		_, err := game(t, c).Run(t.Context())
		if !errors.Is(err, errQuiet) || len(c.said) != 0 {
			t.Errorf("the error is %v, and the proxy was told %q", err, c.said)
		}
	})

	t.Run("no calls to that cluster", func(t *testing.T) {
		c := &caller{}
		g := game(t, c)
		g.Cluster = "elsewhere"
		_, err := g.Run(t.Context())
		if !errors.Is(err, errQuiet) || !strings.Contains(err.Error(), "they went to near 100%") || len(c.said) != 0 {
			t.Errorf("the error is %v, and the proxy was told %q", err, c.said)
		}
	})

	t.Run("refused", func(t *testing.T) {
		a, b := &caller{}, &caller{refuses: "no endpoint would be left"}
		_, err := game(t, a, b).Run(t.Context())
		if err == nil || err.Error() != "caller-1: no endpoint would be left" {
			t.Errorf("the error is %v", err)
		}
		released(t, a, b)
	})
}

// TestInterrupted: who interrupts a game finds everything as it was.
func TestInterrupted(t *testing.T) {
	c := &caller{}
	g := game(t, c)
	g.During = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	g.Tell = func(l Look) {
		if l.Stage == During {
			cancel()
		}
	}
	if _, err := g.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	released(t, c)
}

// TestFailed: which calls count as failed, and which as none of the service's.
func TestFailed(t *testing.T) {
	const page = `# TYPE istio_requests_total counter
istio_requests_total{reporter="source",destination_service="h",destination_cluster="c",response_code="200",grpc_response_status="0",response_flags="-"} 1
istio_requests_total{reporter="source",destination_service="h",destination_cluster="c",response_code="200",grpc_response_status="14",response_flags="UF"} 2
istio_requests_total{reporter="source",destination_service="h",destination_cluster="c",response_code="404",response_flags="-"} 4
istio_requests_total{reporter="source",destination_service="h",destination_cluster="c",response_code="0",response_flags="UT"} 8
istio_requests_total{reporter="source",destination_service="h",destination_cluster="c",response_code="503",response_flags="UF,URX"} 16
istio_requests_total{reporter="source",destination_service="h",destination_cluster="c",response_code="0",response_flags="DC"} 32
# TYPE istio_tcp_connections_opened_total counter
istio_tcp_connections_opened_total{reporter="source",destination_service="h",destination_cluster="c",response_flags="-"} 64
istio_tcp_connections_opened_total{reporter="source",destination_service="h",destination_cluster="c",response_flags="UF"} 128
`
	c := counted{}
	if err := c.read(strings.NewReader(page), 0, "h"); err != nil {
		t.Fatal(err)
	}
	calls := c.since(counted{})
	if calls.To["c"] != 1+4+64 || calls.Failed != 2+8+16+128 || calls.Total != calls.To["c"]+calls.Failed {
		t.Errorf("they are %+v", calls)
	}

	// A proxy that was started anew counts from nothing.
	if now := c.since(counted{{0, "c", false}: 1000, {0, "c", true}: 154}); now.Total != 69 {
		t.Errorf("after a restart they are %+v", now)
	}
}
