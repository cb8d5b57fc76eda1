package httpproxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// rawH2 is a hand-driven HTTP/2 peer.
type rawH2 struct {
	t    testing.TB
	conn net.Conn
	fr   *nethttp2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer
}

func newRawH2(t testing.TB, conn net.Conn) *rawH2 {
	r := &rawH2{t: t, conn: conn, fr: nethttp2.NewFramer(conn, conn)}
	r.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.enc = hpack.NewEncoder(&r.buf)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return r
}

func dialH2(t testing.TB, addr string, settings ...nethttp2.Setting) *rawH2 {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r := newRawH2(t, conn)
	_, _ = io.WriteString(conn, nethttp2.ClientPreface)
	_ = r.fr.WriteSettings(settings...)
	return r
}

func (r *rawH2) headers(id uint32, end bool, kv ...string) {
	r.buf.Reset()
	for i := 0; i < len(kv); i += 2 {
		_ = r.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	b := r.buf.Bytes()
	n := min(len(b), 16<<10)
	_ = r.fr.WriteHeaders(nethttp2.HeadersFrameParam{StreamID: id, BlockFragment: b[:n], EndHeaders: n == len(b), EndStream: end})
	for b = b[n:]; len(b) > 0; b = b[n:] {
		n = min(len(b), 16<<10)
		_ = r.fr.WriteContinuation(id, n == len(b), b[:n])
	}
}

// await reads frames until one satisfies ok; it returns nil at the end of the connection.
func (r *rawH2) await(ok func(nethttp2.Frame) bool) nethttp2.Frame {
	for {
		f, err := r.fr.ReadFrame()
		if err != nil {
			return nil
		}
		if s, is := f.(*nethttp2.SettingsFrame); is && !s.IsAck() {
			_ = r.fr.WriteSettingsAck()
		}
		if ok(f) {
			return f
		}
	}
}

func get(path string, more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", path}, more...)
}

// TestMalformedHTTP2 sends requests that RFC 9113 calls malformed: nothing of them may reach the endpoint.
func TestMalformedHTTP2(t *testing.T) {
	reached := make(chan string, 10)
	addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached <- r.URL.Path }))
	for _, up := range []config.HTTPProtocol{config.HTTP1, config.HTTP2} {
		h := simpleHop(t, up, addr)
		for name, fields := range map[string][]string{
			"transfer-encoding":    get("/", "transfer-encoding", "chunked"),
			"connection":           get("/", "connection", "close"),
			"te":                   get("/", "te", "chunked"),
			"upgrade":              get("/", "upgrade", "websocket"),
			"upper case":           get("/", "X-Upper", "1"),
			"line feed in value":   get("/", "x", "a\nb"),
			"two lengths":          get("/", "content-length", "0", "content-length", "0"),
			"length without body":  get("/", "content-length", "5"),
			"signed length":        get("/", "content-length", "+0"),
			"two hosts":            get("/", "host", "b"),
			"no path":              {":method", "GET", ":scheme", "http", ":authority", "a"},
			"empty path":           {":method", "GET", ":scheme", "http", ":authority", "a", ":path", ""},
			"path without slash":   {":method", "GET", ":scheme", "http", ":authority", "a", ":path", "x"},
			"space in path":        {":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/ HTTP/1.1"},
			"no method":            {":scheme", "http", ":authority", "a", ":path", "/"},
			"space in method":      {":method", "GET /x", ":scheme", "http", ":authority", "a", ":path", "/"},
			"user in authority":    {":method", "GET", ":scheme", "http", ":authority", "a@b", ":path", "/"},
			"unknown pseudo field": get("/", ":x", "y"),
			"extended connect":     {":method", "CONNECT", ":scheme", "http", ":authority", "a", ":path", "/", ":protocol", "websocket"},
			"plain connect":        {":method", "CONNECT", ":authority", "a:80"},
		} {
			t.Run(name, func(t *testing.T) {
				c := dialH2(t, h.addr)
				c.headers(1, true, fields...)
				f := c.await(func(f nethttp2.Frame) bool {
					_, head := f.(*nethttp2.MetaHeadersFrame)
					_, reset := f.(*nethttp2.RSTStreamFrame)
					return head || reset
				})
				switch f := f.(type) {
				case *nethttp2.MetaHeadersFrame:
					if code := f.PseudoValue("status"); code < "400" || code >= "500" {
						t.Errorf("status %s", code)
					}
				case nil:
					t.Error("the whole connection was ended for one bad request")
				}
				select {
				case path := <-reached:
					t.Errorf("the endpoint was reached: %s", path)
				default:
				}
			})
		}
	}
}

// TestBodyDiffersFromLength checks that an HTTP/1 endpoint never sees a body that is not as long as was said.
func TestBodyDiffersFromLength(t *testing.T) {
	addr := rawBackend(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	h := simpleHop(t, config.HTTP1, addr)
	for _, body := range []string{"abcd", "ab"} {
		c := dialH2(t, h.addr)
		c.headers(1, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/", "content-length", "3")
		_ = c.fr.WriteData(1, true, []byte(body))
		if f := c.await(func(f nethttp2.Frame) bool { _, ok := f.(*nethttp2.RSTStreamFrame); return ok }); f == nil {
			t.Errorf("a body of %d bytes for a length of 3 was not refused", len(body))
		}
	}
}

func TestConnectionErrors(t *testing.T) {
	t.Parallel()
	h := simpleHop(t, config.HTTP2, backend(t, http.NotFoundHandler()))
	for name, break_ := range map[string]func(c *rawH2){
		"data on an idle stream": func(c *rawH2) { _ = c.fr.WriteData(1, true, []byte("x")) },
		"even stream":            func(c *rawH2) { c.headers(2, true, get("/")...) },
		"window overflow":        func(c *rawH2) { _ = c.fr.WriteWindowUpdate(0, 1<<31-1) },
		"push promise": func(c *rawH2) {
			_ = c.fr.WritePushPromise(nethttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: []byte{0x82}, EndHeaders: true})
		},
		"bad compression": func(c *rawH2) {
			_ = c.fr.WriteHeaders(nethttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		},
		"reset of an idle stream": func(c *rawH2) { _ = c.fr.WriteRSTStream(5, nethttp2.ErrCodeCancel) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a connection of its own, which lingers for a while
			c := dialH2(t, h.addr)
			break_(c)
			if c.await(func(f nethttp2.Frame) bool { g, ok := f.(*nethttp2.GoAwayFrame); return ok && g.ErrCode != 0 }) == nil {
				t.Error("no GOAWAY with an error")
			}
			if c.await(func(nethttp2.Frame) bool { return false }) != nil {
				t.Error("the connection goes on")
			}
		})
	}
}

func TestRapidReset(t *testing.T) {
	h := simpleHop(t, config.HTTP2, rawBackend(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	c := dialH2(t, h.addr)
	go func() {
		w := &rawH2{fr: nethttp2.NewFramer(c.conn, nil)}
		w.enc = hpack.NewEncoder(&w.buf)
		for id := uint32(1); id < 4000; id += 2 {
			w.headers(id, true, get("/")...)
			if w.fr.WriteRSTStream(id, nethttp2.ErrCodeCancel) != nil {
				return
			}
		}
	}()
	f := c.await(func(f nethttp2.Frame) bool { _, ok := f.(*nethttp2.GoAwayFrame); return ok })
	if g, ok := f.(*nethttp2.GoAwayFrame); ok && g.ErrCode != nethttp2.ErrCodeEnhanceYourCalm {
		t.Errorf("GOAWAY %s", g.ErrCode)
	} else if !ok {
		eventually(t, "the end of the connection", func() bool { _, err := c.conn.Write([]byte{0}); return err != nil })
	}
}

// TestSlowReaderHoldsUpItselfOnly lets one stream stand while others on the same connections go on.
func TestSlowReaderHoldsUpItselfOnly(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			_, _ = io.Copy(w, newNoise(20<<20))
		}
	}))
	h := simpleHop(t, config.HTTP2, addr)
	c := dialH2(t, h.addr)
	c.headers(1, true, get("/big")...)
	got := 0
	c.await(func(f nethttp2.Frame) bool {
		if d, ok := f.(*nethttp2.DataFrame); ok {
			got += len(d.Data())
		}
		return got == 65535 // our window
	})
	_ = c.fr.WriteWindowUpdate(0, 1<<20)
	c.headers(3, true, get("/small")...)
	if c.await(func(f nethttp2.Frame) bool { return f.Header().StreamID == 3 && f.Header().Flags.Has(1) }) == nil {
		t.Fatal("the second stream does not end while the first one stands")
	}
	_ = c.fr.WriteWindowUpdate(0, 1<<30)
	_ = c.fr.WriteWindowUpdate(1, 1<<30)
	c.await(func(f nethttp2.Frame) bool {
		if d, ok := f.(*nethttp2.DataFrame); ok {
			got += len(d.Data())
		}
		return f.Header().StreamID == 1 && f.Header().Flags.Has(nethttp2.FlagDataEndStream)
	})
	if got != 20<<20 {
		t.Errorf("%d bytes, want %d", got, 20<<20)
	}
}

func TestCancelReachesTheEndpoint(t *testing.T) {
	begun, gone := make(chan struct{}), make(chan struct{})
	addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(gone)
	}))
	h := simpleHop(t, config.HTTP2, addr)
	c := dialH2(t, h.addr)
	c.headers(1, true, get("/")...)
	<-begun
	_ = c.fr.WriteRSTStream(1, nethttp2.ErrCodeCancel)
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the endpoint was not told")
	}
}

func TestDrainHTTP2(t *testing.T) {
	release := make(chan struct{})
	addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
	}))
	h := simpleHop(t, config.HTTP2, addr)
	c := dialH2(t, h.addr)
	c.headers(1, true, get("/slow")...)
	c.headers(3, true, get("/")...)
	c.await(func(f nethttp2.Frame) bool {
		return f.Header().StreamID == 3 && f.Header().Type == nethttp2.FrameHeaders
	})
	close(h.drain)
	isAway := func(f nethttp2.Frame) bool { _, ok := f.(*nethttp2.GoAwayFrame); return ok }
	if f, ok := c.await(isAway).(*nethttp2.GoAwayFrame); !ok || f.LastStreamID != 1<<31-1 || f.ErrCode != 0 {
		t.Fatalf("first GOAWAY: %v", f)
	}
	c.headers(5, true, get("/")...) // was under way
	if c.await(func(f nethttp2.Frame) bool {
		return f.Header().StreamID == 5 && f.Header().Type == nethttp2.FrameHeaders
	}) == nil {
		t.Fatal("a stream that was under way was not served")
	}
	if f, ok := c.await(isAway).(*nethttp2.GoAwayFrame); !ok || f.LastStreamID != 5 {
		t.Fatalf("second GOAWAY: %v", f)
	}
	close(release)
	if c.await(func(f nethttp2.Frame) bool {
		return f.Header().StreamID == 1 && f.Header().Type == nethttp2.FrameHeaders
	}) == nil {
		t.Error("the open stream did not end well")
	}
	if c.await(func(nethttp2.Frame) bool { return false }) != nil {
		t.Error("the connection goes on after its last stream")
	}
}

// TestRefusedStreamIsSentAgain lets endpoints refuse requests in all the ways that are safe to repeat.
func TestRefusedStreamIsSentAgain(t *testing.T) {
	t.Run("HTTP/1", func(t *testing.T) { refusedStream(t, false) })
	t.Run("HTTP/2", func(t *testing.T) { refusedStream(t, true) })
}

func refusedStream(t *testing.T, h2 bool) {
	var n atomic.Int32
	addr := rawBackend(t, func(conn net.Conn) {
		_, _ = io.ReadFull(conn, make([]byte, len(nethttp2.ClientPreface)))
		c := newRawH2(t, conn)
		_ = c.fr.WriteSettings()
		body := ""
		f, ok := c.await(func(f nethttp2.Frame) bool {
			if d, is := f.(*nethttp2.DataFrame); is {
				body += string(d.Data())
			}
			return f.Header().Flags.Has(1) && f.Header().StreamID > 0
		}).(*nethttp2.DataFrame)
		if !ok {
			return
		}
		if body != "hello" {
			t.Errorf("body %q", body)
		}
		id := f.StreamID
		switch n.Add(1) {
		case 1:
			_ = c.fr.WriteRSTStream(id, nethttp2.ErrCodeRefusedStream)
			c.await(func(f nethttp2.Frame) bool { return f.Header().Flags.Has(1) && f.Header().StreamID > id })
			_ = c.fr.WriteGoAway(id, nethttp2.ErrCodeNo, nil)
		default:
			c.headers(id, true, ":status", "200")
			c.await(func(nethttp2.Frame) bool { return false })
		}
	})
	h := simpleHop(t, config.HTTP2, addr)
	resp, err := client(t, h.addr, h2).Post("http://a/", "", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		t.Errorf("status %d: %s", resp.StatusCode, b)
	}
}

func TestGRPCErrors(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := dead.Addr().String()
	_ = dead.Close()
	c := grpcClient(t, simpleHop(t, config.HTTP2, refused).addr)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = c.EmptyCall(ctx, &grpc_testing.Empty{})
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), `cluster c`) {
		t.Errorf("got %v, want Unavailable and the name of the cluster", err)
	}
}

// TestManyStreams runs more calls at a time than one upstream connection takes.
func TestManyStreams(t *testing.T) {
	const together = 300 // net/http lets a connection have 250 streams
	var now atomic.Int32
	met := make(chan struct{})
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if now.Add(1) == together {
			close(met)
		}
		select {
		case <-met:
		case <-time.After(20 * time.Second):
			t.Error("the calls do not run at the same time")
		}
		_, _ = w.Write(make([]byte, 3000))
	}))
	h := simpleHop(t, config.HTTP2, addr)
	c := client(t, h.addr, true)
	var wg sync.WaitGroup
	for range 600 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			resp, err := c.Get("http://a/")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || len(b) != 3000 || err != nil {
				t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(b), err)
			}
		}()
	}
	wg.Wait()
}

func TestRouteTimeoutHTTP2(t *testing.T) {
	routes := toCluster("c")
	routes.VirtualHosts[0].Routes[0].Action.Timeout = 200 * time.Millisecond
	addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	h := startHop(t, setup{hcm: config.HCM{Routes: routes}, clusters: []*config.Cluster{staticCluster("c", config.HTTP2, addr)}})
	resp, err := client(t, h.addr, true).Get("http://a/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 504 {
		t.Errorf("status %d, want 504", resp.StatusCode)
	}
}
