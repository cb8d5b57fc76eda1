package httpproxy

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestConnectionsOverChange: a change of a cluster that says nothing of connections
// costs none; one that does brings others, and fails no request.
func TestConnectionsOverChange(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Peer", r.RemoteAddr)
			}))
			proto := config.HTTP1
			if h2 {
				proto = config.HTTP2
			}
			cluster := staticCluster("c", proto, addr)
			h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
			c := client(t, h.addr, h2)
			peer := func() string {
				t.Helper()
				resp, err := c.Get("http://server/")
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Fatalf("status %d", resp.StatusCode)
				}
				return resp.Header.Get("Peer")
			}
			change := func(edit func(*config.Cluster)) {
				t.Helper()
				next := *cluster
				edit(&next)
				if err := h.set.Apply(&next); err != nil {
					t.Fatal(err)
				}
				cluster = &next
			}

			first := peer()
			change(func(c *config.Cluster) {
				c.ConnectTimeout, c.LB = time.Minute, config.LBRandom
				c.Outlier = &config.OutlierDetection{Consecutive5xx: 7, MaxPercent: 100}
			})
			if got := peer(); got != first {
				t.Errorf("a change of other things: the connection is %s, was %s", got, first)
			}
			change(func(c *config.Cluster) { c.HTTP.MaxAge = time.Hour })
			if got := peer(); got == first {
				t.Error("a connection that knows of no greatest age serves on")
			}
		})
	}
}

// TestChangesUnderLoad: changes that bring other connections, one after another, fail no
// request of those that are under way.
func TestChangesUnderLoad(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			addr := backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			proto := config.HTTP1
			if h2 {
				proto = config.HTTP2
			}
			cluster := staticCluster("c", proto, addr)
			h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
			c := client(t, h.addr, h2)

			var callers sync.WaitGroup
			var calls atomic.Int64
			done := make(chan struct{})
			for range 4 {
				callers.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
						}
						resp, err := c.Post("http://server/", "", nil)
						if err != nil {
							t.Error(err)
							return
						}
						_ = resp.Body.Close()
						if resp.StatusCode != 200 {
							t.Errorf("status %d", resp.StatusCode)
							return
						}
						calls.Add(1)
					}
				})
			}
			for i := range 30 {
				next := *cluster
				next.HTTP.MaxAge = time.Hour + time.Duration(i)
				if err := h.set.Apply(&next); err != nil {
					t.Fatal(err)
				}
				before := calls.Load()
				eventually(t, "calls", func() bool { return t.Failed() || calls.Load() > before+3 })
			}
			close(done)
			callers.Wait()
		})
	}
}
