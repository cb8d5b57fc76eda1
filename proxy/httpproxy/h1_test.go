package httpproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

func simpleHop(t testing.TB, proto config.HTTPProtocol, addr string) *hop {
	return startHop(t, setup{
		hcm:      config.HCM{Routes: toCluster("c"), GenerateRequestID: true, ServerName: "istio-envoy", Upgrades: []string{"websocket"}},
		clusters: []*config.Cluster{staticCluster("c", proto, addr)},
	})
}

func TestGetAndPost(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Got-Id", r.Header.Get("X-Request-Id"))
		w.Header().Set("Server", "app")
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.URL, body)
	}))
	h := simpleHop(t, config.HTTP1, addr)
	c := client(t, h.addr, false)
	for range 3 {
		resp, err := c.Post("http://server.bar:8000/a?b=c", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := "POST server.bar:8000 /a?b=c hello"; string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if id := resp.Header.Get("X-Got-Id"); len(id) != 36 || id[14] != '4' {
			t.Errorf("request id %q is not a version 4 UUID", id)
		}
		if s := resp.Header.Get("Server"); s != "istio-envoy" {
			t.Errorf("server: %q", s)
		}
	}
	ep := h.set.Get("c").Endpoints()[0]
	eventually(t, "one pooled connection", func() bool {
		p := h.server.pool(ep)
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.idle) == 1
	})
}

// transfers moves 32 MB, which no buffer or window on the way holds, up and down in both framings through a hop.
func transfers(t *testing.T, proto config.HTTPProtocol, h2 bool) {
	size := int64(32 << 20)
	if testing.Short() {
		size = 4 << 20
	}
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			sum, n := digestOf(t, r.Body)
			w.Header().Set("X-Sum", fmt.Sprintf("%x %d", sum, n))
			return
		}
		src := newNoise(size)
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		_, _ = io.Copy(w, src)
	}))
	h := simpleHop(t, proto, addr)
	c := client(t, h.addr, h2)
	want := newNoise(size)
	_, _ = io.Copy(io.Discard, want)
	for _, path := range []string{"/length", "/stream"} {
		start := time.Now()
		resp, err := c.Get("http://server" + path)
		if err != nil {
			t.Fatal(err)
		}
		sum, n := digestOf(t, resp.Body)
		resp.Body.Close()
		if sum != want.digest() || n != size {
			t.Errorf("download %s: %d bytes, checksum differs", path, n)
		}
		t.Logf("download %s took %v", path, time.Since(start))
		start = time.Now()
		req, _ := http.NewRequest(http.MethodPost, "http://server"+path, newNoise(size))
		if path == "/length" {
			req.ContentLength = size
		}
		if resp, err = c.Do(req); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("X-Sum"); got != fmt.Sprintf("%x %d", want.digest(), size) {
			t.Errorf("upload %s: checksum differs: %s", path, got)
		}
		t.Logf("upload %s took %v", path, time.Since(start))
	}
}

func TestTransferHTTP1(t *testing.T) { transfers(t, config.HTTP1, false) }

// raw sends bytes to a hop and returns all that comes back until the end.
func raw(t testing.TB, addr, send string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil && len(got) == 0 {
		t.Fatalf("read: %v", err)
	}
	return string(got)
}

func TestTrailersAndChunks(t *testing.T) {
	addr := rawBackend(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 Fine\r\ntransfer-encoding: chunked\r\nTrailer: X-End\r\n\r\n%x;ext=1\r\n%s\r\n0\r\nX-End: %s\r\nContent-Length: 3\r\n\r\n",
			len(body), body, req.Trailer.Get("X-Sum"))
	})
	h := simpleHop(t, config.HTTP1, addr)
	got := raw(t, h.addr, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 77\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
	if err != nil {
		t.Fatalf("%v in %q", err, got)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "abcde" || resp.Trailer.Get("X-End") != "77" || resp.Trailer.Get("Content-Length") != "" {
		t.Errorf("body %q, trailer %v, err %v in %q", body, resp.Trailer, err, got)
	}
	if !strings.HasPrefix(got, "HTTP/1.1 200 Fine\r\n") {
		t.Errorf("reason phrase lost: %q", got)
	}
}

func TestContinueAndEarlyResponse(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		body, _ := io.ReadAll(r.Body) // makes the server send 100 Continue
		_, _ = w.Write(body)
	}))
	h := simpleHop(t, config.HTTP1, addr)
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	br := bufio.NewReader(c)
	io.WriteString(c, "POST /ok HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	if line, _ := br.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("got %q, want 100 Continue", line)
	}
	br.ReadString('\n')
	io.WriteString(c, "hello")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "hello" {
		t.Errorf("body %q", body)
	}
	// The response comes while the body is still on its way; the connection ends after it.
	io.WriteString(c, "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
	resp, err = http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 413 || !resp.Close {
		t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
	}
}

func TestStaleConnectionIsReplaced(t *testing.T) {
	var conns atomic.Int32
	addr := rawBackend(t, func(c net.Conn) {
		conns.Add(1)
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
		// Takes a second request, and dies without an answer.
		_, _ = http.ReadRequest(br)
	})
	h := simpleHop(t, config.HTTP1, addr)
	c := client(t, h.addr, false)
	for range 2 {
		resp, err := c.Get("http://a/")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	if conns.Load() != 2 {
		t.Errorf("%d connections, want 2", conns.Load())
	}
	// A POST may have had its effect: it is not sent twice.
	resp, err := c.Post("http://a/", "", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 {
		t.Errorf("POST on a dying connection: status %d, want 503", resp.StatusCode)
	}
}

func TestUpstreamFailures(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := dead.Addr().String()
	dead.Close()
	reset := rawBackend(t, func(c net.Conn) { http.ReadRequest(bufio.NewReader(c)) })
	garbage := rawBackend(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "SSH-2.0-thing\r\n\r\n")
	})
	slow := rawBackend(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	routes := toCluster("refused")
	for _, name := range []string{"reset", "garbage", "missing", "empty", "slow"} {
		a := &config.RouteAction{Cluster: name, Timeout: 1500 * time.Millisecond}
		routes.VirtualHosts = append(routes.VirtualHosts, &config.VirtualHost{
			Name: name, Domains: []string{name},
			Routes: []*config.Route{{Match: config.RouteMatch{Prefix: "/x"}, Action: a}},
		})
	}
	h := startHop(t, setup{hcm: config.HCM{Routes: routes}, clusters: []*config.Cluster{
		staticCluster("refused", config.HTTP1, refused), staticCluster("reset", config.HTTP1, reset),
		staticCluster("garbage", config.HTTP1, garbage), staticCluster("empty", config.HTTP1),
		staticCluster("slow", config.HTTP1, slow),
	}})
	for _, tt := range []struct {
		url    string
		status int
		text   string
	}{
		{
			url:    "http://other/",
			status: 503,
			text:   "refused",
		},
		{
			url:    "http://reset/x",
			status: 503,
			text:   "reset",
		},
		{
			url:    "http://garbage/x",
			status: 502,
			text:   "broke the protocol",
		},
		{
			url:    "http://missing/x",
			status: 503,
			text:   "missing",
		},
		{
			url:    "http://empty/x",
			status: 503,
			text:   "no healthy upstream",
		},
		{
			url:    "http://slow/x",
			status: 504,
			text:   "did not answer in time",
		},
		{
			url:    "http://slow/y",
			status: 404,
			text:   "no route",
		},
	} {
		resp, err := client(t, h.addr, false).Get(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.text) {
			t.Errorf("%s: %d %q, want %d with %q", tt.url, resp.StatusCode, body, tt.status, tt.text)
		}
	}
}

func TestWebSocket(t *testing.T) {
	addr := rawBackend(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		req, err := http.ReadRequest(br)
		if err != nil || req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Connection") != "Upgrade" {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst:")
		io.Copy(c, br)
		io.WriteString(c, ":last")
	})
	h := simpleHop(t, config.HTTP1, addr)
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nping")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 101 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	io.WriteString(c, "pong")
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(br)
	if err != nil || string(got) != "first:pingpong:last" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestHTTP10(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() // forces chunked
		io.WriteString(w, "hello")
	}))
	h := simpleHop(t, config.HTTP1, addr)
	got := raw(t, h.addr, "GET / HTTP/1.0\r\n\r\n")
	head, body, _ := strings.Cut(got, "\r\n\r\n")
	if body != "hello" || strings.Contains(strings.ToLower(head), "transfer-encoding") || !strings.Contains(head, "connection: close") {
		t.Errorf("got %q", got)
	}
}

func TestBodylessResponses(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "12345")
		}
	}))
	h := simpleHop(t, config.HTTP1, addr)
	got := raw(t, h.addr, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\nGET /304 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 ") != 3 || !strings.Contains(got, "Content-Length: 12345") || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("got %q", got)
	}
}

func TestCloseDelimitedResponseIsChunked(t *testing.T) {
	addr := rawBackend(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"+strings.Repeat("x", 10000))
	})
	h := simpleHop(t, config.HTTP1, addr)
	c := client(t, h.addr, false)
	for range 2 {
		resp, err := c.Get("http://a/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(body) != 10000 || resp.ContentLength != -1 {
			t.Errorf("%d bytes, %v, length %d", len(body), err, resp.ContentLength)
		}
	}
}

func TestTruncatedResponseIsNotHidden(t *testing.T) {
	addr := rawBackend(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
	})
	h := simpleHop(t, config.HTTP1, addr)
	resp, err := client(t, h.addr, false).Get("http://a/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a truncated body read without an error: %v", err)
	}
}

func TestCallerGoneIsPassedOn(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	addr := rawBackend(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.Copy(io.Discard, c)
		close(gone)
	})
	h := simpleHop(t, config.HTTP1, addr)
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	time.Sleep(50 * time.Millisecond)
	c.Close()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the upstream connection outlives the caller by 5 s")
	}
}

func TestDrainHTTP1(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	h := simpleHop(t, config.HTTP1, addr)
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	br := bufio.NewReader(c)
	for _, want := range []bool{false, true} {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.Close != want {
			t.Errorf("Connection: close is %v, want %v", resp.Close, want)
		}
		if !want {
			close(h.drain)
			time.Sleep(20 * time.Millisecond)
		}
	}
	if b, err := br.ReadByte(); err != io.EOF {
		t.Errorf("read %v %v after the last response, want EOF", b, err)
	}
}

// TestDrainDuringRequest begins the drain while a response is awaited: it says already that it is the last.
func TestDrainDuringRequest(t *testing.T) {
	var h *hop
	addr := backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(h.drain)
		time.Sleep(50 * time.Millisecond)
	}))
	h = simpleHop(t, config.HTTP1, addr)
	resp, err := client(t, h.addr, false).Get("http://a/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !resp.Close {
		t.Error("the response does not say Connection: close")
	}
}

func TestStreamingIsPrompt(t *testing.T) {
	next := make(chan struct{})
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			io.WriteString(w, "tick")
			w.(http.Flusher).Flush()
			<-next
		}
	}))
	h := simpleHop(t, config.HTTP1, addr)
	resp, err := client(t, h.addr, false).Get("http://a/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 3 {
		buf := make([]byte, 4)
		if _, err := io.ReadFull(resp.Body, buf); err != nil || !bytes.Equal(buf, []byte("tick")) {
			t.Fatalf("%q %v", buf, err)
		}
		next <- struct{}{}
	}
}
