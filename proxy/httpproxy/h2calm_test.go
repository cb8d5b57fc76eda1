package httpproxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// writerOf returns a second hand for the peer, which writes while another goroutine reads.
func (r *rawH2) writerOf() *rawH2 {
	w := &rawH2{conn: r.conn, fr: nethttp2.NewFramer(r.conn, nil)}
	w.enc = hpack.NewEncoder(&w.buf)
	w.fr.AllowIllegalWrites = true
	return w
}

// lastWords reads until the connection ends and returns the code of the GOAWAY with an error, or 0.
func (r *rawH2) lastWords() (code nethttp2.ErrCode) {
	r.await(func(f nethttp2.Frame) bool {
		if g, is := f.(*nethttp2.GoAwayFrame); is && g.ErrCode != 0 {
			code = g.ErrCode
		}
		return false
	})
	return code
}

// floods are frames that a peer may send a few of, and not for ever. i counts from 0.
var floods = map[string]func(w *rawH2, i int) error{
	"PING":     func(w *rawH2, _ int) error { return w.fr.WritePing(false, [8]byte{}) },
	"PING ACK": func(w *rawH2, _ int) error { return w.fr.WritePing(true, [8]byte{}) },
	"SETTINGS": func(w *rawH2, _ int) error { return w.fr.WriteSettings() },
	"PRIORITY": func(w *rawH2, _ int) error {
		return w.fr.WritePriority(1, nethttp2.PriorityParam{StreamDep: 3})
	},
	"unknown frames":               func(w *rawH2, _ int) error { return w.fr.WriteRawFrame(0xbb, 0, 0, nil) },
	"WINDOW_UPDATE of connection":  func(w *rawH2, _ int) error { return w.fr.WriteWindowUpdate(0, 1) },
	"WINDOW_UPDATE of old streams": func(w *rawH2, _ int) error { return w.fr.WriteWindowUpdate(1, 1) },
	"RST_STREAM of old streams": func(w *rawH2, _ int) error {
		return w.fr.WriteRSTStream(1, nethttp2.ErrCodeCancel)
	},
}

// serverFloods are those that only callers can send.
var serverFloods = map[string]func(w *rawH2, i int) error{
	"empty DATA": func(w *rawH2, i int) error {
		if i == 0 {
			w.headers(3, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/hang")
		}
		return w.fr.WriteData(3, false, nil)
	},
	"empty CONTINUATION": func(w *rawH2, i int) error {
		if i == 0 {
			return w.fr.WriteHeaders(nethttp2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x82}})
		}
		return w.fr.WriteContinuation(3, false, nil)
	},
	"streams beyond the limit": func(w *rawH2, i int) error {
		w.headers(uint32(3+2*i), true, get("/hang")...)
		return nil
	},
	"rapid reset": func(w *rawH2, i int) error {
		w.headers(uint32(3+2*i), true, get("/hang")...)
		return w.fr.WriteRSTStream(uint32(3+2*i), nethttp2.ErrCodeCancel)
	},
	"rapid reset of every second": func(w *rawH2, i int) error {
		w.headers(uint32(3+2*i), true, get("/")...)
		if i%2 == 0 {
			return w.fr.WriteRSTStream(uint32(3+2*i), nethttp2.ErrCodeCancel)
		}
		return nil
	},
	"reset by zero WINDOW_UPDATE": func(w *rawH2, i int) error { // CVE-2025-8671
		w.headers(uint32(3+2*i), true, get("/hang")...)
		return w.fr.WriteWindowUpdate(uint32(3+2*i), 0)
	},
	"reset by window overflow": func(w *rawH2, i int) error {
		w.headers(uint32(3+2*i), true, get("/hang")...)
		return w.fr.WriteWindowUpdate(uint32(3+2*i), 1<<31-1)
	},
	"reset by DATA behind the end": func(w *rawH2, i int) error {
		w.headers(uint32(3+2*i), true, get("/hang")...)
		return w.fr.WriteData(uint32(3+2*i), true, []byte("x"))
	},
	"reset by HEADERS behind the end": func(w *rawH2, i int) error {
		w.headers(uint32(3+2*i), true, get("/hang")...)
		w.headers(uint32(3+2*i), true, "x", "y")
		return nil
	},
	"reset by a wrong length": func(w *rawH2, i int) error {
		w.headers(uint32(3+2*i), false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/hang", "content-length", "1")
		return w.fr.WriteData(uint32(3+2*i), true, []byte("xy"))
	},
}

const floodFrames = 100_000

// pour sends a flood until it cannot any more, and returns how many frames went out. A
// request and what takes it back are sent in one piece: on a busy machine requests that
// came alone were answered before they could be taken back, and that is no flood.
func pour(w *rawH2, send func(*rawH2, int) error) int {
	out := bufio.NewWriterSize(w.conn, 64<<10)
	w.fr = nethttp2.NewFramer(out, nil)
	w.fr.AllowIllegalWrites = true
	for i := range floodFrames {
		if send(w, i) != nil {
			return i
		}
		if i%64 == 63 { // headers has no result of its own
			if out.Flush() != nil {
				return i
			}
		}
	}
	_ = out.Flush()
	return floodFrames
}

func TestFloodsOfCallers(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	}))
	h := simpleHop(t, config.HTTP2, addr)
	run := func(name string, send func(*rawH2, int) error) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a connection of its own, which lingers for a while
			c := dialH2(t, h.addr)
			c.headers(1, true, get("/")...)
			c.await(func(f nethttp2.Frame) bool { return f.Header().StreamID == 1 && f.Header().Flags.Has(1) })
			_ = c.conn.SetDeadline(time.Now().Add(30 * time.Second))
			poured := make(chan int)
			go func() { poured <- pour(c.writerOf(), send) }()
			code := c.lastWords()
			_ = c.conn.Close()
			if n := <-poured; code != nethttp2.ErrCodeEnhanceYourCalm { // what comes after the error is dropped for a while
				t.Errorf("the connection ended with %v, at most %d frames late, want ENHANCE_YOUR_CALM", code, n)
			}
		})
	}
	for name, send := range floods {
		run(name, send)
	}
	for name, send := range serverFloods {
		run(name, send)
	}
}

func TestFloodsOfEndpoints(t *testing.T) {
	for name, send := range floods {
		if strings.Contains(name, "old") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := make(chan nethttp2.ErrCode, 1)
			addr := rawBackend(t, func(conn net.Conn) {
				_, _ = io.ReadFull(conn, make([]byte, len(nethttp2.ClientPreface)))
				c := newRawH2(t, conn)
				_ = c.fr.WriteSettings()
				c.await(func(f nethttp2.Frame) bool { return f.Header().Type == nethttp2.FrameHeaders })
				poured := make(chan int)
				go func() { poured <- pour(c.writerOf(), send) }()
				code := c.lastWords()
				_ = conn.Close()
				<-poured
				select {
				case result <- code:
				default:
				}
			})
			h := simpleHop(t, config.HTTP2, addr)
			resp, err := client(t, h.addr, false).Get("http://a/")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if code := <-result; code != nethttp2.ErrCodeEnhanceYourCalm {
				t.Errorf("the connection ended with %v, want ENHANCE_YOUR_CALM", code)
			}
		})
	}
}

// TestBusyPeersAreNoFlooders does what gRPC and large uploads do, for longer than any allowance lasts.
func TestBusyPeersAreNoFlooders(t *testing.T) {
	const uploads, frames = 20, 200
	addr := rawBackend(t, func(conn net.Conn) { // gives room back in small pieces, four for each frame
		_, _ = io.ReadFull(conn, make([]byte, len(nethttp2.ClientPreface)))
		c := newRawH2(t, conn)
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_ = c.fr.WriteSettings()
		c.await(func(f nethttp2.Frame) bool {
			if d, is := f.(*nethttp2.DataFrame); is {
				n := uint32(d.Length)
				for range 4 * min(n, 1) {
					_ = c.fr.WriteWindowUpdate(0, max(n/4, 1))
					_ = c.fr.WriteWindowUpdate(d.StreamID, max(n/4, 1))
				}
				_ = c.fr.WritePing(false, [8]byte{}) // as gRPC does to measure the bandwidth
				if d.StreamEnded() {
					c.headers(d.StreamID, true, ":status", "200")
				}
			}
			return false
		})
	})
	h := simpleHop(t, config.HTTP2, addr)
	c := dialH2(t, h.addr)
	_ = c.conn.SetDeadline(time.Now().Add(time.Minute))
	w := c.writerOf()
	go func() {
		for i := range uploads {
			id := uint32(1 + 2*i)
			w.headers(id, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/")
			for k := range frames {
				_ = w.fr.WriteData(id, k == frames-1, make([]byte, 300))
				_ = w.fr.WritePing(false, [8]byte{})
			}
		}
	}()
	answered := 0
	if c.await(func(f nethttp2.Frame) bool {
		if f.Header().Type == nethttp2.FrameHeaders {
			answered++
		}
		return answered == uploads
	}) == nil {
		t.Errorf("%d uploads of %d were answered before the connection ended", answered, uploads)
	}
}

// TestCancelsAreNoFlood gives up every fifth request, which callers with short deadlines do.
func TestCancelsAreNoFlood(t *testing.T) {
	h := simpleHop(t, config.HTTP2, backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	c := dialH2(t, h.addr)
	_ = c.conn.SetDeadline(time.Now().Add(time.Minute))
	const calls = 4000
	for i := range calls {
		id := uint32(1 + 2*i)
		c.headers(id, true, get("/")...)
		if i%5 == 0 {
			_ = c.fr.WriteRSTStream(id, nethttp2.ErrCodeCancel)
			continue
		}
		if c.await(func(f nethttp2.Frame) bool { return f.Header().StreamID == id && f.Header().Flags.Has(1) }) == nil {
			t.Fatalf("the connection ended with call %d", i)
		}
	}
}

// TestUnreadAnswersAreBounded asks for answers without bodies, which no window bounds, and reads none.
func TestUnreadAnswersAreBounded(t *testing.T) {
	cookie := strings.Repeat("0123456789abcdef", 128)
	var served atomic.Int64
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", fmt.Sprint(served.Add(1), cookie))
	}))
	h := simpleHop(t, config.HTTPUseDownstream, addr)
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	c := newRawH2(t, conn)
	_, _ = io.WriteString(conn, nethttp2.ClientPreface)
	_ = c.fr.WriteSettings()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	sent := 0
	for ; sent < 300_000; sent++ {
		c.headers(uint32(1+2*sent), true, ":method", "HEAD", ":scheme", "http", ":authority", "a", ":path", "/")
		if sent%100 == 0 {
			if c.fr.WritePing(false, [8]byte{}) != nil {
				break
			}
		}
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 64<<20 {
		t.Errorf("%d MiB of heap after %d requests", m.HeapAlloc>>20, sent)
	}
	if n := served.Load(); n > 20_000 {
		t.Errorf("%d requests were served to a caller that reads nothing", n)
	}
}
