package httpproxy

import (
	"net"
	"strconv"
	"time"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/http1"
)

// bridgeLocked hands a request that came by HTTP/2 to the HTTP/1 side, as the only request of a connection of its own.
func (p *pair) bridgeLocked() {
	near, far := net.Pipe()
	bare := p.bareLocked()
	p.pipe = newH2pipe(true)
	p.pipe.onReset = func() { _ = far.Close() }
	// What came while a fault held the request up is given room for again when it is read.
	p.pipe.Data(p.replay, p.end && p.trailers == nil)
	if p.trailers != nil {
		p.pipe.Headers(p.trailers, true)
	}
	p.replay, p.waiting = nil, 0

	s := newSession(p.srv.h, near, p.srv.info)
	s.bridged = true
	if p.call.onward != p.call.start {
		s.began = p.call.start
	}
	go func() {
		s.serve()
		s.end()
		_ = near.Close()
	}()

	chunked := p.req.length < 0 && !bare
	head := p.req.head(chunked)
	go p.bridgeRequest(far, head, chunked)
	go p.bridgeResponse(far)
}

// head translates the head of the request, for a body in chunks or any other.
func (r *h2request) head(chunked bool) []byte {
	out := []byte(r.method + " " + r.path + " HTTP/1.1\r\nhost: " + r.authority + "\r\nconnection: close")
	if r.trailersOK {
		out = append(out, ", te\r\nte: trailers"...)
	}
	out = append(out, "\r\n"...)
	cookies := ""
	for _, f := range r.fields {
		switch f.Name {
		case "te":
		case "cookie": // split for the sake of compression (RFC 9113 section 8.2.3)
			if cookies != "" {
				cookies += "; "
			}
			cookies += f.Value
		default:
			out = append(out, f.Name+": "+f.Value+"\r\n"...)
		}
	}
	out = appendField(out, "cookie", cookies)
	if chunked {
		out = append(out, "transfer-encoding: chunked\r\n"...)
	}
	return append(out, "\r\n"...)
}

// bridgeRequest writes the request to the HTTP/1 side.
func (p *pair) bridgeRequest(far net.Conn, head []byte, chunked bool) {
	var out http1.Writer
	out.Reset(far, &p.srv.h.server.bulk)
	out.Pending = head
	defer out.Release()
	defer p.pipe.leave(p.down)
	if out.Flush() != nil {
		return
	}
	if p.pipe.copyBody(p.down, &out, chunked) != nil {
		_ = far.Close()
	}
}

// bridgeResponse reads the response from the HTTP/1 side and sends it on the stream.
func (p *pair) bridgeResponse(far net.Conn) {
	defer p.endBridge(far)
	var in http1.Reader
	in.Reset(far)
	var h http1.Head
	for {
		raw, err := in.ReadHead(nil)
		if err == nil {
			err = h.ParseResponse(raw, p.call.headOnly)
		}
		if err != nil {
			p.down.Reset(nethttp2.ErrCodeInternal)
			return
		}
		in.Discard(len(raw))
		fields := appendLower([]hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(h.Status)}}, &h)
		if h.Status < 200 {
			p.down.SendHeaders(fields, false)
			continue
		}
		p.down.SendHeaders(fields, h.Framing.Kind == http1.BodyNone)
		if h.Framing.Kind != http1.BodyNone {
			if sendBody(p.down, &in, h.Framing, &p.srv.h.server.bulk) != nil {
				p.down.Reset(nethttp2.ErrCodeInternal)
			}
		}
		return
	}
}

// endBridge lets the HTTP/1 side finish before its connection goes: it must see its last write succeed.
func (p *pair) endBridge(far net.Conn) {
	_ = far.SetReadDeadline(time.Now().Add(time.Second))
	var b [64]byte
	for {
		if _, err := far.Read(b[:]); err != nil {
			break
		}
	}
	_ = far.Close()
	p.pipe.abort(net.ErrClosed)
}
