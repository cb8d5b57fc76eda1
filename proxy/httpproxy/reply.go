package httpproxy

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// failure is an answer that the proxy makes itself.
type failure struct {
	status   int
	flag     telemetry.Flag
	body     string
	location string // for redirects
}

func noRoute(t *routeTable, q *target) *failure {
	if t == nil {
		return &failure{503, telemetry.FlagNoRoute, "the proxy has not received its routes yet; try again shortly", ""}
	}
	return &failure{404, telemetry.FlagNoRoute, fmt.Sprintf("no route of %q fits host %q and path %q", t.source.Name, q.authority, q.path), ""}
}

func noCluster(r *route, name string) *failure {
	status := r.Action.NotFoundStatus
	if status == 0 {
		status = 503
	}
	return &failure{status, telemetry.FlagNoCluster, fmt.Sprintf("cluster %q, to which the route leads, is not known", name), ""}
}

// upstreamFailure describes a call that did not reach an endpoint, or got no answer from it.
func upstreamFailure(c *upstream.Cluster, ep *upstream.Endpoint, err error) *failure {
	f := &failure{status: 503, flag: telemetry.FlagUpstreamFailure}
	at := ""
	if ep != nil {
		at = " at " + ep.Addr().String()
	}
	var pick *upstream.PickError
	var dial *upstream.DialError
	var syntax *parseError
	switch {
	case errors.As(err, &pick):
		f.flag = telemetry.FlagNoHealthyUpstream
		f.body = "no healthy upstream: " + err.Error()
	case errors.As(err, &dial):
		f.body = "upstream connect failure: " + err.Error()
	case errors.As(err, &syntax):
		f.status, f.flag = 502, telemetry.FlagUpstreamProtocol
		f.body = fmt.Sprintf("the upstream of cluster %q%s broke the protocol: %v", c.Name(), at, err)
	case errors.Is(err, errTimeout):
		f.status, f.flag = 504, telemetry.FlagUpstreamTimeout
		f.body = fmt.Sprintf("the upstream of cluster %q%s did not answer in time", c.Name(), at)
	default:
		f.flag = telemetry.FlagUpstreamTerminated
		f.body = fmt.Sprintf("the upstream of cluster %q%s ended the connection before it answered: %v", c.Name(), at, err)
	}
	return f
}

var errTimeout = errors.New("the time for the request is over")

// local returns the answer of a route that has no upstream, or nil.
func (r *route) local(info *downstream.Info, q *target) *failure {
	switch {
	case r.Direct != nil:
		return &failure{status: r.Direct.Status, body: r.Direct.Body}
	case r.Redirect != nil:
		return &failure{status: r.Redirect.Status, location: redirectTo(r, info, q)}
	}
	return nil
}

func redirectTo(r *route, info *downstream.Info, q *target) string {
	d := r.Redirect
	scheme := "http"
	if info.TLS != nil {
		scheme = "https"
	}
	switch {
	case d.Scheme != "":
		scheme = d.Scheme
	case d.HTTPS:
		scheme = "https"
	}
	host := q.authority
	if d.Host != "" {
		host = d.Host
	}
	if d.Port != 0 {
		host = net.JoinHostPort(strings.Trim(withoutPort(host), "[]"), strconv.Itoa(int(d.Port)))
	}
	path, query, has := strings.Cut(q.path, "?")
	switch {
	case d.Path != "":
		path = d.Path
	case d.Prefix != "":
		path = d.Prefix + strings.TrimPrefix(strings.TrimPrefix(path, r.Match.SeparatedPrefix), r.Match.Prefix)
	}
	if has && !d.Strip {
		path += "?" + query
	}
	return scheme + "://" + host + path
}

// replyRest answers a request whose body was not read: a small one that already lies in the buffer is skipped, any
// other ends the connection.
func (s *session) replyRest(status int, body string) {
	s.replyWith(&failure{status: status, flag: s.call.outcome.Flag, body: body})
}

func (s *session) replyWith(f *failure) {
	switch b := s.req.framing; {
	case b.kind == bodyNone:
	case b.kind == bodyLength && b.length <= int64(len(s.in.buffered())):
		s.in.discard(int(b.length))
		s.call.outcome.Received = b.length
	default:
		s.call.keep = false
		s.call.unread = true
	}
	s.call.outcome.Flag = f.flag
	s.replyHead(f.status, f.body, f.location)
}

// reply answers with a status and a line of plain text.
func (s *session) reply(status int, body string) { s.replyHead(status, body, "") }

func (s *session) replyHead(status int, body, location string) {
	c := &s.call
	out := s.out.pending
	if c.grpc {
		out = append(out, "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"...)
		out = append(out, "grpc-status: "+strconv.Itoa(grpcStatus(status))+"\r\ngrpc-message: "+grpcMessage(body)+"\r\n"...)
		c.outcome.GRPC = grpcStatus(status)
		status, body = 200, ""
	} else {
		out = append(out, "HTTP/1.1 "...)
		out = strconv.AppendInt(out, int64(status), 10)
		out = append(out, ' ')
		out = append(out, http.StatusText(status)...)
		out = append(out, "\r\ncontent-type: text/plain\r\n"...)
	}
	c.outcome.Code = status
	if location != "" {
		out = append(out, "location: "+location+"\r\n"...)
	}
	if status != 204 && status != 304 && status >= 200 {
		out = append(out, "content-length: "...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
		out = append(out, "\r\n"...)
	} else {
		body = ""
	}
	if name := s.h.hcm.ServerName; name != "" {
		out = append(out, "server: "+name+"\r\n"...)
	}
	out = appendField(out, fieldFailed.String(), c.failed)
	out = append(out, "date: "...)
	out = time.Now().UTC().AppendFormat(out, http.TimeFormat)
	out = append(out, "\r\n"...)
	out = s.appendConnection(out)
	out = append(out, "\r\n"...)
	if !c.headOnly {
		out = append(out, body...)
		c.outcome.Sent = int64(len(body))
	}
	s.out.pending = out
	if s.out.flush() != nil {
		c.keep = false
	}
}

// appendConnection says whether the connection goes on.
func (s *session) appendConnection(out []byte) []byte {
	switch {
	case !s.call.keep:
		return append(out, "connection: close\r\n"...)
	case s.call.http10:
		return append(out, "connection: keep-alive\r\n"...)
	}
	return out
}

// grpcStatus maps the status of an answer of the proxy itself
// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
func grpcStatus(status int) int {
	switch status {
	case 400:
		return 13 // INTERNAL
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED
	case 429, 502, 503, 504:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}

// grpcMessage percent-encodes a message (gRPC over HTTP/2, "Status-Message").
func grpcMessage(msg string) string {
	var b strings.Builder
	for i := range len(msg) {
		if c := msg[i]; c < 0x20 || c > 0x7e || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// linger ends the connection so that an answer reaches a peer that is still sending: a plain close would reset
// the connection and destroy what is under way to it (RFC 9112 section 9.6).
func (s *session) linger() {
	if !s.call.unread {
		return
	}
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
	buf := s.h.server.bulk.get()
	defer s.h.server.bulk.put(buf)
	for range 64 { // 4 MiB at most
		if _, err := s.conn.Read(buf[:]); err != nil {
			return
		}
	}
}
