package httpproxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// memConn is a connection that brings fixed bytes and swallows what is written.
type memConn struct {
	net.Conn
	in io.Reader
}

func (c *memConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *memConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *memConn) Close() error                     { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzHTTP2 feeds bytes to both ends of a connection: whatever comes, the connection ends and nothing panics, and no
// stream is left behind.
func FuzzHTTP2(f *testing.F) {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":path", Value: "/"}, {Name: ":scheme", Value: "http"}} {
		_ = enc.WriteField(h)
	}
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = fr.WriteData(1, true, []byte("hello"))
	_ = fr.WriteWindowUpdate(1, 100)
	_ = fr.WritePing(false, [8]byte{})
	_ = fr.WriteRSTStream(1, http2.ErrCodeCancel)
	_ = fr.WriteGoAway(1, http2.ErrCodeNo, nil)
	f.Add(b.Bytes(), false)
	f.Add(b.Bytes(), true)
	f.Fuzz(func(t *testing.T, in []byte, client bool) {
		if !client {
			in = append([]byte(preface), in...)
		}
		c := newH2conn(&memConn{in: bytes.NewReader(in)}, client, &bulkPool{}, &heldBytes{limit: heldLimit})
		c.newSink = func(st *h2stream) h2sink { return &echoSink{st} }
		c.accept = func(s h2sink, h *h2head) {
			if h.end {
				s.(*echoSink).answer()
			}
		}
		c.start()
		if client {
			s := &callSink{done: make(chan bool, 100)}
			if st, err := c.open([]hpack.HeaderField{{Name: ":method", Value: "GET"}}, false, s, nil, 0); err == nil {
				s.st = st
				st.send(make([]byte, 100000), true)
			}
		}
		written := make(chan struct{})
		go func() { defer close(written); c.write() }()
		_ = c.serve()
		<-written
		if len(c.streams) != 0 {
			t.Errorf("%d streams are left", len(c.streams))
		}
	})
}
