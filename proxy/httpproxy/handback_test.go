package httpproxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// pod is an inbound sidecar before an application at app, reached by the mesh's TLS.
func pod(t *testing.T, ca *mtlstest.CA, proto config.HTTPProtocol, app string) *hop {
	_, down := meshTLS(ca, proto)
	server, err := mtls.NewServer(down, ca.Identity("spiffe://cluster.local/ns/bar/sa/server"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return startHop(t, setup{
		hcm:      config.HCM{Routes: toCluster("app")},
		clusters: []*config.Cluster{{Name: "app", Type: config.ClusterOriginalDst, ConnectTimeout: 1e9, HTTP: config.HTTPOptions{Protocol: proto}}},
		tls:      func(offered []string) *tls.Config { return server.Config(offered) },
		info: func(i *downstream.Info) {
			i.Direction = config.DirectionInbound
			i.Local = mustAddr(app)
		},
	})
}

// caller is an outbound sidecar with pods as the endpoints of its only cluster, and the retries that discovery sends.
func caller(t *testing.T, ca *mtlstest.CA, proto config.HTTPProtocol, pods ...string) *hop {
	up, _ := meshTLS(ca, proto)
	cluster := staticCluster("c", proto, pods...)
	cluster.Transport = config.Transport{Name: "tls", TLS: up}
	cluster.ConnectTimeout = 20 * time.Second // a busy machine must not look like a dead endpoint, which is left out
	routes := toCluster("c")
	routes.VirtualHosts[0].Routes[0].Action.Retry = &config.RetryPolicy{
		On: []string{"connect-failure", "refused-stream", "unavailable", "cancelled"}, Attempts: 2,
	}
	return startHop(t, setup{
		hcm: config.HCM{Routes: routes}, clusters: []*config.Cluster{cluster},
		identity: ca.Identity("spiffe://cluster.local/ns/foo/sa/client"),
	})
}

// stoppable is an application that can be shut down while it serves.
func stoppable(t *testing.T) (addr string, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: p, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		time.Sleep(time.Millisecond)
		_, _ = w.Write(b)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
		_ = srv.Close()
		<-done
	})
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

// TestApplicationEndsBeforeItsSidecar has one of two applications close its port under load, while its sidecar goes
// on: as in a rolling restart. No request may fail.
func TestApplicationEndsBeforeItsSidecar(t *testing.T) {
	t.Parallel()
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		ca := mtlstest.NewCA(t, "root")
		stays, _ := stoppable(t)
		ends, stop := stoppable(t)
		h := caller(t, ca, proto, pod(t, ca, proto, stays).addr, pod(t, ca, proto, ends).addr)
		cl := client(t, h.addr, h2)
		var failed, done atomic.Int64
		var wg sync.WaitGroup
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := range 400 {
			<-tick.C
			if i == 150 {
				wg.Add(1)
				go func() { defer wg.Done(); stop() }()
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				resp, err := cl.Get("http://a/")
				if err != nil {
					t.Error(err)
					failed.Add(1)
					return
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if done.Add(1); resp.StatusCode != 200 {
					failed.Add(1)
					t.Errorf("request %d: %d %s", i, resp.StatusCode, b)
				}
			}()
		}
		wg.Wait()
		t.Logf("%d of %d requests failed", failed.Load(), done.Load())
	})
}

// TestRefusedByTheApplication has one pod whose application refuses connections and one that serves. Nothing was
// given to the application, so that any request can go to the other pod, as long as its body is at hand.
func TestRefusedByTheApplication(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		ca := mtlstest.NewCA(t, "root")
		serves, _ := stoppable(t)
		bad := pod(t, ca, proto, refusedAddr(t))
		h := caller(t, ca, proto, bad.addr, pod(t, ca, proto, serves).addr)
		for name, body := range map[string]func() io.Reader{
			"none":             func() io.Reader { return nil },
			"short":            func() io.Reader { return strings.NewReader("hello") },
			"chunked":          func() io.Reader { return io.MultiReader(strings.NewReader("hel"), strings.NewReader("lo")) },
			"20 KB, no length": func() io.Reader { return newNoise(20_000) },
		} {
			for range 4 { // round robin reaches both
				req, _ := http.NewRequest("POST", "http://a/", body())
				resp, err := client(t, h.addr, h2).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, _ := digestOf(t, resp.Body)
				resp.Body.Close()
				want := ""
				if r := body(); r != nil {
					want, _ = digestOf(t, r)
				} else {
					want, _ = digestOf(t, strings.NewReader(""))
				}
				if resp.StatusCode != 200 || got != want {
					t.Errorf("body %s: status %d, as sent: %v", name, resp.StatusCode, got == want)
				}
			}
		}

		// Without another pod the caller gets the answer, but not the note between proxies.
		alone := caller(t, ca, proto, bad.addr)
		resp, err := client(t, alone.addr, h2).Get("http://a/")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 503 || !strings.Contains(string(b), "refused") || resp.Header.Get("X-Isthmus-Failed") != "" {
			t.Errorf("alone: %d %s %v", resp.StatusCode, b, resp.Header)
		}
	})
}

// TestHandedBackIsNotForApplications has applications set x-isthmus-failed themselves: behind a sidecar it is
// dropped, and without one it is not believed.
func TestHandedBackIsNotForApplications(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		var asked atomic.Int32
		liar := backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.Header().Set("X-Isthmus-Failed", "unprocessed")
			w.WriteHeader(503)
		}))
		ca := mtlstest.NewCA(t, "root")
		for name, h := range map[string]*hop{
			"behind sidecars": caller(t, ca, proto, pod(t, ca, proto, liar).addr, pod(t, ca, proto, liar).addr),
			"plaintext":       startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{staticCluster("c", proto, liar, liar)}}),
		} {
			asked.Store(0)
			resp, err := client(t, h.addr, h2).Post("http://a/", "text/plain", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 503 || asked.Load() != 1 || resp.Header.Get("X-Isthmus-Failed") != "" {
				t.Errorf("%s: status %d, asked %d times, %v", name, resp.StatusCode, asked.Load(), resp.Header)
			}
		}
	})
}

// TestUploadIsSentAgain has an endpoint that hangs up within an upload, and one that takes it.
func TestUploadIsSentAgain(t *testing.T) {
	hangsUp := rawBackend(t, func(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)) })
	good := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum, n := digestOf(t, r.Body)
		fmt.Fprintf(w, "%x %d", sum, n)
	}))
	for _, tt := range []struct {
		method string
		size   int64
		length bool
		want   int // when the first endpoint is the bad one
	}{
		{
			method: "PUT",
			size:   30_000,
			length: true,
			want:   200,
		},
		{
			method: "PUT",
			size:   30_000,
			length: false,
			want:   200,
		},
		{
			method: "PUT",
			size:   300_000,
			length: true,
			want:   503,
		}, // more than is kept
		{
			method: "POST",
			size:   30_000,
			length: false,
			want:   503,
		}, // not idempotent
		{
			method: "DELETE",
			size:   6_000,
			length: true,
			want:   200,
		},
	} {
		h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")},
			clusters: []*config.Cluster{staticCluster("c", config.HTTP1, hangsUp, good)}})
		want := newNoise(tt.size)
		_, _ = io.Copy(io.Discard, want)
		failed := 0
		for range 4 {
			req, _ := http.NewRequest(tt.method, "http://a/", newNoise(tt.size))
			if req.ContentLength = -1; tt.length {
				req.ContentLength = tt.size
			}
			resp, err := client(t, h.addr, false).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			switch {
			case resp.StatusCode != 200:
				if failed++; resp.StatusCode != tt.want {
					t.Errorf("%s of %d: %d %s", tt.method, tt.size, resp.StatusCode, b)
				}
			case string(b) != fmt.Sprintf("%x %d", want.digest(), tt.size):
				t.Errorf("%s of %d: arrived as %s", tt.method, tt.size, b)
			}
		}
		if (failed > 0) != (tt.want != 200) {
			t.Errorf("%s of %d: %d of 4 failed", tt.method, tt.size, failed)
		}
	}
}

// TestWhyNoEndpointAnswered wants the failure of the endpoint told, not that there is no other.
func TestWhyNoEndpointAnswered(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		h := simpleHop(t, proto, rawBackend(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 100)) }))
		for _, method := range []string{"GET", "POST"} {
			req, _ := http.NewRequest(method, "http://a/", nil)
			resp, err := client(t, h.addr, h2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 503 || !strings.Contains(string(b), "ended the connection before it answered") {
				t.Errorf("%s: %d %s", method, resp.StatusCode, b)
			}
		}
	})
}
