package httpproxy

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
)

// wildPeer sends frames at random: most of them legal where they stand, some not. The same seed sends the same.
type wildPeer struct {
	r    *rand.Rand
	buf  bytes.Buffer // what is to be written
	fr   *nethttp2.Framer
	enc  *hpack.Encoder
	head bytes.Buffer
	open []uint32 // streams to send on
	next uint32   // the stream to open; 0: an endpoint, which opens none
}

func newWildPeer(seed uint64, first uint32) *wildPeer {
	w := &wildPeer{r: rand.New(rand.NewPCG(seed, 1)), next: first}
	w.fr = nethttp2.NewFramer(&w.buf, nil)
	w.fr.AllowIllegalWrites = true
	w.enc = hpack.NewEncoder(&w.head)
	return w
}

// stream picks a stream, as a rule one that is open.
func (w *wildPeer) stream() uint32 {
	if len(w.open) == 0 || w.r.IntN(40) == 0 {
		return uint32(w.r.IntN(200))
	}
	return w.open[w.r.IntN(len(w.open))]
}

func (w *wildPeer) block(kv ...string) []byte {
	w.head.Reset()
	for i := 0; i < len(kv); i += 2 {
		_ = w.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	if w.r.IntN(20) == 0 {
		_ = w.enc.WriteField(hpack.HeaderField{Name: "x-large", Value: string(make([]byte, w.r.IntN(20_000)))})
	}
	return w.head.Bytes()
}

// heads are what a head or trailers may look like.
func (w *wildPeer) heads() []byte {
	all := [][]string{
		get("/"), get("/x", "te", "trailers"), get("/", "connection", "close"), get("/", "X", "y"),
		{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/", "content-length", "5"},
		{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/", "content-type", "application/grpc"},
		{"x-trailer", "1"}, {"grpc-status", "0"}, {},
	}
	if w.next == 0 {
		all = append(all[6:], []string{":status", "200"}, []string{":status", "200", "content-length", "5"},
			[]string{":status", "103"}, []string{":status", "101"}, []string{":status", "x"}, []string{":status", "503"})
	}
	return w.block(all[w.r.IntN(len(all))]...)
}

// step writes one frame.
func (w *wildPeer) step() {
	end := w.r.IntN(2) == 0
	switch n := w.r.IntN(100); {
	case n < 30:
		id := w.stream()
		if w.next > 0 && w.r.IntN(3) > 0 {
			id = w.next
			w.next += 2
			w.open = append(w.open, id)
		}
		whole := w.r.IntN(30) > 0
		_ = w.fr.WriteHeaders(nethttp2.HeadersFrameParam{StreamID: id, BlockFragment: w.heads(), EndHeaders: whole, EndStream: end})
		if !whole {
			_ = w.fr.WriteContinuation(id, w.r.IntN(2) == 0, nil)
		}
	case n < 60:
		_ = w.fr.WriteDataPadded(w.stream(), end, make([]byte, w.r.IntN(3000)), make([]byte, w.r.IntN(3)))
	case n < 75:
		_ = w.fr.WriteWindowUpdate(w.stream(), uint32(w.r.IntN(1<<(1+w.r.IntN(31)))))
	case n < 83:
		_ = w.fr.WriteRSTStream(w.stream(), nethttp2.ErrCode(w.r.IntN(14)))
	case n < 88:
		_ = w.fr.WriteSettings(nethttp2.Setting{ID: nethttp2.SettingID(w.r.IntN(8)), Val: uint32(w.r.IntN(1 << (1 + w.r.IntN(31))))})
	case n < 93:
		_ = w.fr.WritePing(end, [8]byte{})
	case n < 96:
		_ = w.fr.WritePriority(w.stream(), nethttp2.PriorityParam{StreamDep: w.stream()})
	case n < 99:
		_ = w.fr.WriteRawFrame(nethttp2.FrameType(w.r.IntN(256)), nethttp2.Flags(w.r.IntN(256)), w.stream(), make([]byte, w.r.IntN(50)))
	default:
		_ = w.fr.WriteGoAway(uint32(w.r.IntN(100)), 0, nil)
	}
}

// run sends frames until the connection ends, or enough were sent.
func (w *wildPeer) run(conn net.Conn, frames int) {
	for range frames {
		w.step()
		if w.buf.Len() < 4000 && w.r.IntN(10) > 0 {
			continue
		}
		if _, err := conn.Write(w.buf.Bytes()); err != nil {
			return
		}
		w.buf.Reset()
	}
	_, _ = conn.Write(w.buf.Bytes())
}

// soak checks what must hold whatever came: others are served, nothing is held, and the heap is bounded. That no
// goroutine is left is checked at the end of all tests.
func soak(t *testing.T, h *hop, good string) {
	t.Helper()
	resp, err := client(t, h.addr, true).Get("http://a" + good)
	if err != nil {
		t.Fatalf("another caller is not served any more: %v", err)
	}
	resp.Body.Close()
	eventually(t, "nothing to be held", func() bool { return h.server.held.Bytes() < 2*http2.HeldStep })
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 128<<20 {
		t.Errorf("%d MiB of heap", m.HeapAlloc>>20)
	}
}

func TestWildCallers(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(make([]byte, 5000))
	}))
	for _, up := range []config.HTTPProtocol{config.HTTP1, config.HTTP2} {
		h := simpleHop(t, up, addr)
		var wg sync.WaitGroup
		for seed := range uint64(200) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				conn, err := net.Dial("tcp", h.addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = io.WriteString(conn, nethttp2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
				if seed%2 == 0 { // the others read nothing
					go func() { _, _ = io.Copy(io.Discard, conn) }()
				}
				newWildPeer(seed, 1).run(conn, 2000)
			}()
		}
		wg.Wait()
		soak(t, h, "/")
	}
}

func TestWildEndpoints(t *testing.T) {
	var mu sync.Mutex
	seed := uint64(0)
	wild := rawBackend(t, func(conn net.Conn) {
		mu.Lock()
		seed++
		w := newWildPeer(seed, 0)
		mu.Unlock()
		_, _ = io.ReadFull(conn, make([]byte, len(nethttp2.ClientPreface)))
		c := newRawH2(t, conn)
		_ = c.fr.WriteSettings()
		c.await(func(f nethttp2.Frame) bool {
			if f.Header().Type == nethttp2.FrameHeaders {
				w.open = append(w.open, f.Header().StreamID)
				w.run(conn, 20)
			}
			return false
		})
	})
	good := backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	routes := toCluster("wild")
	routes.VirtualHosts[0].Routes[0].Action.Timeout = time.Second
	routes.VirtualHosts[0].Routes = append([]*config.Route{{
		Name: "good", Match: config.RouteMatch{Prefix: "/good"}, Action: &config.RouteAction{Cluster: "good"},
	}}, routes.VirtualHosts[0].Routes...)
	h := startHop(t, setup{hcm: config.HCM{Routes: routes}, clusters: []*config.Cluster{
		staticCluster("wild", config.HTTP2, wild), staticCluster("good", config.HTTP2, good),
	}})
	for _, h2 := range []bool{true, false} {
		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				c := client(t, h.addr, h2)
				c.Timeout = 20 * time.Second
				for range 30 {
					resp, err := c.Post("http://a/", "", io.LimitReader(zeros{}, 3000))
					if err != nil {
						if resp == nil && errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("no answer: %v", err)
						}
						continue
					}
					if _, err := io.Copy(io.Discard, resp.Body); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("no end of the answer: %v", err)
					}
					resp.Body.Close()
				}
			}()
		}
		wg.Wait()
		soak(t, h, "/good")
	}
}
