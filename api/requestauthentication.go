package api

import (
	"strings"

	security "istio.io/api/security/v1beta1"

	"github.com/isthmus-mesh/isthmus/internal/jwks"
)

var requestAuthenticationFields = fieldSet{
	"selector": {"matchLabels": nil},
	"jwtRules": {
		"issuer": nil, "audiences": nil, "jwks": nil,
		"fromHeaders": {"name": nil, "prefix": nil}, "fromParams": nil, "fromCookies": nil,
		"forwardOriginalToken": nil, "outputPayloadToHeader": nil,
		"outputClaimToHeaders": {"header": nil, "claim": nil},
		"spaceDelimitedClaims": nil,
	},
}

func validateRequestAuthentication(p *problems, ra *security.RequestAuthentication) {
	p.checkLabels("spec.selector.matchLabels", ra.GetSelector().GetMatchLabels())
	for i, r := range ra.JwtRules {
		at := indexed("spec.jwtRules", i)
		if r.Issuer == "" {
			p.addf(at+".issuer", "is empty; give the text of the claim iss of the issuer's tokens")
		}
		p.checkTexts(at+".audiences", r.Audiences)
		p.checkKeys(at, r)
		p.checkTokenPlaces(at, r)
		p.checkTokenOutputs(at, r)
		p.checkTexts(at+".spaceDelimitedClaims", r.SpaceDelimitedClaims)
	}
}

// checkTexts notes texts of a list that are empty, or cannot stand where they are to.
func (p *problems) checkTexts(path string, list []string) {
	for i, text := range list {
		switch {
		case text == "":
			p.addf(indexed(path, i), "is empty")
		case strings.ContainsAny(text, "\r\n\x00"):
			p.addf(indexed(path, i), "%q holds a line end", text)
		}
	}
}

// checkKeys checks where the keys of a rule come from.
func (p *problems) checkKeys(at string, r *security.JWTRule) {
	switch {
	case r.Jwks != "":
		if _, err := jwks.Parse([]byte(r.Jwks)); err != nil {
			p.addf(at+".jwks", "%v", err)
		}
	case r.JwksUri == "": // else it is refused by itself
		p.addf(at+".jwks", "is empty; give the issuer's keys, a JSON Web Key Set: they are not fetched yet")
	}
}

func (p *problems) checkTokenPlaces(at string, r *security.JWTRule) {
	for i, h := range r.FromHeaders {
		place := indexed(at+".fromHeaders", i)
		if name := strings.ToLower(h.GetName()); !isFieldName(name) {
			p.addf(place+".name", "%q is no name of a header field", h.GetName())
		}
		if strings.ContainsAny(h.GetPrefix(), "\r\n\x00") {
			p.addf(place+".prefix", "%q holds a line end, which no request does", h.GetPrefix())
		}
	}
	p.checkTexts(at+".fromParams", r.FromParams)
	p.checkTexts(at+".fromCookies", r.FromCookies)
	for i, name := range r.FromCookies {
		if name != "" && !isFieldName(strings.ToLower(name)) {
			p.addf(indexed(at+".fromCookies", i), "%q is no name of a cookie", name)
		}
	}
}

func (p *problems) checkTokenOutputs(at string, r *security.JWTRule) {
	used := map[string]bool{}
	check := func(path, name string) {
		lower := strings.ToLower(name)
		switch {
		case !isFieldName(lower):
			p.addf(path, "%q is no name of a header field", name)
		case ownField(lower):
			p.addf(path, "%q is set by the proxy, or frames the request; give another name", name)
		case used[lower]:
			p.addf(path, "%q gets something already; give each claim a field of its own", name)
		}
		used[lower] = true
	}
	if r.OutputPayloadToHeader != "" {
		check(at+".outputPayloadToHeader", r.OutputPayloadToHeader)
	}
	for i, c := range r.OutputClaimToHeaders {
		path := indexed(at+".outputClaimToHeaders", i)
		check(path+".header", c.GetHeader())
		if c.GetClaim() == "" {
			p.addf(path+".claim", "is empty; name a claim")
		}
	}
}

// ownField tells whether a header field, in lower case, is the proxy's to write, or belongs
// to the connection and not to the request (RFC 9110 section 7.6.1).
func ownField(name string) bool {
	switch name {
	case "host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect", "cookie":
		return true
	}
	for _, prefix := range []string{"x-forwarded-", "x-envoy-", "x-isthmus-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
