package httpproxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// noisy answers each request with its path, and sends noise after the first answer of its first connection.
type noisy struct {
	noise string
	later time.Duration // after the answer; negative: in one write with it
	full  bool          // the first answer fills the proxy's read buffer to the brim
	conns atomic.Int32
}

func (n *noisy) serve(c net.Conn) {
	first := n.conns.Add(1) == 1
	br := bufio.NewReader(c)
	for i := 0; ; i++ {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.URL.Path), req.URL.Path)
		if i > 0 || !first || n.noise == "" {
			_, _ = io.WriteString(c, answer)
			continue
		}
		if n.full {
			body := strings.Repeat("x", http1.IdleSize-len("HTTP/1.1 200 OK\r\nContent-Length: 4055\r\n\r\n"))
			answer = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
		if n.later < 0 {
			_, _ = io.WriteString(c, answer+n.noise)
			continue
		}
		_, _ = io.WriteString(c, answer)
		time.Sleep(n.later)
		_, _ = io.WriteString(c, n.noise)
	}
}

// overTLS makes a backend out of serve that speaks the mesh's TLS, and returns the way to it.
func overTLS(t *testing.T, serve func(net.Conn)) (*config.Cluster, mtls.Identity) {
	ca := mtlstest.NewCA(t, "root")
	up, down := meshTLS(ca, config.HTTP1)
	server, err := mtls.NewServer(down, ca.Identity("spiffe://cluster.local/ns/bar/sa/server"), nil)
	if err != nil {
		t.Fatal(err)
	}
	addr := rawBackend(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return server.Config(hello.SupportedProtos), nil
		}})
		if s.Handshake() == nil {
			serve(s)
		}
	})
	cluster := staticCluster("c", config.HTTP1, addr)
	cluster.Transport = config.Transport{Name: "tls", TLS: up}
	return cluster, ca.Identity("spiffe://cluster.local/ns/foo/sa/client")
}

// TestUnaskedBytesAnswerNobody has an endpoint that sends more than it was asked for. RFC 9112 section 6.3: what is
// left over must not be taken for the response to the next request.
func TestUnaskedBytesAnswerNobody(t *testing.T) {
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for name, n := range map[string]*noisy{
		"a whole response later":     {noise: poison, later: 20 * time.Millisecond},
		"a whole response at once":   {noise: poison},
		"a response in one piece":    {noise: poison, later: -1},
		"a brimful read, then more":  {noise: poison, later: -1, full: true},
		"the goodbye of an idle one": {noise: "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", later: 20 * time.Millisecond},
		"an interim response":        {noise: "HTTP/1.1 100 Continue\r\n\r\n", later: 20 * time.Millisecond},
		"half a response":            {noise: "HTTP/1.1 200", later: 20 * time.Millisecond},
		"an empty line":              {noise: "\r\n", later: 20 * time.Millisecond},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/TLS=%v", name, secure), func(t *testing.T) {
				n := &noisy{noise: n.noise, later: n.later, full: n.full}
				s := setup{hcm: config.HCM{Routes: toCluster("c")}}
				if secure {
					cluster, id := overTLS(t, n.serve)
					s.clusters, s.identity = []*config.Cluster{cluster}, id
				} else {
					s.clusters = []*config.Cluster{staticCluster("c", config.HTTP1, rawBackend(t, n.serve))}
				}
				h := startHop(t, s)
				ask(t, h, "GET", "/first", nil)
				time.Sleep(60 * time.Millisecond)
				for i, method := range []string{"GET", "PUT", "DELETE", "POST", "GET"} {
					path := fmt.Sprintf("/%d", i)
					if got := ask(t, h, method, path, nil); got != path {
						t.Errorf("%s %s was answered %.80q", method, path, got)
					}
				}
			})
		}
	}
}

// ask sends a request from a client of its own and returns the body of the answer.
func ask(t *testing.T, h *hop, method, path string, body io.Reader) string {
	t.Helper()
	req, _ := http.NewRequest(method, "http://a"+path, body)
	resp, err := client(t, h.addr, false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		return fmt.Sprintf("%d %s", resp.StatusCode, b)
	}
	return string(b)
}

// TestAnswerBeforeTheRequest has an endpoint that answers a connection before it is asked anything.
func TestAnswerBeforeTheRequest(t *testing.T) {
	eager := func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
		_, _ = io.Copy(io.Discard, c)
	}
	plain := staticCluster("c", config.HTTP1, rawBackend(t, eager))
	secure, id := overTLS(t, eager)
	for _, cluster := range []*config.Cluster{plain, secure} {
		h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}, identity: id})
		pool := h.server.pool(h.set.Get("c").Endpoints()[0])
		conn, err := pool.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		eventually(t, "the connection to be known as spoiled", func() bool { return !conn.quiet() })
	}
}

// TestQuietCostsNothing bounds what the look before each request allocates.
func TestQuietCostsNothing(t *testing.T) {
	plain := staticCluster("c", config.HTTP1, rawBackend(t, (&noisy{}).serve))
	secure, id := overTLS(t, (&noisy{}).serve)
	for name, cluster := range map[string]*config.Cluster{"plaintext": plain, "TLS": secure} {
		h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}, identity: id})
		conn, err := h.server.pool(h.set.Get("c").Endpoints()[0]).open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		time.Sleep(50 * time.Millisecond) // for the session ticket
		if n := testing.AllocsPerRun(100, func() {
			if !conn.quiet() {
				t.Errorf("%s: a connection on which nothing came is not quiet", name)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkQuiet measures the look before each request.
func BenchmarkQuiet(b *testing.B) {
	h := startHop(b, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{
		staticCluster("c", config.HTTP1, rawBackend(b, (&noisy{}).serve))}})
	conn, err := h.server.pool(h.set.Get("c").Endpoints()[0]).open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	for b.Loop() {
		if !conn.quiet() {
			b.Fatal("not quiet")
		}
	}
}

// TestConnectionsOverTLSAreReused counts the connections of many requests: session tickets are no unasked bytes.
func TestConnectionsOverTLSAreReused(t *testing.T) {
	conns := make(chan struct{}, 100)
	cluster, id := overTLS(t, func(c net.Conn) {
		conns <- struct{}{}
		(&noisy{}).serve(c)
	})
	h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}, identity: id})
	for range 10 {
		ask(t, h, "GET", "/", nil)
		time.Sleep(5 * time.Millisecond)
	}
	// Longer than the read deadline of the last request.
	time.Sleep(2*stallCheck + 100*time.Millisecond)
	ask(t, h, "GET", "/", nil)
	if n := len(conns); n != 1 {
		t.Errorf("11 requests opened %d connections, want 1", n)
	}
}

// TestUploadOnClosedConnection repeats an upload on a pooled connection that the endpoint has closed: the body could
// not be sent a second time.
func TestUploadOnClosedConnection(t *testing.T) {
	addr := rawBackend(t, func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%d", len(fmt.Sprint(n)), n)
	})
	for _, h2 := range []bool{false, true} {
		h := simpleHop(t, config.HTTP1, addr)
		for _, method := range []string{"PUT", "DELETE", "POST", "PATCH"} {
			for _, length := range []int64{100_000, -1} {
				req, _ := http.NewRequest(method, "http://a/", newNoise(100_000))
				req.ContentLength = length
				resp, err := client(t, h.addr, h2).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(b) != "100000" {
					t.Errorf("HTTP/2 %v: %s, length %d: %d %s", h2, method, length, resp.StatusCode, b)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
}

// TestStreamAnsweredBeforeItIsAsked has an HTTP/2 endpoint that answers the stream after the one that it was asked on.
func TestStreamAnsweredBeforeItIsAsked(t *testing.T) {
	addr := rawBackend(t, func(conn net.Conn) {
		br := bufio.NewReader(conn)
		if _, err := br.Discard(len(nethttp2.ClientPreface)); err != nil {
			return
		}
		fr := nethttp2.NewFramer(conn, br)
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = fr.WriteSettings()
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		answer := func(id uint32, body string) {
			block.Reset()
			_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			_ = fr.WriteHeaders(nethttp2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
			_ = fr.WriteData(id, true, []byte(body))
		}
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if h, is := f.(*nethttp2.MetaHeadersFrame); is {
				answer(h.StreamID, h.PseudoValue("path"))
				answer(h.StreamID+2, "poison")
			}
		}
	})
	h := simpleHop(t, config.HTTP2, addr)
	for i := range 5 {
		path := fmt.Sprintf("/%d", i)
		resp, err := client(t, h.addr, true).Get("http://a" + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != path {
			t.Errorf("%s was answered %d %.100q", path, resp.StatusCode, b)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// open returns a connection that no request has used yet.
func (p *endpointPool) open(ctx context.Context) (*h1conn, error) {
	w, err := p.join(true)
	if err != nil {
		return nil, err
	}
	return p.await(ctx, w, nil)
}
