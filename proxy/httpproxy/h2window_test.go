package httpproxy

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"

	nethttp2 "golang.org/x/net/http2"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
)

// zeros is an endless body that costs nothing to make.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// standing waits until what the proxy holds has not changed for d.
func standing(t testing.TB, h *hop, d time.Duration) {
	t.Helper()
	last, since := int64(-1), time.Now()
	for end := since.Add(30 * time.Second); time.Since(since) < d; time.Sleep(10 * time.Millisecond) {
		if n := h.server.held.Bytes(); n != last {
			last, since = n, time.Now()
		}
		if time.Now().After(end) {
			t.Fatal("what the proxy holds does not come to rest in 30 s")
		}
	}
}

// bigBackend answers /big/N with N MiB and drains everything that it is sent, but for /stuck, which it never reads.
func bigBackend(t testing.TB) (addr string, release chan struct{}) {
	release = make(chan struct{})
	return backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stuck" {
			<-release
			return
		}
		n := int64(0)
		if _, err := fmt.Sscanf(r.URL.Path, "/big/%d", &n); err == nil {
			_, _ = io.CopyN(w, zeros{}, n<<20)
			return
		}
		n, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})), release
}

// pausedReader asks for n large answers and takes none of their bodies.
func pausedReader(t testing.TB, addr string, n, mib int) *rawH2 {
	c := dialH2(t, addr, nethttp2.Setting{ID: nethttp2.SettingInitialWindowSize, Val: 0})
	for i := range n {
		c.headers(uint32(1+2*i), true, get(fmt.Sprintf("/big/%d", mib))...)
	}
	heads := 0
	_ = c.conn.SetDeadline(time.Now().Add(60 * time.Second))
	if c.await(func(f nethttp2.Frame) bool {
		if _, is := f.(*nethttp2.MetaHeadersFrame); is {
			heads++
		}
		return heads == n
	}) == nil {
		t.Fatalf("%d heads of %d came", heads, n)
	}
	return c
}

// TestPausedReaderHoldsUpNobody lets one caller pause as many answers as used to fill the window of the connection
// that all callers share.
func TestPausedReaderHoldsUpNobody(t *testing.T) {
	addr, _ := bigBackend(t)
	h := simpleHop(t, config.HTTP2, addr)
	pausedReader(t, h.addr, 100, 5)
	for _, h2 := range []bool{true, false} {
		c := client(t, h.addr, h2)
		c.Timeout = 30 * time.Second
		for range 3 {
			resp, err := c.Get("http://a/big/5")
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := io.Copy(io.Discard, resp.Body); n != 5<<20 {
				t.Errorf("HTTP/2 %v: %d bytes, want %d", h2, n, 5<<20)
			}
			resp.Body.Close()
		}
	}
}

// TestUnreadUploadsHoldUpNobody sends uploads that the endpoint does not read, and others beside them.
func TestUnreadUploadsHoldUpNobody(t *testing.T) {
	for _, up := range []config.HTTPProtocol{config.HTTP1, config.HTTP2} {
		addr, release := bigBackend(t)
		h := simpleHop(t, up, addr)
		c := client(t, h.addr, true) // all on one connection
		c.Timeout = 40 * time.Second
		stuck := make(chan error)
		for range 40 {
			go func() {
				resp, err := c.Post("http://a/stuck", "", io.LimitReader(zeros{}, 8<<20))
				if err == nil {
					_ = resp.Body.Close()
				}
				stuck <- err
			}()
		}
		standing(t, h, 1200*time.Millisecond)
		for range 3 {
			resp, err := c.Post("http://a/take", "", io.LimitReader(zeros{}, 5<<20))
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(resp.Body); string(b) != fmt.Sprint(5<<20) {
				t.Errorf("the endpoint got %s bytes, want %d", b, 5<<20)
			}
			resp.Body.Close()
		}
		close(release)
		for range 40 {
			<-stuck // an early answer: whether the whole body was sent first does not matter
		}
	}
}

// TestPausedReadersAreBounded asks for 40 GB in 400 streams and reads nothing of it.
func TestPausedReadersAreBounded(t *testing.T) {
	addr, _ := bigBackend(t)
	h := simpleHop(t, config.HTTP2, addr)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	c := pausedReader(t, h.addr, 400, 100)
	standing(t, h, 200*time.Millisecond)
	const most = 400*http2.BaseWindow + http2.ExtraRoom
	if held := h.server.held.Bytes(); held < 16<<20 || held > most {
		t.Errorf("%d MiB are held, want at least some and at most %d", held>>20, most>>20)
	}
	// The test's own backend and its buffers are in the figure.
	if grown := heap() - before; grown > 4*most {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	_ = c.conn.Close()
	eventually(t, "nothing to be held", func() bool { return h.server.held.Bytes() < 1<<20 })
}

// TestHeldLimit lets the process hold hardly anything: connections must then wait for what they hold, and go on once
// it moves.
func TestHeldLimit(t *testing.T) {
	addr, _ := bigBackend(t)
	h := simpleHop(t, config.HTTP2, addr)
	h.server.held = http2.NewHeldUpTo(1 << 20)
	c := pausedReader(t, h.addr, 60, 1)
	eventually(t, "the limit to be reached", func() bool { return h.server.held.Bytes() > 1<<20 })
	standing(t, h, 200*time.Millisecond)
	if held := h.server.held.Bytes(); held > 1<<20+http2.ConnWindow+2*http2.HeldStep {
		t.Errorf("%d MiB are held", held>>20)
	}
	_ = c.fr.WriteWindowUpdate(0, 1<<30)
	for i := range 60 {
		_ = c.fr.WriteWindowUpdate(uint32(1+2*i), 1<<30)
	}
	got := 0
	c.await(func(f nethttp2.Frame) bool {
		if d, is := f.(*nethttp2.DataFrame); is {
			got += len(d.Data())
		}
		return got == 60<<20
	})
	if got != 60<<20 {
		t.Errorf("%d bytes came, want %d", got, 60<<20)
	}
	eventually(t, "nothing to be held", func() bool { return h.server.held.Bytes() < http2.HeldStep })
}
