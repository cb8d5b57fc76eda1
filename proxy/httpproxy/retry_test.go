package httpproxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestRetryPolicy has one endpoint that fails in some way and one that answers.
func TestRetryPolicy(t *testing.T) {
	good := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, "good "+string(body))
	}))
	for name, tt := range map[string]struct {
		policy *config.RetryPolicy
		bad    http.HandlerFunc // nil: nothing listens
		want   int
	}{
		"connect failure without policy": {
			policy: nil,
			bad:    nil,
			want:   200,
		},
		"503 without policy": {
			policy: nil,
			bad:    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
			want:   503,
		},
		"5xx": {
			policy: &config.RetryPolicy{On: []string{"5xx"}, Attempts: 2},
			bad:    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
			want:   200,
		},
		"gateway error": {
			policy: &config.RetryPolicy{On: []string{"gateway-error"}, Attempts: 1},
			bad:    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) },
			want:   200,
		},
		"500 is no gateway error": {
			policy: &config.RetryPolicy{On: []string{"gateway-error"}, Attempts: 1},
			bad:    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
			want:   500,
		},
		"listed status": {
			policy: &config.RetryPolicy{On: []string{"retriable-status-codes"}, Statuses: []int{418}, Attempts: 1},
			bad:    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) },
			want:   200,
		},
		"reset": {
			policy: &config.RetryPolicy{On: []string{"reset"}, Attempts: 1},
			bad:    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			want:   200,
		},
		"too slow": {
			policy: &config.RetryPolicy{On: []string{"reset"}, Attempts: 1, PerTryTimeout: 200 * time.Millisecond},
			bad: func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			},
			want: 200,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
				bad := refusedAddr(t)
				if tt.bad != nil {
					bad = backend(t, tt.bad)
				}
				routes := toCluster("c")
				routes.VirtualHosts[0].Routes[0].Action.Retry = tt.policy
				h := startHop(t, setup{hcm: config.HCM{Routes: routes}, clusters: []*config.Cluster{staticCluster("c", proto, bad, good)}})
				c := client(t, h.addr, h2)
				failed := 0
				for range 4 { // round robin reaches both
					resp, err := c.Post("http://a/", "text/plain", strings.NewReader("body"))
					if err != nil {
						t.Fatal(err)
					}
					b, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode == 200 && string(b) != "good body" {
						t.Errorf("body %q", b)
					}
					if resp.StatusCode != 200 {
						failed++
						if resp.StatusCode != tt.want {
							t.Errorf("status %d, want %d: %s", resp.StatusCode, tt.want, b)
						}
					}
				}
				if (failed > 0) != (tt.want != 200) {
					t.Errorf("%d of 4 requests failed", failed)
				}
			})
		})
	}
}

func refusedAddr(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestRequestsPerConnection(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		var peers atomic.Int32
		seen := make(chan string, 10)
		addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.RemoteAddr }))
		cluster := staticCluster("c", proto, addr)
		cluster.HTTP.MaxRequests = 2
		h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
		c := client(t, h.addr, h2)
		last := ""
		for range 6 {
			resp, err := c.Get("http://a/")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if peer := <-seen; peer != last {
				peers.Add(1)
				last = peer
			}
		}
		if peers.Load() < 3 {
			t.Errorf("6 requests went over %d connections, 2 at most on each", peers.Load())
		}
	})
}

func TestStreamIdleTimeout(t *testing.T) {
	t.Parallel()
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		t.Parallel()
		addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		h := startHop(t, setup{
			hcm:      config.HCM{Routes: toCluster("c"), StreamIdleTimeout: time.Second},
			clusters: []*config.Cluster{staticCluster("c", proto, addr)},
		})
		resp, err := client(t, h.addr, h2).Get("http://a/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 504 {
			t.Errorf("status %d, want 504", resp.StatusCode)
		}
		eventually(t, "the flag SI", func() bool { return counted(t, h, "istio_requests_total", "response_flags", "SI") == 1 })
	})
}
