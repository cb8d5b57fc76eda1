package config

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/internal/jwks"
	"github.com/isthmus-mesh/isthmus/xds"
)

const tokenMessage = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"

// Defaults of Envoy: where tokens are looked for, and how far clocks may differ.
const (
	defaultTokenHeader = "authorization"
	defaultTokenPrefix = "Bearer "
	defaultTokenParam  = "access_token"
	defaultTokenSkew   = time.Minute
)

// decodeTokens reads a filter that verifies tokens of all requests alike.
func decodeTokens(a at, body *anypb.Any) (*TokenFilter, error) {
	p := &jwtv3.JwtAuthentication{}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}
	if err := a.only(p, "providers", "rules", "stat_prefix"); err != nil {
		return nil, err
	}

	f := &TokenFilter{}
	places := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(p.GetProviders())) {
		one, err := decodeTokenProvider(a.in("providers["+name+"]"), name, p.GetProviders()[name])
		if err != nil {
			return nil, err
		}
		places[name] = len(f.Providers)
		f.Providers = append(f.Providers, one)
	}

	if len(p.GetRules()) != 1 {
		return nil, a.in("rules").errorf("has %d elements; this proxy supports one, for all requests", len(p.GetRules()))
	}
	rule, ra := p.GetRules()[0], a.index("rules", 0)
	if err := ra.only(rule, "match", "requires"); err != nil {
		return nil, err
	}
	if err := ra.in("match").only(rule.GetMatch(), "prefix"); err != nil {
		return nil, err
	}
	if rule.GetMatch().GetPrefix() != "/" {
		return nil, ra.in("match").errorf("is not the prefix /, and so not about all requests, which this proxy does not support")
	}
	var err error
	f.Require, err = decodeRequirement(ra.in("requires"), rule.GetRequires(), places, 0)
	return f, err
}

func decodeTokenProvider(a at, name string, p *jwtv3.JwtProvider) (TokenProvider, error) {
	out := TokenProvider{
		Name: name, Issuer: p.GetIssuer(), Audiences: p.GetAudiences(), Params: p.GetFromParams(), Cookies: p.GetFromCookies(),
		Forward: p.GetForward(), PayloadHeader: strings.ToLower(p.GetForwardPayloadHeader()), Skew: defaultTokenSkew,
		Lists: p.GetNormalizePayloadInMetadata().GetSpaceDelimitedClaims(),
	}
	if err := a.only(p, "issuer", "audiences", "local_jwks", "forward", "from_headers", "from_params", "from_cookies",
		"forward_payload_header", "payload_in_metadata", "normalize_payload_in_metadata", "clock_skew_seconds", "claim_to_headers"); err != nil {
		return out, err
	}
	switch {
	case out.Issuer == "": // Envoy then takes tokens of every issuer
		return out, a.in("issuer").errorf("is empty, which this proxy does not support")
	case p.GetPayloadInMetadata() != xds.TokenPayload:
		return out, a.in("payload_in_metadata").errorf("is %q; this proxy knows claims as %q alone", p.GetPayloadInMetadata(), xds.TokenPayload)
	}
	if p.GetClockSkewSeconds() > 0 {
		out.Skew = time.Duration(p.GetClockSkewSeconds()) * time.Second
	}

	var err error
	if out.Keys, err = decodeKeys(a.in("local_jwks"), p.GetLocalJwks()); err != nil {
		return out, err
	}
	for i, h := range p.GetFromHeaders() {
		if h.GetName() == "" {
			return out, a.index("from_headers", i).in("name").errorf("is empty")
		}
		out.Headers = append(out.Headers, TokenHeader{strings.ToLower(h.GetName()), h.GetValuePrefix()})
	}
	if len(out.Headers)+len(out.Params)+len(out.Cookies) == 0 {
		out.Headers = []TokenHeader{{defaultTokenHeader, defaultTokenPrefix}}
		out.Params = []string{defaultTokenParam}
	}
	for i, h := range p.GetClaimToHeaders() {
		if h.GetHeaderName() == "" || h.GetClaimName() == "" {
			return out, a.index("claim_to_headers", i).errorf("needs a header_name and a claim_name")
		}
		out.ClaimHeaders = append(out.ClaimHeaders, ClaimHeader{strings.ToLower(h.GetHeaderName()), h.GetClaimName()})
	}
	return out, nil
}

func decodeKeys(a at, p *corev3.DataSource) (*jwks.Set, error) {
	inline, ok := p.GetSpecifier().(*corev3.DataSource_InlineString)
	if !ok {
		return nil, a.errorf("is not an inline_string, and this proxy fetches no keys")
	}
	set, err := jwks.ParseAny([]byte(inline.InlineString))
	if err != nil {
		return nil, a.in("inline_string").errorf("%v", err)
	}
	return set, nil
}

func decodeRequirement(a at, p *jwtv3.JwtRequirement, places map[string]int, depth int) (TokenRequirement, error) {
	out := TokenRequirement{}
	if err := a.only(p, "provider_name", "requires_any", "requires_all", "allow_missing"); err != nil {
		return out, err
	}
	if depth > maxAccessDepth {
		return out, a.errorf("lies deeper than %d requirements in one another", maxAccessDepth)
	}

	field := "requires_any"
	var list []*jwtv3.JwtRequirement
	switch r := p.GetRequiresType().(type) {
	case *jwtv3.JwtRequirement_ProviderName:
		place, known := places[r.ProviderName]
		if !known {
			return out, a.in("provider_name").errorf("there is no provider %q", r.ProviderName)
		}
		return TokenRequirement{Kind: RequireProvider, Provider: place}, nil
	case *jwtv3.JwtRequirement_AllowMissing:
		return TokenRequirement{Kind: RequireMissing}, nil
	case *jwtv3.JwtRequirement_RequiresAny:
		out.Kind, list = RequireAny, r.RequiresAny.GetRequirements()
	case *jwtv3.JwtRequirement_RequiresAll:
		field = "requires_all"
		out.Kind, list = RequireAll, r.RequiresAll.GetRequirements()
	default:
		return out, a.errorf("asks for nothing")
	}

	if len(list) == 0 {
		return out, a.in(field).errorf("is empty")
	}
	for i, one := range list {
		r, err := decodeRequirement(a.in(field).index("requirements", i), one, places, depth+1)
		if err != nil {
			return out, err
		}
		out.Of = append(out.Of, r)
	}
	return out, nil
}
