package httpproxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestOwnedFields sends fields in which a caller speaks in the proxy's place.
func TestOwnedFields(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		for _, edge := range []bool{false, true} {
			h := startHop(t, setup{
				hcm:      config.HCM{Routes: toCluster("c"), ForwardClientCert: config.ForwardClientCertSanitizeSet, UseRemoteAddress: edge},
				clusters: []*config.Cluster{staticCluster("c", proto, headerBackend(t))},
			})
			sent := http.Header{"X_Under_Score": {"1"}, "Content_Type": {"1"}, "X-Envoy-Attempt-Count": {"7"}}
			never := []string{
				"X_Forwarded_Client_Cert", "x_forwarded_client_cert", "X-Forwarded_Client-Cert", "X_Forwarded_For", "X_Forwarded_Proto",
				"X_Forwarded_Host", "X_Envoy_Internal", "X_Request_Id", "Transfer_Encoding", "Content_Length", "X_Isthmus_Failed",
				"X-Envoy-Internal", "X-Envoy-Retry-On", "X-Envoy-Max-Retries", "X-Envoy-Upstream-Rq-Timeout-Ms", "X-Envoy-Force-Trace",
			}
			for _, name := range never {
				sent[name] = []string{"5"}
			}
			got := seen(t, h, h2, sent)
			for name := range got {
				for _, n := range never {
					if strings.EqualFold(name, n) {
						t.Errorf("edge %v: the endpoint saw %s: %v", edge, name, got[name])
					}
				}
			}
			if got.Get("X_Under_Score") == "" && got["X_under_score"] == nil {
				t.Errorf("a field with underscores is gone: %v", got)
			}
			if has := got.Get("X-Envoy-Attempt-Count") != ""; has == edge {
				t.Errorf("edge %v: x-envoy-attempt-count passed: %v", edge, has)
			}
		}
	})
}

// TestForwardedForOfSeveralLines keeps all lines in their order: the last is the one that the hop before added.
func TestForwardedForOfSeveralLines(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		h := startHop(t, setup{
			hcm:      config.HCM{Routes: toCluster("c"), UseRemoteAddress: true},
			clusters: []*config.Cluster{staticCluster("c", proto, headerBackend(t))},
		})
		got := seen(t, h, h2, http.Header{"X-Forwarded-For": {"6.6.6.6", "203.0.113.7"}})
		if v := strings.Join(got["X-Forwarded-For"], "|"); v != "6.6.6.6, 203.0.113.7, 127.0.0.1" {
			t.Errorf("x-forwarded-for is %q", v)
		}
	})
}

// TestUpgradeWithEarlyData has a WebSocket client that sends before a slow server has agreed: the bytes come into the
// buffer in which the request head was parsed.
func TestUpgradeWithEarlyData(t *testing.T) {
	t.Parallel()
	addr := rawBackend(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		_, _ = c.Read(buf)
		time.Sleep(2*stallCheck + 500*time.Millisecond)
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		n, _ := c.Read(buf)
		_, _ = c.Write(buf[:n])
	})
	h := simpleHop(t, config.HTTP1, addr)
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	time.Sleep(2*stallCheck + 200*time.Millisecond)
	early := strings.Repeat("EARLY-DATA-", 30)
	_, _ = io.WriteString(c, early)
	got, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(got), "HTTP/1.1 101 ") || !strings.HasSuffix(string(got), early) {
		t.Errorf("got %q", got)
	}
}

// TestSilentCallers has callers that stop in the middle, or never begin.
func TestSilentCallers(t *testing.T) {
	t.Parallel()
	addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	h := startHop(t, setup{
		hcm: config.HCM{Routes: toCluster("c"), StreamIdleTimeout: 300 * time.Millisecond,
			HeadersTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond},
		clusters: []*config.Cluster{staticCluster("c", config.HTTP1, addr)},
	})
	for name, tt := range map[string]struct{ send, want string }{
		"nothing": {
			send: "",
			want: "",
		},
		"half an HTTP/2 preface": {
			send: "PRI * HTT",
			want: "HTTP/1.1 408 ",
		},
		"half a head": {
			send: "GET / HTTP/1.1\r\nHos",
			want: "HTTP/1.1 408 ",
		},
		"a body by length": {
			send: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc",
			want: "HTTP/1.1 408 ",
		},
		"a body in chunks": {
			send: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
			want: "HTTP/1.1 408 ",
		},
		"a body that never began": {
			send: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
			want: "HTTP/1.1 408 ",
		},
	} {
		start := time.Now()
		got := raw(t, h.addr, tt.send) // fails after 20 s
		if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" || time.Since(start) > 15*time.Second {
			t.Errorf("%s: got %.60q after %v", name, got, time.Since(start))
		}
	}
	eventually(t, "the flag SI of the three whose body stopped", func() bool {
		return counted(t, h, "istio_requests_total", "response_flags", "SI") == 3
	})
}

// TestSlowBodyIsNoSilentOne sends a body in pieces, each within the limit, and keeps the connection.
func TestSlowBodyIsNoSilentOne(t *testing.T) {
	t.Parallel()
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Got", strings.Repeat("x", int(n)))
	}))
	h := startHop(t, setup{
		hcm:      config.HCM{Routes: toCluster("c"), StreamIdleTimeout: 1200 * time.Millisecond},
		clusters: []*config.Cluster{staticCluster("c", config.HTTP1, addr)},
	})
	c := client(t, h.addr, false)
	for range 2 {
		r, w := io.Pipe()
		go func() {
			for range 10 {
				_, _ = io.WriteString(w, "x")
				time.Sleep(150 * time.Millisecond)
			}
			_ = w.Close()
		}()
		resp, err := c.Post("http://a/", "text/plain", r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || len(resp.Header.Get("X-Got")) != 10 {
			t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
		}
		time.Sleep(1400 * time.Millisecond) // the body's deadline must not end the idle connection
	}
}
