package httpproxy

import (
	"net/http"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
)

// replyRest answers a request whose body was not read: a small one that already lies in the buffer is skipped, any
// other ends the connection.
func (s *session) replyRest(a *exchange.Answer) {
	switch b := s.req.Framing; {
	case b.Kind == http1.BodyNone:
	case b.Kind == http1.BodyLength && b.Length <= int64(len(s.in.Buffered())):
		s.in.Discard(int(b.Length))
		s.call.Outcome.Received = b.Length
	default:
		s.keep = false
		s.unread = true
	}
	s.reply(a)
}

// reply sends an answer of the proxy itself.
func (s *session) reply(a *exchange.Answer) {
	local := s.call.Local(a, s.h.hcm.ServerName, time.Now())
	out := append(s.out.Pending, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(local.Status), 10)
	out = append(out, ' ')
	out = append(out, http.StatusText(local.Status)...)
	out = append(out, "\r\n"...)
	for _, f := range local.Fields {
		out = appendField(out, f.Name, f.Value)
	}
	out = s.appendConnection(out)
	out = append(out, "\r\n"...)
	if !s.call.headOnly {
		out = append(out, local.Body...)
		s.call.Outcome.Sent = int64(len(local.Body))
	}
	s.out.Pending = out
	if s.out.Flush() != nil {
		s.keep = false
	}
}

// appendConnection says whether the connection goes on.
func (s *session) appendConnection(out []byte) []byte {
	switch {
	case !s.keep:
		return append(out, "connection: close\r\n"...)
	case s.http10:
		return append(out, "connection: keep-alive\r\n"...)
	}
	return out
}

// linger ends the connection so that an answer reaches a peer that is still sending: a plain close would reset
// the connection and destroy what is under way to it (RFC 9112 section 9.6).
func (s *session) linger() {
	if !s.unread {
		return
	}
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
	buf := s.h.server.bulk.Get()
	defer s.h.server.bulk.Put(buf)
	for range 64 { // 4 MiB at most
		if _, err := s.conn.Read(buf[:]); err != nil {
			return
		}
	}
}
