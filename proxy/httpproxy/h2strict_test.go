package httpproxy

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	nethttp2 "golang.org/x/net/http2"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

// TestErrorCodes checks which error a caller is told, of the connection or of its stream.
func TestErrorCodes(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	}))
	post := []string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/hang"}
	many := make([]nethttp2.Setting, http2.MaxSettings+1)
	for i := range many {
		many[i] = nethttp2.Setting{ID: nethttp2.SettingInitialWindowSize, Val: uint32(i)}
	}
	for name, tt := range map[string]struct {
		bare   bool // without SETTINGS before it
		send   func(c *rawH2)
		stream uint32 // 0: the connection
		want   nethttp2.ErrCode
	}{
		"frame above the limit": {
			send: func(c *rawH2) { _ = c.fr.WriteRawFrame(nethttp2.FrameData, 0, 1, make([]byte, http2.MaxFrame+1)) },
			want: nethttp2.ErrCodeFrameSize,
		},
		"request before SETTINGS": {
			bare: true,
			send: func(c *rawH2) { c.headers(1, true, get("/")...) },
			want: nethttp2.ErrCodeProtocol,
		},
		"padding longer than the head": {
			send: func(c *rawH2) {
				_ = c.fr.WriteRawFrame(nethttp2.FrameHeaders, nethttp2.FlagHeadersPadded|nethttp2.FlagHeadersEndHeaders, 1, []byte{9, 0x82})
			},
			want: nethttp2.ErrCodeProtocol,
		},
		"data frame too short for its padding": {
			send: func(c *rawH2) {
				c.headers(1, false, post...)
				_ = c.fr.WriteRawFrame(nethttp2.FrameData, nethttp2.FlagDataPadded, 1, nil)
			},
			want: nethttp2.ErrCodeFrameSize,
		},
		"stream 3 after stream 5": {
			send: func(c *rawH2) {
				c.headers(5, true, get("/")...)
				c.headers(3, true, get("/")...)
			},
			want: nethttp2.ErrCodeProtocol,
		},
		"more settings than there are": {
			send: func(c *rawH2) { _ = c.fr.WriteSettings(many...) },
			want: nethttp2.ErrCodeEnhanceYourCalm,
		},
		"endless header block": {
			send: func(c *rawH2) {
				_ = c.fr.WriteHeaders(nethttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
				for range http2.MaxBlock/16000 + 1 {
					_ = c.fr.WriteContinuation(1, false, []byte(strings.Repeat("\x82", 16000)))
				}
			},
			want: nethttp2.ErrCodeEnhanceYourCalm,
		},
		"head behind the end": {
			send: func(c *rawH2) {
				c.headers(1, true, get("/hang")...)
				c.headers(1, true, "x", "y")
			},
			stream: 1, want: nethttp2.ErrCodeStreamClosed,
		},
		"pseudo field in trailers": {
			send: func(c *rawH2) {
				c.headers(1, false, post...)
				c.headers(1, true, ":path", "/x")
			},
			stream: 1, want: nethttp2.ErrCodeProtocol,
		},
		"malformed request": {
			send:   func(c *rawH2) { c.headers(1, true, get("/", "connection", "close")...) },
			stream: 1, want: nethttp2.ErrCodeProtocol,
		},
		"malformed request with a body to come": {
			send:   func(c *rawH2) { c.headers(1, false, append(post, "te", "gzip")...) },
			stream: 1, want: nethttp2.ErrCodeProtocol,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := simpleHop(t, config.HTTP2, addr)
			conn, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c := newRawH2(t, conn)
			c.fr.AllowIllegalWrites = true
			_, _ = io.WriteString(conn, nethttp2.ClientPreface)
			if !tt.bare {
				_ = c.fr.WriteSettings()
			}
			tt.send(c)
			var got any = "the end of the connection"
			c.await(func(f nethttp2.Frame) bool {
				switch f := f.(type) {
				case *nethttp2.GoAwayFrame:
					got = f.ErrCode
					return true
				case *nethttp2.RSTStreamFrame:
					got = f.ErrCode
					return f.StreamID == tt.stream
				}
				return false
			})
			if got != tt.want {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			if tt.stream == 0 {
				return
			}
			c.headers(9, true, get("/")...)
			if c.await(func(f nethttp2.Frame) bool { return f.Header().StreamID == 9 }) == nil {
				t.Error("the connection ended with the stream")
			}
		})
	}
}

// TestLargeRequestHeads refuses heads over the limit alone, and keeps the compression state in step.
func TestLargeRequestHeads(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Got", r.Header.Get("X-Remembered"))
	}))
	h := simpleHop(t, config.HTTP2, addr)
	var fields []string
	for i := range 10_000 {
		fields = append(fields, "x-"+strconv.Itoa(i), "y")
	}
	for name, head := range map[string][]string{
		"a field of 70 KB": get("/", "x-large", strings.Repeat("x", 70<<10)),
		"a URL of 64 KB":   get("/" + strings.Repeat("x", 64<<10)),
		"10000 fields":     get("/", fields...),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialH2(t, h.addr)
			// The encoder indexes what is said twice; it comes behind the limit here.
			c.headers(1, true, append(head, "x-remembered", "yes")...)
			status := func(id uint32) *nethttp2.MetaHeadersFrame {
				f, _ := c.await(func(f nethttp2.Frame) bool {
					m, is := f.(*nethttp2.MetaHeadersFrame)
					return is && m.StreamID == id
				}).(*nethttp2.MetaHeadersFrame)
				if f == nil {
					t.Fatal("the connection ended")
				}
				return f
			}
			if s := status(1).PseudoValue("status"); s != "431" {
				t.Errorf("status %s, want 431", s)
			}
			c.headers(3, true, get("/", "x-remembered", "yes")...)
			f := status(3)
			got := ""
			for _, field := range f.Fields {
				if field.Name == "x-got" {
					got = field.Value
				}
			}
			if got != "yes" {
				t.Errorf("the field that both requests have arrived as %q", got)
			}
		})
	}
}

// TestLargeAnswerHeads lets one answer be over the limit while others are on their way on the same connection.
func TestLargeAnswerHeads(t *testing.T) {
	var conns sync.Map
	release := make(chan struct{})
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conns.Store(r.RemoteAddr, true)
		if n, _ := strconv.Atoi(r.URL.Path[1:]); n > 0 {
			w.Header().Set("X-Large", strings.Repeat("x", n<<10))
			return
		}
		<-release
	}))
	h := simpleHop(t, config.HTTP2, addr)
	innocent := make(chan int)
	for range 5 {
		go func() {
			resp, err := client(t, h.addr, true).Get("http://a/0")
			if err != nil {
				t.Error(err)
				innocent <- 0
				return
			}
			resp.Body.Close()
			innocent <- resp.StatusCode
		}()
	}
	for _, h2 := range []bool{true, false} {
		for _, path := range []string{"/70", "/80", "/200"} {
			resp, err := client(t, h.addr, h2).Get("http://a" + path)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 502 || !strings.Contains(string(b), "larger than 65536 bytes") {
				t.Errorf("HTTP/2 %v %s: %d %s", h2, path, resp.StatusCode, b)
			}
		}
	}
	close(release)
	for range 5 {
		if code := <-innocent; code != 200 {
			t.Errorf("a request beside it got %d", code)
		}
	}
}

// TestStalledCallers checks that nothing that has begun may stay unfinished.
func TestStalledCallers(t *testing.T) {
	addr := backend(t, http.NotFoundHandler())
	hello := nethttp2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	ack := "\x00\x00\x00\x04\x01\x00\x00\x00\x00"
	for name, sent := range map[string]string{
		"half a preface":                 nethttp2.ClientPreface[:10],
		"a preface alone":                nethttp2.ClientPreface,
		"settings without the other's":   hello,
		"half a frame header":            hello + ack + "\x00\x00\x08",
		"half a frame":                   hello + ack + "\x00\x00\x08\x06\x00\x00\x00\x00\x00abcd",
		"a head without its end":         hello + ack + "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82",
		"a head that lacks only its end": hello + ack + "\x00\x00\x01\x01\x01\x00\x00\x00\x01\x82\x00\x00\x01\x09\x00\x00\x00\x00\x01\x84",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHop(t, setup{
				hcm:      config.HCM{Routes: toCluster("c"), HeadersTimeout: 300 * time.Millisecond},
				clusters: []*config.Cluster{staticCluster("c", config.HTTP2, addr)},
			})
			conn, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, sent)
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("the connection is still open: %v", err)
			}
		})
	}
	t.Run("a quiet connection lives", func(t *testing.T) {
		t.Parallel()
		h := startHop(t, setup{
			hcm:      config.HCM{Routes: toCluster("c"), HeadersTimeout: 300 * time.Millisecond},
			clusters: []*config.Cluster{staticCluster("c", config.HTTP2, addr)},
		})
		c := dialH2(t, h.addr)
		c.await(func(f nethttp2.Frame) bool { s, is := f.(*nethttp2.SettingsFrame); return is && s.IsAck() })
		time.Sleep(1200 * time.Millisecond)
		c.headers(1, true, get("/")...)
		if c.await(func(f nethttp2.Frame) bool { return f.Header().StreamID == 1 }) == nil {
			t.Error("the connection was ended although nothing was under way")
		}
	})
}

// TestIdleLimit checks how long a request may stand, above all one whose body does not come.
func TestIdleLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		set     func(p *pair)
		general time.Duration // of the configuration
		want    time.Duration
	}{
		"a body that does not come": {
			set:     func(*pair) {},
			general: 0,
			want:    silentBody,
		},
		"where the configuration says": {
			set:     func(*pair) {},
			general: time.Hour,
			want:    time.Hour,
		},
		"a stream of gRPC": {
			set:     func(p *pair) { p.call.GRPC = true },
			general: 0,
			want:    0,
		},
		"a request that is complete": {
			set:     func(p *pair) { p.end = true },
			general: 0,
			want:    0,
		},
		"a request that is answered": {
			set:     func(p *pair) { p.responded = true },
			general: 0,
			want:    0,
		},
		"a route that says for ever": {
			set:     func(p *pair) { p.call.Route.Action.IdleSet = true },
			general: time.Hour,
			want:    0,
		},
	} {
		p := &pair{srv: &h2server{h: &Handler{hcm: &config.HCM{StreamIdleTimeout: tt.general}}}}
		p.call.Route = &routes.Route{Route: &config.Route{Action: &config.RouteAction{}}}
		tt.set(p)
		if got := p.idleLimitLocked(); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
