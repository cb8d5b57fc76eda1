package compile

import (
	security "istio.io/api/security/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/jwks"
	"github.com/isthmus-mesh/isthmus/model"
)

// RequestAuthentication makes the row of a RequestAuthentication, also of one that is
// wrong: a rule without keys that can be used has none, and so refuses each token of its
// issuer.
//
// It is nil for an object that is about a Gateway of the Gateway API, which there is not.
func RequestAuthentication(c model.ClusterID, obj *api.Object) *model.RequestAuthentication {
	ra := obj.Spec.(*security.RequestAuthentication)
	if ra.TargetRef != nil || len(ra.TargetRefs) > 0 {
		return nil
	}
	row := authenticationRow(c, obj, ra.GetSelector().GetMatchLabels())
	for _, r := range ra.JwtRules {
		row.Rules = append(row.Rules, tokenRule(r))
	}
	return row
}

// ClosedAuthentication is the row of a RequestAuthentication that cannot be read but for
// whom it selects: no token is good there.
func ClosedAuthentication(c model.ClusterID, obj *api.Object, selector map[string]string) *model.RequestAuthentication {
	row := authenticationRow(c, obj, selector)
	row.Rules = []model.TokenRule{{Issuer: unreadIssuer}}
	return row
}

// unreadIssuer stands for issuers that could not be read. No token may name it: it is no
// string that an issuer has, as there is a space in it (RFC 7519 section 2, StringOrURI).
const unreadIssuer = "an issuer that was not read"

func authenticationRow(c model.ClusterID, obj *api.Object, selector map[string]string) *model.RequestAuthentication {
	row := &model.RequestAuthentication{Cluster: c, Namespace: obj.Namespace, Name: obj.Name, Created: obj.Created}
	if len(selector) > 0 {
		row.Selector = selector
	}
	return row
}

// listClaims are always lists separated by spaces, as in Istio.
func listClaims() []string { return []string{"scope", "permission"} }

func tokenRule(r *security.JWTRule) model.TokenRule {
	out := model.TokenRule{
		Issuer: r.Issuer, Audiences: r.Audiences, Params: r.FromParams, Cookies: r.FromCookies,
		Forward: r.ForwardOriginalToken, PayloadHeader: r.OutputPayloadToHeader,
		Lists: append(listClaims(), r.SpaceDelimitedClaims...),
	}
	if out.Issuer == "" {
		out.Issuer = unreadIssuer
	}
	if _, err := jwks.Parse([]byte(r.Jwks)); err == nil {
		out.Keys = r.Jwks
	}
	for _, h := range r.FromHeaders {
		if h.GetName() != "" {
			out.Headers = append(out.Headers, model.TokenHeader{Name: h.Name, Prefix: h.Prefix})
		}
	}
	for _, c := range r.OutputClaimToHeaders {
		if c.GetHeader() != "" && c.GetClaim() != "" {
			out.ClaimHeaders = append(out.ClaimHeaders, model.ClaimHeader{Header: c.Header, Claim: c.Claim})
		}
	}
	return out
}
