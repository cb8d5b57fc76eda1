package routes

import (
	"net"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// NormalizePath resolves dot segments and, as the configuration asks, empty ones, so that a path is routed as
// the application will read it. It allocates only when there is something to change.
func NormalizePath(hcm *config.HCM, path string) string {
	if !hcm.NormalizePath && !hcm.MergeSlashes || !strings.HasPrefix(path, "/") {
		return path
	}
	p, query, hasQuery := strings.Cut(path, "?")
	dots := hcm.NormalizePath && (strings.Contains(p, "/.") || strings.ContainsAny(p, `\%`))
	slashes := hcm.MergeSlashes && strings.Contains(p, "//")
	if !dots && !slashes {
		return path
	}
	if hcm.NormalizePath {
		p = removeDotSegments(decodeUnreserved(strings.ReplaceAll(p, `\`, "/")))
	}
	for hcm.MergeSlashes && strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	if hasQuery {
		return p + "?" + query
	}
	return p
}

// decodeUnreserved decodes percent-encoded unreserved characters (RFC 3986 section 6.2.2.2).
func decodeUnreserved(p string) string {
	if !strings.Contains(p, "%") {
		return p
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			c, err := strconv.ParseUint(p[i+1:i+3], 16, 8)
			if err == nil && Unreserved(byte(c)) {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// Unreserved reports whether a character means the same percent-encoded or not (RFC 3986 section 2.3).
func Unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// removeDotSegments follows RFC 3986 section 5.2.4 for absolute paths.
func removeDotSegments(p string) string {
	segments := strings.Split(p[1:], "/")
	out := make([]string, 0, len(segments))
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}

// Rewrite returns the path to ask the endpoint for.
func (r *Route) Rewrite(path string) string {
	a := r.Action
	if a == nil || a.PrefixRewrite == "" {
		return path
	}
	m := &r.Match
	switch {
	case m.Path != "":
		_, query, has := strings.Cut(path, "?")
		if has {
			return a.PrefixRewrite + "?" + query
		}
		return a.PrefixRewrite
	case m.SeparatedPrefix != "":
		return a.PrefixRewrite + path[len(m.SeparatedPrefix):]
	case m.Prefix != "":
		return a.PrefixRewrite + path[len(m.Prefix):]
	}
	return path
}

// RedirectTo returns the Location of the route's redirect. scheme is that of the request.
func (r *Route) RedirectTo(q *Target, scheme string) string {
	d := r.Redirect
	switch {
	case d.Scheme != "":
		scheme = d.Scheme
	case d.HTTPS:
		scheme = "https"
	}
	host := q.Authority
	if d.Host != "" {
		host = d.Host
	}
	if d.Port != 0 {
		host = net.JoinHostPort(strings.Trim(WithoutPort(host), "[]"), strconv.Itoa(int(d.Port)))
	}
	path, query, has := strings.Cut(q.Path, "?")
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
