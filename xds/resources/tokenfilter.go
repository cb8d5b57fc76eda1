package resources

import (
	"cmp"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// tokenFilter verifies the tokens of requests; nil when nobody says whose count. A request
// passes with a token that the rule of its issuer verifies, or without any; whether it needs
// one is for policies to say.
func tokenFilter(list []*authentication) *hcmv3.HttpFilter {
	var rules []*model.TokenRule
	for _, a := range list {
		for i := range a.row.Rules {
			rules = append(rules, &a.row.Rules[i])
		}
	}
	if len(rules) == 0 {
		return nil
	}
	slices.SortStableFunc(rules, func(a, b *model.TokenRule) int { return cmp.Compare(a.Issuer, b.Issuer) })

	out := &jwtv3.JwtAuthentication{Providers: map[string]*jwtv3.JwtProvider{}}
	var any []*jwtv3.JwtRequirement
	for i, r := range rules {
		// As many digits as sort like the numbers: proxies ask providers in this order.
		name := fmt.Sprintf("origins-%04d", i)
		out.Providers[name] = tokenProvider(r)
		any = append(any, &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_ProviderName{ProviderName: name}})
	}
	any = append(any, &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_AllowMissing{AllowMissing: &emptypb.Empty{}}})
	out.Rules = []*jwtv3.RequirementRule{{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		RequirementType: &jwtv3.RequirementRule_Requires{Requires: &jwtv3.JwtRequirement{
			RequiresType: &jwtv3.JwtRequirement_RequiresAny{RequiresAny: &jwtv3.JwtRequirementOrList{Requirements: any}},
		}},
	}}
	return &hcmv3.HttpFilter{Name: xds.TokenFilter, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(out)}}
}

// noKeys is a key set by which nothing is verified.
const noKeys = `{"keys":[]}`

func tokenProvider(r *model.TokenRule) *jwtv3.JwtProvider {
	p := &jwtv3.JwtProvider{
		Issuer: r.Issuer, Audiences: r.Audiences, Forward: r.Forward, ForwardPayloadHeader: r.PayloadHeader,
		FromParams: r.Params, FromCookies: r.Cookies, PayloadInMetadata: xds.TokenPayload,
		NormalizePayloadInMetadata: &jwtv3.JwtProvider_NormalizePayload{SpaceDelimitedClaims: r.Lists},
		JwksSourceSpecifier: &jwtv3.JwtProvider_LocalJwks{LocalJwks: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: cmp.Or(r.Keys, noKeys)},
		}},
	}
	for _, h := range r.Headers {
		p.FromHeaders = append(p.FromHeaders, &jwtv3.JwtHeader{Name: h.Name, ValuePrefix: h.Prefix})
	}
	for _, c := range r.ClaimHeaders {
		p.ClaimToHeaders = append(p.ClaimToHeaders, &jwtv3.JwtClaimToHeader{HeaderName: c.Header, ClaimName: c.Claim})
	}
	return p
}
