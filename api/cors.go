package api

import (
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	networking "istio.io/api/networking/v1alpha3"
)

var corsFields = fieldSet{
	"allowOrigins": nil, "allowMethods": nil, "allowHeaders": nil, "exposeHeaders": nil, "maxAge": nil,
	"allowCredentials": nil, "unmatchedPreflights": nil,
}

// validateCORS looks at CorsPolicy
// (https://istio.io/latest/docs/reference/config/networking/virtual-service/#CorsPolicy).
func validateCORS(p *problems, path string, r *networking.HTTPRoute) {
	c := r.CorsPolicy
	if c == nil {
		return
	}
	path += ".corsPolicy"
	if len(r.Route) == 0 && r.Delegate == nil {
		p.addf(path, "has no effect on an answer that the proxy gives itself; remove it, or give route")
	}

	if len(c.AllowOrigins) == 0 {
		p.addf(path+".allowOrigins", "is empty, so that no origin would be allowed; list them")
	}
	for i, o := range c.AllowOrigins {
		at := indexed(path+".allowOrigins", i)
		if o.GetMatchType() == nil {
			p.addf(at, "says nothing; give exact, prefix or regex")
			continue
		}
		if _, exact := o.MatchType.(*networking.StringMatch_Exact); exact && o.GetExact() == "" {
			p.addf(at+".exact", "is empty, which no origin is")
		}
		p.checkText(at, o)
	}

	p.checkTokens(path+".allowMethods", "method", c.AllowMethods)
	p.checkTokens(path+".allowHeaders", "header field", c.AllowHeaders)
	p.checkTokens(path+".exposeHeaders", "header field", c.ExposeHeaders)
	p.checkDuration(path+".maxAge", c.MaxAge, 0)
	if age := c.MaxAge.AsDuration(); age%time.Second != 0 {
		p.addf(path+".maxAge", "%v is told in whole seconds (Access-Control-Max-Age)", age)
	}
}

// checkTokens notes what is no name in a list that becomes one header field; * stands for
// all of them.
func (p *problems) checkTokens(path, what string, names []string) {
	for i, name := range names {
		if !httpguts.ValidHeaderFieldName(name) || strings.Contains(name, "*") && name != "*" {
			p.addf(indexed(path, i), "%q is no %s", name, what)
		}
	}
}
