package routes

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// matches reports whether a request satisfies all parts of a condition. path and query are those of q.
func matches(m *config.RouteMatch, q *Target, path, query string) bool {
	if m.GRPC && !q.GRPC {
		return false
	}

	switch {
	case m.Regex != nil:
		if !m.Regex.MatchString(path) {
			return false
		}
	case m.Path != "":
		if !equalPath(path, m.Path, m.IgnoreCase) {
			return false
		}
	case m.SeparatedPrefix != "":
		n := len(m.SeparatedPrefix)
		if !hasPrefix(path, m.SeparatedPrefix, m.IgnoreCase) || len(path) > n && path[n] != '/' {
			return false
		}
	case m.Prefix != "" && m.Prefix != "/":
		if !hasPrefix(path, m.Prefix, m.IgnoreCase) {
			return false
		}
	}

	for i := range m.Headers {
		if !matchHeader(&m.Headers[i], q) {
			return false
		}
	}
	for i := range m.Query {
		if !matchQuery(&m.Query[i], query) {
			return false
		}
	}
	return true
}

func matchQuery(m *config.QueryMatch, query string) bool {
	value, ok := parameter(query, m.Name)
	return ok && (m.Present || m.Value.Match(value))
}

// parameter returns the first parameter of a query with the name, as it stands.
func parameter(query, name string) (value string, ok bool) {
	for query != "" {
		var one string
		one, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(one, "=")
		if key == name {
			return value, true
		}
	}
	return "", false
}

func equalPath(path, want string, ignoreCase bool) bool {
	return path == want || ignoreCase && strings.EqualFold(path, want)
}

func hasPrefix(path, prefix string, ignoreCase bool) bool {
	return len(path) >= len(prefix) && equalPath(path[:len(prefix)], prefix, ignoreCase)
}

// field returns a field of the request, or a part of it that has a name as one.
func (q *Target) field(name string) (string, bool) {
	switch name {
	case ":method":
		return q.Method, true
	case ":path":
		return q.Path, true
	case ":scheme":
		return q.Scheme, true
	case ":authority", "host":
		return q.Authority, true
	}
	return q.Header(name)
}

func matchHeader(m *config.HeaderMatch, q *Target) bool {
	value, ok := q.field(m.Name)
	var match bool
	switch {
	case m.Present:
		match = ok
	case !ok && !m.MissingIsEmpty:
		return false // as in Envoy, inverted or not
	default:
		match = m.Value.Match(value)
	}
	return match != m.Invert
}
