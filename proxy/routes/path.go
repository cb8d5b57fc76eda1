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
	if !hcm.NormalizePath && !hcm.MergeSlashes && !hcm.UnescapeSlashes || !strings.HasPrefix(path, "/") {
		return path
	}
	p, query, hasQuery := strings.Cut(path, "?")
	odd := strings.IndexByte(p, '%') >= 0 || strings.IndexByte(p, '\\') >= 0
	dots := hcm.NormalizePath && (odd || strings.Contains(p, "/."))
	slashes := hcm.MergeSlashes && (odd || strings.Contains(p, "//"))
	if !dots && !slashes && !(hcm.UnescapeSlashes && odd) {
		return path
	}
	if hcm.UnescapeSlashes {
		p = unescapeSlashes.Replace(p)
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

// unescapeSlashes decodes what stands for slashes of either kind.
var unescapeSlashes = strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`)

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

// Rewrite returns the path to ask the endpoint for. Its query stays as it is.
func (r *Route) Rewrite(path string) string {
	a := r.Action
	if a == nil || a.PrefixRewrite == "" && a.RegexRewrite == nil {
		return path
	}

	path, query, has := strings.Cut(path, "?")
	if x := a.RegexRewrite; x != nil {
		path = x.Pattern.ReplaceAllString(path, x.Substitution)
	} else {
		path = swapPrefix(&r.Match, path, a.PrefixRewrite)
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // no request can be made without
	}
	if has {
		path += "?" + query
	}
	return path
}

// swapPrefix puts another text in the place of the prefix that matched; of a path that matched as a whole, in the place
// of all of it.
func swapPrefix(m *config.RouteMatch, path, with string) string {
	switch {
	case m.SeparatedPrefix != "":
		return with + path[len(m.SeparatedPrefix):]
	case m.Prefix != "":
		return with + path[len(m.Prefix):]
	}
	return with
}

// withoutDefaultPort drops a port that a scheme has by itself: with another scheme it would be the wrong one.
func withoutDefaultPort(authority, scheme string) string {
	port := ":80"
	if scheme == "https" {
		port = ":443"
	}
	return strings.TrimSuffix(authority, port)
}

// RedirectTo returns the Location of the route's redirect. scheme is that of the request.
func (r *Route) RedirectTo(q *Target, scheme string) string {
	d, was := r.Redirect, scheme

	switch {
	case d.Scheme != "":
		scheme = d.Scheme
	case d.HTTPS:
		scheme = "https"
	}

	host := q.Authority
	if d.Host != "" {
		host = d.Host
	} else if scheme != was {
		host = withoutDefaultPort(host, was)
	}
	if d.Port != 0 {
		host = net.JoinHostPort(strings.Trim(WithoutPort(host), "[]"), strconv.Itoa(int(d.Port)))
	}

	path, query, has := strings.Cut(q.Path, "?")
	switch {
	case d.Path != "":
		path = d.Path
	case d.Prefix != "":
		path = swapPrefix(&r.Match, path, d.Prefix)
	}
	if has && !d.Strip {
		path += "?" + query
	}
	return scheme + "://" + host + path
}
