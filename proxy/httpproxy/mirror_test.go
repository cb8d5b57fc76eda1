package httpproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// mirroring is toCluster("c") with mirrors.
func mirroring(list ...config.Mirror) *config.RouteConfig {
	rc := toCluster("c")
	rc.VirtualHosts[0].Routes[0].Action.Mirrors = list
	return rc
}

// toMirror is a mirror of all requests to the cluster "m".
func toMirror() config.Mirror { return config.Mirror{Cluster: "m", Share: config.Whole} }

// mirrorHop is a hop that leads to one cluster and mirrors to another.
func mirrorHop(t testing.TB, proto config.HTTPProtocol, to, mirror string) *hop {
	return startHop(t, setup{
		hcm:      config.HCM{Routes: mirroring(toMirror()), GenerateRequestID: true},
		clusters: []*config.Cluster{staticCluster("c", proto, to), staticCluster("m", proto, mirror)},
	})
}

// mirrored waits until so many copies have come to a result.
func mirrored(t *testing.T, h *hop, result string, want float64) {
	t.Helper()
	got := func() float64 { return counted(t, h, "isthmus_proxy_mirrored_requests_total", "result", result) }
	for end := time.Now().Add(20 * time.Second); got() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v are counted as %s, want %v", got(), result, want)
		}
	}
	eventually(t, "nothing to wait", func() bool { return h.server.mirrors.waiting.Load() == 0 })
}

// seenRequest is what a backend saw of a request.
type seenRequest struct{ line, host, mine, id, body, trailer string }

// witness is a backend that notes what it sees.
func witness(t testing.TB, status int) (addr string, seen chan seenRequest) {
	seen = make(chan seenRequest, 100)
	addr = backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		seen <- seenRequest{
			r.Method + " " + r.URL.String(), r.Host, r.Header.Get("x-mine"), r.Header.Get("x-request-id"), string(body), r.Trailer.Get("x-trailer"),
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "answer")
	}))
	return addr, seen
}

// TestMirrors: the mirror gets the request as the endpoint gets it, but for the host; its answer is nobody's, and it
// stands in no metric of requests.
func TestMirrors(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		to, got := witness(t, 200)
		mirror, copies := witness(t, 500)
		h := mirrorHop(t, proto, to, mirror)
		c := client(t, h.addr, h2)

		for _, body := range []io.Reader{http.NoBody, strings.NewReader("hello"), io.MultiReader(strings.NewReader(strings.Repeat("long", 10_000)))} {
			req, _ := http.NewRequest("POST", "http://server.bar:8000/path?q=1", body)
			req.Header.Set("x-mine", "m")
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 200 || string(answer) != "answer" {
				t.Errorf("status %d, %q", resp.StatusCode, answer)
			}

			want, copied := <-got, <-copies
			if copied.host != "server.bar-shadow:8000" {
				t.Errorf("the copy is for %q", copied.host)
			}
			if copied.host = want.host; copied != want || want.id == "" {
				t.Errorf("copied %.200q\nwant %.200q", copied, want)
			}
		}
		mirrored(t, h, "answered", 3)
		eventually(t, "the requests to be counted", func() bool { return counted(t, h, "istio_requests_total", "response_code", "200") == 3 })
		if n := counted(t, h, "istio_requests_total", "response_code", "500"); n != 0 {
			t.Errorf("%v copies are among the requests", n)
		}
	})
}

// TestMirrorsTrailers: what follows a body is a part of the request.
func TestMirrorsTrailers(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		to, got := witness(t, 200)
		mirror, copies := witness(t, 200)
		h := mirrorHop(t, proto, to, mirror)
		// A body in two parts does not lie in the buffer as a whole.
		body, w := io.Pipe()
		go func() {
			_, _ = io.WriteString(w, "one")
			time.Sleep(10 * time.Millisecond)
			_, _ = io.WriteString(w, "two")
			_ = w.Close()
		}()
		req, _ := http.NewRequest("POST", "http://server.bar:8000/", body)
		req.Trailer = http.Header{"X-Trailer": {"behind"}}
		req.Header.Set("te", "trailers")
		resp, err := client(t, h.addr, h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want, copied := <-got, <-copies
		if copied.body != "onetwo" || copied.trailer != want.trailer || want.trailer != "behind" {
			t.Errorf("copied %q\nwant %q", copied, want)
		}
		mirrored(t, h, "answered", 1)
	})
}

// TestMirrorIsAskedOnce: whatever the mirror answers, and whatever the route says of retries, it gets one copy, and the
// host as it is where the configuration asks for that; and none of requests that are answered by the proxy.
func TestMirrorIsAskedOnce(t *testing.T) {
	to, _ := witness(t, 200)
	mirror, copies := witness(t, 503)
	kept := toMirror()
	kept.KeepHost = true
	rc := mirroring(kept, config.Mirror{Cluster: "m", Share: 0})
	rc.VirtualHosts[0].Routes[0].Action.Retry = &config.RetryPolicy{On: []string{"5xx", "reset", "connect-failure"}, Attempts: 3}
	rc.VirtualHosts[0].Routes = append([]*config.Route{{
		Match: config.RouteMatch{Prefix: "/abort"}, Action: rc.VirtualHosts[0].Routes[0].Action,
		Fault: &config.Fault{Status: 418, AbortShare: config.Whole},
	}}, rc.VirtualHosts[0].Routes...)
	h := startHop(t, setup{
		hcm:      config.HCM{Routes: rc},
		clusters: []*config.Cluster{staticCluster("c", config.HTTP1, to), staticCluster("m", config.HTTP1, mirror, mirror)},
	})
	for _, path := range []string{"/abort", "/"} {
		resp, err := client(t, h.addr, false).Get("http://server.bar:8000" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	mirrored(t, h, "answered", 1)
	if one := <-copies; one.host != "server.bar:8000" || len(copies) > 0 {
		t.Errorf("copies: %q and %d more", one, len(copies))
	}
}

// TestMirrorsThatFail: one that refuses connections, one that does not exist, and one that hangs up.
func TestMirrorsThatFail(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close()
		to, _ := witness(t, 200)
		rude := rawBackend(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
		h := startHop(t, setup{
			hcm: config.HCM{Routes: mirroring(toMirror(), config.Mirror{Cluster: "none", Share: config.Whole}, config.Mirror{Cluster: "rude", Share: config.Whole})},
			clusters: []*config.Cluster{
				staticCluster("c", proto, to), staticCluster("m", proto, ln.Addr().String()), staticCluster("rude", proto, rude),
			},
		})
		for range 3 {
			resp, err := client(t, h.addr, h2).Post("http://server.bar:8000/", "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("status %d", resp.StatusCode)
			}
		}
		mirrored(t, h, "failed", 9)
	})
}

// TestMirrorThatReadsNothing: a mirror that is behind is given up, and the request goes on as if it were not there.
func TestMirrorThatReadsNothing(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		const size = 10 << 20
		to := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sum, _ := digestOf(t, r.Body)
			_, _ = io.WriteString(w, sum)
		}))
		stuck := make(chan struct{})
		mirror := rawBackend(t, func(net.Conn) { <-stuck })
		defer close(stuck)
		h := mirrorHop(t, proto, to, mirror)

		source := newNoise(size)
		resp, err := client(t, h.addr, h2).Post("http://server.bar:8000/", "text/plain", source)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(body) != source.digest() {
			t.Errorf("status %d, %d bytes", resp.StatusCode, len(body))
		}
		mirrored(t, h, "behind", 1)
	})
}

// inStep is a body that goes on when what has been read of it has come elsewhere, but for a part.
type inStep struct {
	from  io.Reader
	read  int64
	there *atomic.Int64
}

func (s *inStep) Read(p []byte) (int, error) {
	for end := time.Now().Add(20 * time.Second); s.read-s.there.Load() > mirrorRoom/4; {
		if time.Now().After(end) {
			return 0, errors.New("the mirror gets nothing")
		}
		time.Sleep(time.Millisecond)
	}
	n, err := s.from.Read(p)
	s.read += int64(n)
	return n, err
}

// TestMirrorsLargeBodies: the mirror has the body as it comes, whole and in order.
func TestMirrorsLargeBodies(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		const size = 10 << 20
		to := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
		var there atomic.Int64
		sums := make(chan string, 1)
		mirror := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			sum, _ := digestOf(t, io.TeeReader(r.Body, byteCounter{&there}))
			sums <- sum
		}))
		h := mirrorHop(t, proto, to, mirror)

		source := newNoise(size)
		resp, err := client(t, h.addr, h2).Post("http://server.bar:8000/", "text/plain", &inStep{from: source, there: &there})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		mirrored(t, h, "answered", 1)
		if <-sums != source.digest() {
			t.Error("the mirror got something else")
		}
	})
}

// byteCounter counts what is written.
type byteCounter struct{ n *atomic.Int64 }

func (c byteCounter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// TestMirrorsAreBounded: of a mirror that does not answer, no more than some copies are on their way; callers are
// answered meanwhile, and when they are gone for long, the copies end.
func TestMirrorsAreBounded(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		to, _ := answering(t)
		stuck := make(chan struct{})
		mirror := rawBackend(t, func(net.Conn) { <-stuck })
		defer close(stuck)
		h := mirrorHop(t, proto, to, mirror)
		h.server.mirrors.patience = 20 * time.Second // the test's bound

		c := client(t, h.addr, h2)
		for range mirrorsOfOne + 3 {
			resp, err := c.Get("http://server.bar:8000/")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		mirrored(t, h, "busy", 3)
		if n := counted(t, h, "isthmus_proxy_mirrored_requests_total", "result", "failed"); n != 0 {
			t.Errorf("%v failed", n)
		}
	})
}

// answering is a backend that only answers.
func answering(t testing.TB) (addr string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	return backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })), asked
}

// TestMirrorWhoseAnswerHasNoEnd: it ends some time after the request itself.
func TestMirrorWhoseAnswerHasNoEnd(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		to, _ := answering(t)
		gone := make(chan struct{})
		mirror := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(gone)
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, "more")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Millisecond)
			}
		}))
		h := mirrorHop(t, proto, to, mirror)
		h.server.mirrors.patience = time.Millisecond

		resp, err := client(t, h.addr, h2).Get("http://server.bar:8000/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		mirrored(t, h, "failed", 1)
		<-gone
	})
}

// TestMirrorEndsWithItsRequest: a request that breaks off leaves no copy that looks whole.
func TestMirrorEndsWithItsRequest(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		to := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
		var begun, ended sync.WaitGroup
		begun.Add(1)
		ended.Add(1)
		mirror := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			begun.Done()
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				t.Error("the copy is whole")
			}
			ended.Done()
		}))
		h := mirrorHop(t, proto, to, mirror)

		body, w := io.Pipe()
		failed := make(chan error, 1)
		go func() {
			_, err := client(t, h.addr, h2).Post("http://server.bar:8000/", "text/plain", body)
			failed <- err
		}()
		_, _ = w.Write(make([]byte, 100<<10))
		begun.Wait()
		_ = w.CloseWithError(errors.New("enough"))
		if <-failed == nil {
			t.Error("it was answered")
		}
		ended.Wait()
		mirrored(t, h, "cut", 1)
	})
}

// TestUpgradesAreNotMirrored: what the two sides say after it is no request.
func TestUpgradesAreNotMirrored(t *testing.T) {
	to := rawBackend(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		}
	})
	mirror := rawBackend(t, func(net.Conn) { t.Error("the mirror was asked") })
	h := startHop(t, setup{
		hcm:      config.HCM{Routes: mirroring(toMirror()), Upgrades: []string{"websocket"}},
		clusters: []*config.Cluster{staticCluster("c", config.HTTP1, to), staticCluster("m", config.HTTP1, mirror)},
	})
	answer := raw(t, h.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 101") {
		t.Errorf("answer %q", answer)
	}
}
