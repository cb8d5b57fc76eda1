package config

import (
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// CORS is envoy.extensions.filters.http.cors.v3.CorsPolicy, as a route gives it: which
// pages of other origins browsers let call (https://fetch.spec.whatwg.org/#http-cors-protocol).
type CORS struct {
	Origins []StringMatch
	// Methods, Headers, Exposed and MaxAge are values of header fields; empty: they are
	// not sent. "*" of the first two stands for what a preflight asks for.
	Methods, Headers, Exposed, MaxAge string
	Credentials                       bool
	// ForwardOthers passes preflights of origins that are not allowed on.
	ForwardOthers bool
}

// Allows tells whether pages of an origin may call.
func (c *CORS) Allows(origin string) bool {
	for i := range c.Origins {
		// As in Envoy, a condition that fits "*" fits all.
		if c.Origins[i].Match("*") || c.Origins[i].Match(origin) {
			return true
		}
	}
	return false
}

const (
	corsFilterName  = "envoy.filters.http.cors"
	corsMessage     = "envoy.extensions.filters.http.cors.v3.Cors"
	corsPolicyOfOne = "envoy.extensions.filters.http.cors.v3.CorsPolicy"
)

func decodeCORS(a at, body *anypb.Any) (*CORS, error) {
	p := &corsv3.CorsPolicy{}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}
	if err := a.only(p, "allow_origin_string_match", "allow_methods", "allow_headers", "expose_headers", "max_age",
		"allow_credentials", "filter_enabled", "forward_not_matching_preflights"); err != nil {
		return nil, err
	}
	if err := a.oneLine(textField{"allow_methods", p.GetAllowMethods()}, textField{"allow_headers", p.GetAllowHeaders()},
		textField{"expose_headers", p.GetExposeHeaders()}, textField{"max_age", p.GetMaxAge()}); err != nil {
		return nil, err
	}
	if p.GetFilterEnabled() != nil {
		ea := a.in("filter_enabled")
		if err := ea.only(p.GetFilterEnabled(), "default_value"); err != nil {
			return nil, err
		}
		share, err := ea.in("default_value").shareOf(p.GetFilterEnabled().GetDefaultValue())
		if err != nil {
			return nil, err
		}
		if share != Whole {
			return nil, ea.in("default_value").errorf("a part of the requests is not supported by this proxy")
		}
	}

	c := &CORS{
		Methods: p.GetAllowMethods(), Headers: p.GetAllowHeaders(), Exposed: p.GetExposeHeaders(), MaxAge: p.GetMaxAge(),
		Credentials:   p.GetAllowCredentials().GetValue(),
		ForwardOthers: p.GetForwardNotMatchingPreflights() == nil || p.GetForwardNotMatchingPreflights().GetValue(),
	}
	for i, o := range p.GetAllowOriginStringMatch() {
		m, err := decodeString(a.index("allow_origin_string_match", i), o)
		if err != nil {
			return nil, err
		}
		c.Origins = append(c.Origins, m)
	}
	return c, nil
}
