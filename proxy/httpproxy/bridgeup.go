package httpproxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
)

// bridgeUp lets the HTTP/1 side talk to an HTTP/2 endpoint: it returns a connection that takes one HTTP/1 request
// and brings its response, while the two travel on a stream of c.
func bridgeUp(c *http2.Conn, bulk *http1.BulkPool) net.Conn {
	near, far := net.Pipe()
	b := &upBridge{c: c, bulk: bulk, far: far, pipe: newH2pipe(false)}
	go b.request()
	return &bridgedConn{near, b}
}

// bridgedConn is the end of a bridge that the HTTP/1 side has. It says why the endpoint's answer ended early.
type bridgedConn struct {
	net.Conn
	bridge *upBridge
}

func (c *bridgedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) && c.bridge.st != nil { // the other end is closed, after which st does not change
		if cause := c.bridge.st.Cause(nethttp2.ErrCodeNo); isBreach(cause) || isLost(cause) {
			err = cause
		}
	}
	return n, err
}

type upBridge struct {
	c    *http2.Conn
	bulk *http1.BulkPool
	far  net.Conn
	pipe *h2pipe
	st   *http2.Stream
	get  bool // not a HEAD request
	// refused says, once the bridge has ended, that the endpoint has not worked on the request (RFC 9113 section 8.7).
	refused atomic.Bool
}

// request reads the request and sends it; it ends with the near side.
func (b *upBridge) request() {
	var in http1.Reader
	in.Reset(b.far)
	var h http1.Head
	raw, err := in.ReadHead(nil)
	if err == nil {
		err = h.ParseRequest(raw)
	}
	if err != nil {
		_ = b.far.Close()
		return
	}
	in.Discard(len(raw))

	b.get = string(h.Method) != "HEAD"
	if b.st, err = b.c.Open(requestFields(&h), h.Framing.Kind == http1.BodyNone, b.pipe, nil, 0); err != nil {
		b.refused.Store(true)
		_ = b.far.Close()
		return
	}
	go b.response()

	if h.Framing.Kind != http1.BodyNone {
		if err := sendBody(b.st, &in, h.Framing, b.bulk); err != nil {
			b.st.Reset(nethttp2.ErrCodeCancel)
			b.pipe.abort(err)
			return
		}
	}

	_ = in.Fill() // nothing more comes; this waits for the near side to be done
	b.st.Reset(nethttp2.ErrCodeCancel)
	b.pipe.abort(net.ErrClosed)
}

// requestFields translates a request head; hop-by-hop fields were marked when it was parsed.
func requestFields(h *http1.Head) []hpack.HeaderField {
	scheme := "http"
	if v := h.Get(http1.FieldForwardedProto); string(v) == "https" {
		scheme = "https"
	}
	out := make([]hpack.HeaderField, 0, len(h.Fields)+5)
	out = append(out,
		hpack.HeaderField{Name: ":method", Value: string(h.Method)},
		hpack.HeaderField{Name: ":scheme", Value: scheme},
		hpack.HeaderField{Name: ":authority", Value: string(h.Get(http1.FieldHost))},
		hpack.HeaderField{Name: ":path", Value: string(h.Target)})
	out = appendLower(out, h)
	if h.TrailersOK {
		out = append(out, hpack.HeaderField{Name: "te", Value: "trailers"})
	}
	return out
}

// appendLower appends the fields of an HTTP/1 head that have a place in HTTP/2.
func appendLower(out []hpack.HeaderField, h *http1.Head) []hpack.HeaderField {
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Drop || f.ID == http1.FieldHost || f.ID == http1.FieldTransferEncoding {
			continue
		}
		out = append(out, hpack.HeaderField{Name: strings.ToLower(string(h.Name(f))), Value: string(h.Value(f))})
	}
	return out
}

// streamWriter writes to a stream and waits until it is sent.
type streamWriter struct{ st *http2.Stream }

func (w streamWriter) Write(p []byte) (int, error) {
	w.st.Send(p, false)
	if !w.st.Wait() {
		return 0, errors.New("the stream was reset")
	}
	return len(p), nil
}

// sendBody sends an HTTP/1 body and its trailers, and ends the stream.
func sendBody(st *http2.Stream, in *http1.Reader, body http1.Framing, bulk *http1.BulkPool) error {
	var out http1.Writer
	out.Reset(streamWriter{st}, bulk)
	defer out.Release()
	var r http1.Relay
	r.Reset(in, &out, body)
	r.Dechunk = true
	if err := r.Run(); err != nil {
		return err
	}
	if body.Kind == http1.BodyChunked {
		if t := appendLower(nil, r.Trailers()); len(t) > 0 {
			st.SendTrailers(t)
			return nil
		}
	}
	st.Send(nil, true)
	return nil
}

// response writes what the stream brings as an HTTP/1 response.
func (b *upBridge) response() {
	defer b.far.Close()
	defer b.pipe.leave(b.st)
	for {
		fields, last, err := b.pipe.head()
		if err != nil {
			b.refused.Store(errors.Is(err, errRefused))
			return
		}
		status, rest, err := responseStatus(fields)
		if err != nil || status == 101 {
			b.st.Reset(nethttp2.ErrCodeProtocol)
			return
		}
		bodyless := !b.get || status < 200 || status == 204 || status == 304
		chunked := writeResponseHead(b.far, status, rest, last, bodyless)
		if status < 200 {
			continue
		}
		if !bodyless && !last {
			b.body(chunked)
		}
		return
	}
}

// writeResponseHead writes a response head and reports whether its body is to be chunked.
func writeResponseHead(to net.Conn, status int, rest []hpack.HeaderField, last, bodyless bool) (chunked bool) {
	out := []byte("HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n")
	_, sized := lookupField(rest, "content-length")
	if _, trails := lookupField(rest, "trailer"); trails && sized && !bodyless { // only chunks can be followed by trailers
		sized = false
		rest = dropFields(rest, "content-length")
	}
	for _, f := range rest {
		out = appendField(out, f.Name, f.Value)
	}
	switch {
	case sized || bodyless:
	case last:
		out = append(out, "content-length: 0\r\n"...)
	default:
		chunked = true
		out = append(out, "transfer-encoding: chunked\r\n"...)
	}
	_, _ = to.Write(append(out, "\r\n"...)) // a failure shows with the body, or is no matter
	return chunked
}

// body passes the response body on; a stream that breaks off leaves it visibly incomplete.
func (b *upBridge) body(chunked bool) {
	var out http1.Writer
	out.Reset(b.far, b.bulk)
	defer out.Release()
	_ = b.pipe.copyBody(b.st, &out, chunked)
}

// copyBody writes the body that comes on st to out, in chunks or as it is, with the trailers behind chunks. The error
// is that of a body that broke off; when out takes no more, who reads there is gone, and nobody needs to be told.
func (p *h2pipe) copyBody(st *http2.Stream, out *http1.Writer, chunked bool) error {
	for {
		b, end, err := p.next()
		if err != nil {
			return err
		}
		if len(b) > 0 {
			if err = writeChunk(out, b, chunked); err == nil {
				err = out.Flush()
			}
			st.Credit(len(b))
		}
		if err != nil {
			return nil
		}
		if end {
			break
		}
	}

	if chunked {
		out.Pending = append(out.Pending, "0\r\n"...)
		for _, f := range p.trailers() {
			out.Pending = appendField(out.Pending, f.Name, f.Value)
		}
		out.Pending = append(out.Pending, "\r\n"...)
		_ = out.Flush()
	}
	return nil
}

// writeChunk writes p as one chunk, or as it is.
func writeChunk(out *http1.Writer, p []byte, chunked bool) error {
	if !chunked {
		return out.Add(p)
	}
	var line [20]byte
	size := append(strconv.AppendInt(line[:0], int64(len(p)), 16), "\r\n"...)
	if err := out.Add(size); err != nil {
		return err
	}
	if err := out.Add(p); err != nil {
		return err
	}
	return out.Add([]byte("\r\n"))
}
