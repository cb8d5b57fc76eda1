package access

import (
	"net/netip"
	"strings"
)

// Fields are the header fields of a request, as far as the application gets them.
type Fields interface {
	// Field returns field i, in any case of its name, and whether there are as many.
	// One that is not passed on has an empty name.
	Field(i int) (name, value string, more bool)
}

// Request is what is known of a request. Path and Authority are those that are sent on.
type Request struct {
	Method, Scheme, Authority string
	Path                      string // with its query
	Fields                    Fields
	// ClientCert is the field x-forwarded-client-cert as it is sent on, "" for none; what
	// Fields says of it does not count.
	ClientCert string
	// KeepCert tells that the field is sent on as it came.
	KeepCert bool
	// TrustPeer tells that the peer's address counts, and not what it says of callers
	// before it.
	TrustPeer bool
	// Claims are those of a verified token; nil: the request has none.
	Claims map[string]any

	peer       netip.Addr
	sent, read string // see readPath
	odd        bool   // they differ
}

const (
	clientCert     = "x-forwarded-client-cert"
	forwardedFor   = "x-forwarded-for"
	forwardedProto = "x-forwarded-proto"
)

// part is a part of the request that stands beside its header fields; Envoy knows it by
// the name of a pseudo field.
type part uint8

const (
	none part = iota
	method
	authority
	scheme
	path
)

func partOf(name string) part {
	switch name {
	case ":method":
		return method
	case ":authority", "host":
		return authority
	case ":scheme":
		return scheme
	case ":path":
		return path
	}
	return none
}

// part returns a part of the request, "" where there is none.
func (r *Request) part(p part) string {
	switch p {
	case method:
		return r.Method
	case authority:
		return r.Authority
	case scheme:
		return r.Scheme
	}
	return r.Path
}

// next is Fields without what the proxy says itself.
func (r *Request) next(i int) (name, value string, more bool) {
	if r.Fields == nil {
		return "", "", false
	}
	name, value, more = r.Fields.Field(i)
	if same, _ := sameField(name, clientCert); same && !r.KeepCert {
		name = ""
	}
	return name, value, more
}

// own is a field that the proxy sets, or adds where it is missing.
func (r *Request) own(name string) (value string, has bool) {
	switch name {
	case clientCert:
		return r.ClientCert, r.ClientCert != ""
	case forwardedProto:
		return r.Scheme, r.Scheme != ""
	}
	return "", false
}

// remote is the caller's address, as the last hop before the proxy tells it.
func (r *Request) remote() netip.Addr {
	hops := ""
	for i := 0; !r.TrustPeer; i++ {
		name, value, more := r.next(i)
		if !more {
			break
		}
		if same, alias := sameField(name, forwardedFor); same && !alias {
			hops = value
		}
	}
	last := strings.TrimSpace(hops[strings.LastIndexByte(hops, ',')+1:])
	if a, err := netip.ParseAddr(last); err == nil {
		return a.Unmap()
	}
	return r.peer.Unmap()
}

// readPath finds the path as it is sent on, without its query, and as an application may
// read it that decodes slashes, cuts parameters off segments, and leaves empty segments
// out.
func (r *Request) readPath() {
	r.sent, _, _ = strings.Cut(r.Path, "?")
	if r.read, r.odd = r.sent, false; ambiguous(r.sent) {
		r.read = reading(r.sent)
		r.odd = r.read != r.sent
	}
}

// ambiguous tells whether applications may read a path in different ways.
func ambiguous(path string) bool {
	slash := false
	for i := range len(path) {
		switch c := path[i]; c {
		case ';', '\\':
			return true
		case '/':
			if slash {
				return true
			}
			slash = true
			continue
		case '.': // of a dot segment, where the proxy leaves them
			if slash {
				return true
			}
		case '%':
			if escapes(path[i:]) != "" {
				return true
			}
		}
		slash = false
	}
	return false
}

// escapes returns what an escape at the beginning of s stands for, if that makes a
// difference for where a path leads: a slash of either kind, a dot, or another escape.
func escapes(s string) string {
	if len(s) < 3 {
		return ""
	}
	switch strings.ToLower(s[1:3]) {
	case "2f", "5c":
		return "/"
	case "2e":
		return "."
	case "25":
		return "%"
	}
	return ""
}

// maxDecodings bounds how often a path is decoded that was encoded more than once.
const maxDecodings = 4

// reading resolves everything that an application may resolve in a path.
func reading(path string) string {
	for range maxDecodings {
		decoded := decodeEscapes(path)
		if decoded == path {
			break
		}
		path = decoded
	}

	var kept []string
	segments := strings.Split(strings.ReplaceAll(path, `\`, "/"), "/")
	for i, s := range segments {
		s, _, _ = strings.Cut(s, ";")
		switch {
		case s == "..":
			kept = kept[:max(0, len(kept)-1)]
		case s == "." || s == "" && i < len(segments)-1:
		default:
			kept = append(kept, s)
			continue
		}
		if i == len(segments)-1 {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

func decodeEscapes(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' {
			if text := escapes(path[i:]); text != "" {
				b.WriteString(text)
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}
