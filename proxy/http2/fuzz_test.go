package http2

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

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

// fuzzSink takes what comes; a server's answers when the request is complete, with trailers.
type fuzzSink struct {
	st      *Stream
	answers bool
}

func (s *fuzzSink) Headers(_ []hpack.HeaderField, end bool) { s.ended(end) }

func (s *fuzzSink) Data(p []byte, end bool) {
	s.st.Credit(len(p))
	s.ended(end)
}

func (s *fuzzSink) Reset(http2.ErrCode, bool) {}

func (s *fuzzSink) ended(end bool) {
	if !end || !s.answers {
		return
	}
	s.st.SendHeaders([]hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}}, false)
	s.st.Send(make([]byte, 64), false)
	s.st.SendTrailers([]hpack.HeaderField{{Name: "grpc-status", Value: "0"}, {Name: "grpc-message", Value: ""}})
}

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
			in = append([]byte(http2.ClientPreface), in...)
		}
		conn := &memConn{in: bytes.NewReader(in)}
		var c *Conn
		if client {
			c = NewClient(conn, NewHeld(), ClientOptions{})
			s := &fuzzSink{}
			if st, err := c.Open([]hpack.HeaderField{{Name: ":method", Value: "GET"}}, false, s, nil, 0); err == nil {
				s.st = st
				st.Send(make([]byte, 100000), true)
			}
		} else {
			c = NewServer(conn, NewHeld(), ServerOptions{
				NewSink: func(st *Stream) Sink { return &fuzzSink{st: st, answers: true} },
				Accept: func(s Sink, h *Head) {
					s.Headers(nil, h.End)
				},
			})
		}
		written := make(chan struct{})
		go func() { defer close(written); c.WriteLoop() }()
		_ = c.Serve()
		<-written
		if len(c.streams) != 0 {
			t.Errorf("%d streams are left", len(c.streams))
		}
	})
}
