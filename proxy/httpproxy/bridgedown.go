package httpproxy

import (
	"net"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// bridge hands a request that came by HTTP/2 to the HTTP/1 side, as the only request of a connection of its own.
// It is called with the lock held.
func (p *pair) bridge() {
	near, far := net.Pipe()
	p.pipe = newH2pipe(true)
	p.pipe.onReset = func() { _ = far.Close() }
	if p.end {
		p.pipe.data(nil, true)
	}
	s := newSession(p.srv.h, near, p.srv.info)
	s.bridged = true
	go func() {
		s.serve()
		s.end()
		_ = near.Close()
	}()
	head := p.requestHead()
	chunked := p.req.length < 0 && !p.end
	go p.bridgeRequest(far, head, chunked)
	go p.bridgeResponse(far)
}

// requestHead translates the head of the request.
func (p *pair) requestHead() []byte {
	r := &p.req
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
	if r.length < 0 && !p.end {
		out = append(out, "transfer-encoding: chunked\r\n"...)
	}
	return append(out, "\r\n"...)
}

// bridgeRequest writes the request to the HTTP/1 side.
func (p *pair) bridgeRequest(far net.Conn, head []byte, chunked bool) {
	out := outbuf{dst: far, pool: p.down.c.bulk, pending: head}
	defer out.release()
	defer p.pipe.leave(p.down)
	for {
		if out.flush() != nil {
			return
		}
		b, end, err := p.pipe.next()
		if err != nil {
			_ = far.Close()
			return
		}
		if len(b) > 0 {
			if err = writeChunk(&out, b, chunked); err == nil {
				err = out.flush()
			}
			p.down.credit(len(b))
		}
		if err != nil {
			return
		}
		if !end {
			continue
		}
		if chunked {
			out.pending = append(out.pending, "0\r\n"...)
			for _, f := range p.pipe.trailers() {
				out.pending = appendField(out.pending, f.Name, f.Value)
			}
			out.pending = append(out.pending, "\r\n"...)
			_ = out.flush()
		}
		return
	}
}

// bridgeResponse reads the response from the HTTP/1 side and sends it on the stream.
func (p *pair) bridgeResponse(far net.Conn) {
	defer p.endBridge(far)
	in := inbuf{src: far}
	var h head
	for {
		raw, err := in.readHead(nil)
		if err == nil {
			err = h.parseResponse(raw, p.call.headOnly)
		}
		if err != nil {
			p.down.reset(http2.ErrCodeInternal)
			return
		}
		in.discard(len(raw))
		fields := appendLower([]hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(h.status)}}, &h)
		if h.status < 200 {
			p.down.sendHeaders(fields, false)
			continue
		}
		p.down.sendHeaders(fields, h.framing.kind == bodyNone)
		if h.framing.kind != bodyNone {
			if sendBody(p.down, &in, h.framing) != nil {
				p.down.reset(http2.ErrCodeInternal)
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
