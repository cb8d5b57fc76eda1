package httpproxy

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
)

// h2request is a request as it came by HTTP/2. The framer has checked the syntax and the order of its fields.
type h2request struct {
	method, scheme, authority, path string
	fields                          []hpack.HeaderField // without pseudo fields and Host
	grpc                            bool
	trailersOK                      bool
	length                          int64 // -1 when not given
	expects                         bool
}

// parse checks what RFC 9113 section 8.3.1 asks of a request, and what a hop behind us could read differently.
func (r *h2request) parse(fields []hpack.HeaderField, st *http2.Stream, end bool) error {
	*r = h2request{length: -1}
	n := 0
	for n < len(fields) && fields[n].IsPseudo() {
		f := &fields[n]
		switch f.Name {
		case ":method":
			r.method = f.Value
		case ":scheme":
			r.scheme = f.Value
		case ":authority":
			r.authority = f.Value
		case ":path":
			r.path = f.Value
		default:
			return unfit("the pseudo field %.64q is not spoken here", f.Name)
		}
		n++
	}

	host, err := r.parseRegular(fields[n:])
	if err != nil {
		return err
	}
	if r.authority == "" {
		r.authority = host
	} else if host != "" && !strings.EqualFold(host, r.authority) {
		return unfit("the Host field differs from :authority")
	}

	if err := r.check(end); err != nil {
		return err
	}
	if r.length >= 0 {
		st.DeclareLength(r.length)
	}
	return nil
}

// parseRegular takes the fields behind the pseudo fields; those that are passed on stay where they lie. It returns
// the Host field, which stands for a missing :authority.
func (r *h2request) parseRegular(fields []hpack.HeaderField) (host string, err error) {
	r.fields = fields[:0]
	for _, f := range fields {
		switch f.Name {
		case "host":
			if host != "" && host != f.Value {
				return "", unfit("the request has several Host fields")
			}
			host = f.Value
			continue
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
			return "", unfit("the field %q has no place in HTTP/2", f.Name)
		case "te":
			if f.Value != "trailers" {
				return "", unfit("the field te may only say trailers in HTTP/2")
			}
			r.trailersOK = true
		case "content-length":
			if err := r.contentLength(f.Value); err != nil {
				return "", err
			}
		case "content-type":
			r.grpc = exchange.IsGRPC(f.Value)
		case "expect":
			r.expects = true
		}

		// An application may read X_Forwarded_For as X-Forwarded-For, which is the proxy's to write.
		if http1.IsAlias(f.Name) {
			continue
		}
		r.fields = append(r.fields, f)
	}
	return host, nil
}

func (r *h2request) contentLength(v string) error {
	if r.length >= 0 {
		return unfit("the request has more than one Content-Length field")
	}
	n, err := strconv.ParseUint(v, 10, 62)
	if err != nil || v[0] == '+' {
		return unfit("the Content-Length is not a plain number")
	}
	r.length = int64(n)
	return nil
}

func (r *h2request) check(end bool) error {
	switch {
	case !http1.IsToken([]byte(r.method)):
		return unfit("the request has no valid method")
	case r.method == "CONNECT":
		return &requestError{405, "CONNECT is not forwarded on a port whose protocol is HTTP; name the port tcp"}
	case r.scheme != "http" && r.scheme != "https":
		return unfit("the scheme is neither http nor https")
	case r.path == "" || !http1.IsTarget([]byte(r.path)):
		return unfit("the path is empty or holds a forbidden character")
	case r.path[0] != '/' && (r.path != "*" || r.method != "OPTIONS"):
		return unfit("the path does not begin with a slash")
	case !http1.IsAuthority([]byte(r.authority)):
		return unfit("the authority holds a forbidden character")
	case end && r.length > 0:
		return unfit("the request has a Content-Length and no body")
	}
	return nil
}

// lookup returns the first field of a name.
func (r *h2request) lookup(lower string) (string, bool) { return lookupField(r.fields, lower) }

// joined returns all fields of a name as one list.
func (r *h2request) joined(lower string) (string, bool) {
	return (*fieldList)(&r.fields).Joined(lower, ",")
}

func lookupField(fields []hpack.HeaderField, lower string) (string, bool) {
	for i := range fields {
		if fields[i].Name == lower {
			return fields[i].Value, true
		}
	}
	return "", false
}

// dropEnvoy removes, in place, what callers may not tell the application in Envoy's name; see http1.EnvoyField.
func dropEnvoy(fields []hpack.HeaderField, edge bool) []hpack.HeaderField {
	kept := fields[:0]
	for _, f := range fields {
		id := http1.OtherField
		if strings.HasPrefix(f.Name, "x-envoy-") {
			id = http1.EnvoyField([]byte(f.Name))
		}
		if id == http1.OtherField || id == http1.FieldEnvoy && !edge {
			kept = append(kept, f)
		}
	}
	return kept
}

// dropFields removes the fields of a name, in place.
func dropFields(fields []hpack.HeaderField, lower string) []hpack.HeaderField {
	kept := fields[:0]
	for _, f := range fields {
		if f.Name != lower {
			kept = append(kept, f)
		}
	}
	return kept
}
