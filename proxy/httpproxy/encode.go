package httpproxy

import (
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// encodeRequest writes the head for the endpoint into s.scratch: the fields as they came, less what ends at this
// hop, plus what the proxy says itself.
func (s *session) encodeRequest(q *target) {
	h := &s.req
	r := s.call.route
	for _, name := range r.dropRequest {
		dropNamed(h, name)
	}
	host := s.hostFor(q)
	if host != "" {
		h.dropID(fieldHost)
	}
	xfcc := s.clientCert()
	edits := editsOf(h, r.request)
	forwarded := s.forwardedProto()
	xff := ""
	h.dropID(fieldEnvoyInternal)
	if s.h.hcm.UseRemoteAddress {
		xff = joinValues(h.all(fieldForwardedFor), s.info.Peer.Addr().String())
		h.dropID(fieldForwardedFor)
		h.dropID(fieldEnvoy)
	}

	out := append(s.scratch[:0], h.method...)
	out = append(out, ' ')
	out = append(out, s.pathFor(q)...)
	out = append(out, " HTTP/1.1\r\n"...)
	out = appendField(out, "host", host)
	out = h.appendFields(out)
	out = append(out, edits...)
	out = appendField(out, "x-forwarded-client-cert", xfcc)
	out = appendField(out, "x-forwarded-for", xff)
	out = appendField(out, "x-forwarded-proto", forwarded)
	if s.h.hcm.GenerateRequestID && !h.has(fieldRequestID) {
		out = append(out, "x-request-id: "...)
		out = appendRequestID(out)
		out = append(out, "\r\n"...)
	}
	switch {
	case s.call.upgrade != "":
		out = append(out, "connection: Upgrade\r\n"...)
		out = appendField(out, "upgrade", view(h.get(fieldUpgrade)))
	case h.trailersOK:
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
func (s *session) hostFor(q *target) string {
	a := s.call.route.Action
	switch {
	case a.HostRewrite != "":
		return a.HostRewrite
	case a.AutoHost && s.call.ep.Hostname() != "":
		return s.call.ep.Hostname()
	case q.authority != view(s.req.get(fieldHost)):
		return q.authority
	}
	return ""
}

// pathFor returns the request target. An absolute one stays so on its way out to where the caller sent it itself,
// which may be a proxy; the application of this pod is asked as an origin server (RFC 9112 section 3.2.1).
func (s *session) pathFor(q *target) string {
	if s.req.target[0] != '/' && s.info.Direction != config.DirectionInbound && s.call.cluster.Config().Type == config.ClusterOriginalDst {
		return view(s.req.target)
	}
	return s.call.route.rewrite(q.path)
}

// clientCert drops or keeps x-forwarded-client-cert and returns the value to add.
func (s *session) clientCert() string {
	c := &s.cert
	if !c.keep {
		s.req.dropID(fieldXFCC)
		return c.element
	}
	if c.element == "" || !s.req.has(fieldXFCC) {
		return c.element
	}
	var all []string
	for i := range s.req.fields {
		if f := &s.req.fields[i]; f.id == fieldXFCC {
			all = append(all, string(s.req.value(f)))
		}
	}
	s.req.dropID(fieldXFCC)
	return strings.Join(append(all, c.element), ",")
}

// forwardedProto returns the x-forwarded-proto to add. At the edge the caller's word does not count.
func (s *session) forwardedProto() string {
	if s.h.hcm.UseRemoteAddress {
		s.req.dropID(fieldForwardedProto)
	} else if s.req.has(fieldForwardedProto) {
		return ""
	}
	if s.info.TLS != nil {
		return "https"
	}
	return "http"
}

func joinValues(have, add string) string {
	if have == "" {
		return add
	}
	return have + ", " + add
}

// splitAbsolute splits an absolute-form target into authority and path; the path is empty when the target has neither
// path nor query.
func splitAbsolute(t string) (authority, path string, err error) {
	scheme, rest, ok := strings.Cut(t, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", "", badRequest("the request target is neither a path nor an http URL")
	}
	authority = rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
		if path[0] == '?' {
			path = "/" + path
		}
	}
	if authority == "" || !isAuthority([]byte(authority)) {
		return "", "", badRequest("the authority of the request target is empty or malformed")
	}
	return authority, path, nil
}

func dropNamed(h *head, lower string) {
	for i := range h.fields {
		switch f := &h.fields[i]; f.id {
		case fieldHost, fieldContentLength, fieldTransferEncoding:
		default:
			if equalLower(h.name(f), lower) {
				f.drop = true
			}
		}
	}
}

// editsOf applies header edits: it drops what is replaced and returns the lines to add.
func editsOf(h *head, edits []config.HeaderEdit) []byte {
	var out []byte
	for i := range edits {
		e := &edits[i]
		name := strings.ToLower(e.Name)
		if e.IfAbsent {
			if _, has := h.lookup(name); has {
				continue
			}
		}
		if !e.Append {
			dropNamed(h, name)
		}
		out = appendField(out, e.Name, e.Value)
	}
	return out
}

// interim passes a 1xx response on. The body of the request may follow only after it.
func (s *session) interim(h *head) {
	if s.call.http10 {
		return
	}
	out := appendStatus(s.out.pending, h)
	out = h.appendFields(out)
	s.out.pending = append(out, "\r\n"...)
	_ = s.out.flush() // a caller that is gone is noticed with the final response
}

func appendStatus(out []byte, h *head) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(h.status), 10)
	out = append(out, ' ')
	out = append(out, h.reason...)
	return append(out, "\r\n"...)
}

// encodeResponse writes the head of a final response into s.out and decides the framing of its body.
func (s *session) encodeResponse(h *head) {
	c := &s.call
	chunk := false
	switch {
	case h.status == 204:
		h.dropID(fieldContentLength)
		h.dropID(fieldTransferEncoding)
	case h.framing.kind == bodyUntilClose && !c.http10:
		chunk = true
	case h.framing.kind == bodyUntilClose:
		c.keep = false
	case h.framing.kind == bodyChunked && c.http10:
		h.dropID(fieldTransferEncoding)
		s.down.dechunk = true
		c.keep = false
	}
	server := s.h.hcm.ServerName
	if s.h.hcm.ServerPassThrough && h.has(fieldServer) {
		server = ""
	}
	if server != "" {
		h.dropID(fieldServer)
	}
	h.dropID(fieldFailed)
	var edits []byte
	if r := c.route; len(r.response)+len(r.dropResponse) > 0 {
		for _, name := range r.dropResponse {
			dropNamed(h, name)
		}
		edits = editsOf(h, r.response)
	}
	out := appendStatus(s.out.pending, h)
	out = h.appendFields(out)
	out = append(out, edits...)
	out = appendField(out, "server", server)
	if chunk {
		s.down.rechunk = true
		out = append(out, "transfer-encoding: chunked\r\n"...)
	}
	out = s.appendConnection(out)
	s.out.pending = append(out, "\r\n"...)
}

func parseGRPCStatus(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > 999 {
		return -1
	}
	return n
}
