package httpproxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// bridgeUp lets the HTTP/1 side talk to an HTTP/2 endpoint: it returns a connection that takes one HTTP/1 request
// and brings its response, while the two travel on a stream of c.
func bridgeUp(c *h2conn) net.Conn {
	near, far := net.Pipe()
	b := &upBridge{c: c, far: far, pipe: newH2pipe(false)}
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
		if cause := c.bridge.st.cause(http2.ErrCodeNo); isBreach(cause) {
			err = cause
		}
	}
	return n, err
}

type upBridge struct {
	c    *h2conn
	far  net.Conn
	pipe *h2pipe
	st   *h2stream
	get  bool // not a HEAD request
	// refused says, once the bridge has ended, that the endpoint has not worked on the request (RFC 9113 section 8.7).
	refused atomic.Bool
}

// request reads the request and sends it; it ends with the near side.
func (b *upBridge) request() {
	in := inbuf{src: b.far}
	var h head
	raw, err := in.readHead(nil)
	if err == nil {
		err = h.parseRequest(raw)
	}
	if err != nil {
		_ = b.far.Close()
		return
	}
	in.discard(len(raw))
	b.get = string(h.method) != "HEAD"
	if b.st, err = b.c.open(requestFields(&h), h.framing.kind == bodyNone, b.pipe, nil, 0); err != nil {
		b.refused.Store(true)
		_ = b.far.Close()
		return
	}
	go b.response()
	if h.framing.kind != bodyNone {
		if err := sendBody(b.st, &in, h.framing); err != nil {
			b.st.reset(http2.ErrCodeCancel)
			b.pipe.abort(err)
			return
		}
	}
	_ = in.fill() // nothing more comes; this waits for the near side to be done
	b.st.reset(http2.ErrCodeCancel)
	b.pipe.abort(net.ErrClosed)
}

// requestFields translates a request head; hop-by-hop fields were marked when it was parsed.
func requestFields(h *head) []hpack.HeaderField {
	scheme := "http"
	if v := h.get(fieldForwardedProto); string(v) == "https" {
		scheme = "https"
	}
	out := make([]hpack.HeaderField, 0, len(h.fields)+5)
	out = append(out,
		hpack.HeaderField{Name: ":method", Value: string(h.method)},
		hpack.HeaderField{Name: ":scheme", Value: scheme},
		hpack.HeaderField{Name: ":authority", Value: string(h.get(fieldHost))},
		hpack.HeaderField{Name: ":path", Value: string(h.target)})
	out = appendLower(out, h)
	if h.trailersOK {
		out = append(out, hpack.HeaderField{Name: "te", Value: "trailers"})
	}
	return out
}

// appendLower appends the fields of an HTTP/1 head that have a place in HTTP/2.
func appendLower(out []hpack.HeaderField, h *head) []hpack.HeaderField {
	for i := range h.fields {
		f := &h.fields[i]
		if f.drop || f.id == fieldHost || f.id == fieldTransferEncoding {
			continue
		}
		out = append(out, hpack.HeaderField{Name: strings.ToLower(string(h.name(f))), Value: string(h.value(f))})
	}
	return out
}

// streamWriter writes to a stream and waits until it is sent.
type streamWriter struct{ st *h2stream }

func (w streamWriter) Write(p []byte) (int, error) {
	w.st.send(p, false)
	if !w.st.wait() {
		return 0, errors.New("the stream was reset")
	}
	return len(p), nil
}

// sendBody sends an HTTP/1 body and its trailers, and ends the stream.
func sendBody(st *h2stream, in *inbuf, body framing) error {
	r := relay{pool: st.c.bulk}
	out := outbuf{dst: streamWriter{st}, pool: st.c.bulk}
	defer out.release()
	r.reset(in, &out, body)
	r.dechunk = true
	if err := r.run(); err != nil {
		return err
	}
	if body.kind == bodyChunked {
		if t := appendLower(nil, &r.trailers); len(t) > 0 {
			st.sendTrailers(t)
			return nil
		}
	}
	st.send(nil, true)
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
			b.st.reset(http2.ErrCodeProtocol)
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
	out := outbuf{dst: b.far, pool: b.c.bulk}
	defer out.release()
	for {
		p, end, err := b.pipe.next()
		if err != nil {
			return
		}
		if len(p) > 0 {
			if err = writeChunk(&out, p, chunked); err == nil {
				err = out.flush()
			}
			b.st.credit(len(p))
		}
		if err != nil {
			return
		}
		if !end {
			continue
		}
		if chunked {
			out.pending = append(out.pending, "0\r\n"...)
			for _, f := range b.pipe.trailers() {
				out.pending = appendField(out.pending, f.Name, f.Value)
			}
			out.pending = append(out.pending, "\r\n"...)
			_ = out.flush()
		}
		return
	}
}

// writeChunk writes p as one chunk, or as it is.
func writeChunk(out *outbuf, p []byte, chunked bool) error {
	if !chunked {
		return out.write(p)
	}
	var line [20]byte
	size := append(strconv.AppendInt(line[:0], int64(len(p)), 16), "\r\n"...)
	if err := out.write(size); err != nil {
		return err
	}
	if err := out.write(p); err != nil {
		return err
	}
	return out.write([]byte("\r\n"))
}
