package httpproxy

import (
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

// encodeRequest writes the head for the endpoint into s.scratch: the fields as they came, less what ends at this
// hop, plus what the proxy says itself.
func (s *session) encodeRequest(q *routes.Target) {
	h := &s.req
	host := s.hostFor(q)
	if host != "" {
		h.Drop(http1.FieldHost)
	}
	fields := &s.fields // of the request since it was begun (forward)
	exchange.EditRequest(fields, s.call.Route, s.h.hcm, &s.edge)

	out := append(s.scratch[:0], h.Method...)
	out = append(out, ' ')
	out = append(out, s.pathFor(q)...)
	out = append(out, " HTTP/1.1\r\n"...)
	out = appendField(out, "host", host)
	out = fields.append(out)
	switch {
	case s.upgrade != "":
		out = append(out, "connection: Upgrade\r\n"...)
		out = appendField(out, "upgrade", http1.View(h.Get(http1.FieldUpgrade)))
	case h.TrailersOK:
		out = append(out, "connection: TE\r\nte: trailers\r\n"...)
	}
	s.scratch = append(out, "\r\n"...)
}

func appendField(out []byte, name, value string) []byte {
	if value == "" {
		return out
	}
	out = append(out, name...)
	out = append(out, ": "...)
	out = append(out, value...)
	return append(out, "\r\n"...)
}

// hostFor returns the Host to send when it is not the one that came.
func (s *session) hostFor(q *routes.Target) string {
	a := s.call.Route.Action
	switch {
	case a.HostRewrite != "":
		return a.HostRewrite
	case a.AutoHost && s.call.ep.Hostname() != "":
		return s.call.ep.Hostname()
	case q.Authority != http1.View(s.req.Get(http1.FieldHost)):
		return q.Authority
	}
	return ""
}

// pathFor returns the request target. An absolute one stays so on its way out to where the caller sent it itself,
// which may be a proxy; the application of this pod is asked as an origin server (RFC 9112 section 3.2.1).
func (s *session) pathFor(q *routes.Target) string {
	if s.req.Target[0] != '/' && s.info.Direction != config.DirectionInbound && s.call.cluster.Config().Type == config.ClusterOriginalDst {
		return http1.View(s.req.Target)
	}
	return s.call.Route.Rewrite(q.Path)
}

// splitAbsolute splits an absolute-form target into authority and path; the path is empty when the target has neither
// path nor query.
func splitAbsolute(t string) (authority, path string, err error) {
	scheme, rest, ok := strings.Cut(t, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", "", unfit("the request target is neither a path nor an http URL")
	}
	authority = rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
		if path[0] == '?' {
			path = "/" + path
		}
	}
	if authority == "" || !http1.IsAuthority([]byte(authority)) {
		return "", "", unfit("the authority of the request target is empty or malformed")
	}
	return authority, path, nil
}

// interim passes a 1xx response on. The body of the request may follow only after it.
func (s *session) interim(h *http1.Head) {
	if s.http10 {
		return
	}
	out := appendStatus(s.out.Pending, h)
	out = h.AppendFields(out)
	s.out.Pending = append(out, "\r\n"...)
	_ = s.out.Flush() // a caller that is gone is noticed with the final response
}

func appendStatus(out []byte, h *http1.Head) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(h.Status), 10)
	out = append(out, ' ')
	out = append(out, h.Reason...)
	return append(out, "\r\n"...)
}

// encodeResponse writes the head of a final answer into s.out and decides the framing of its body.
func (s *session) encodeResponse(h *http1.Head) {
	chunk := false
	switch {
	case h.Status == 204:
		h.Drop(http1.FieldContentLength)
		h.Drop(http1.FieldTransferEncoding)
	case h.Framing.Kind == http1.BodyUntilClose && !s.http10:
		chunk = true
	case h.Framing.Kind == http1.BodyUntilClose:
		s.keep = false
	case h.Framing.Kind == http1.BodyChunked && s.http10:
		h.Drop(http1.FieldTransferEncoding)
		s.down.Dechunk = true
		s.keep = false
	}

	fields := s.fields.of(h)
	exchange.EditResponse(fields, &s.call.Exchange, s.h.hcm)
	out := appendStatus(s.out.Pending, h)
	out = fields.append(out)
	if chunk {
		s.down.Rechunk = true
		out = append(out, "transfer-encoding: chunked\r\n"...)
	}
	out = s.appendConnection(out)
	s.out.Pending = append(out, "\r\n"...)
}
