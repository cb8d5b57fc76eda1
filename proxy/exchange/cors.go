package exchange

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

// Names of header fields (https://fetch.spec.whatwg.org/#http-requests, #http-responses).
const (
	allowOrigin      = "access-control-allow-origin"
	allowCredentials = "access-control-allow-credentials"
	exposeHeaders    = "access-control-expose-headers"
)

// crossOrigin answers preflights to which the route has an answer, and remembers the origin of other requests whose
// answers say that it is allowed. As in Envoy, nothing is refused: it is the browser that heeds what is said.
func (x *Exchange) crossOrigin(c *config.CORS, q *routes.Target) (Verdict, bool) {
	origin, _ := q.Header("origin")
	if origin == "" {
		return Verdict{}, false
	}
	allowed := c.Allows(origin)
	if allowed {
		x.origin = strings.Clone(origin)
	}

	asked, _ := q.Header("access-control-request-method")
	if q.Method != "OPTIONS" || asked == "" || !allowed && c.ForwardOthers {
		return Verdict{}, false
	}
	return reply(&Answer{Status: 200, Fields: preflightFields(c, q, asked, allowed), Preflight: true}), true
}

// preflightFields are what the answer to a preflight says beside the origin; to one that is not allowed, nothing.
func preflightFields(c *config.CORS, q *routes.Target, method string, allowed bool) []Field {
	if !allowed {
		return nil
	}
	var out []Field
	add := func(name, value string) {
		if value != "" {
			out = append(out, Field{name, strings.Clone(value)})
		}
	}

	methods, headers := c.Methods, c.Headers
	if methods == "*" {
		methods = method
	}
	if headers == "*" {
		headers, _ = q.Header("access-control-request-headers")
	}
	add("access-control-allow-methods", methods)
	add("access-control-allow-headers", headers)
	add("access-control-max-age", c.MaxAge)
	return out
}

// originFields are what every answer says to an origin that is allowed. Vary keeps caches from giving the answer for
// one origin to another (Fetch section 3.3.5); Envoy leaves that to applications.
func (x *Exchange) originFields(preflight bool) []Field {
	c := x.Route.CORS
	out := []Field{{allowOrigin, x.origin}, {"vary", "Origin"}}
	if c.Credentials {
		out = append(out, Field{allowCredentials, "true"})
	}
	if c.Exposed != "" && !preflight {
		out = append(out, Field{exposeHeaders, c.Exposed})
	}
	return out
}

// allowOriginIn tells the caller of an answer that is passed on that its origin is allowed.
func (x *Exchange) allowOriginIn(f Fields) {
	for _, field := range x.originFields(false) {
		if field.Name != "vary" {
			f.Drop(field.Name)
		} else if varies, _ := f.Joined("vary", ","); hasToken(varies, "origin") || hasToken(varies, "*") {
			continue
		}
		f.Add(field.Name, field.Value)
	}
}

// hasToken tells whether a list has an element, in whatever case.
func hasToken(list, token string) bool {
	for element := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(element), token) {
			return true
		}
	}
	return false
}
