package resources

import (
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// tokenPrincipals compare what a verified token says; one must fit.
func tokenPrincipals(c *model.AuthCheck, v *model.AuthValue) []*rbacv3.Principal {
	switch c.About {
	case model.AuthRequestPrincipal:
		return requestPrincipals(v)
	case model.AuthAudience:
		return []*rbacv3.Principal{claimPrincipal(textOrList(v), "aud")}
	case model.AuthPresenter:
		return []*rbacv3.Principal{claimPrincipal(textOrList(v), "azp")}
	}
	return []*rbacv3.Principal{claimPrincipal(textOrList(v), c.Claim...)}
}

// requestPrincipals compare ISSUER/SUBJECT. Both may hold slashes, so each of those in the
// text may be the one in the middle.
func requestPrincipals(v *model.AuthValue) []*rbacv3.Principal {
	both := func(issuer, subject model.AuthValue) *rbacv3.Principal {
		return &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: []*rbacv3.Principal{
			claimPrincipal(oneText(&issuer), "iss"), claimPrincipal(oneText(&subject), "sub"),
		}}}}
	}

	present := model.AuthValue{Kind: model.AuthPresent}
	var out []*rbacv3.Principal
	switch v.Kind {
	case model.AuthPresent:
		return []*rbacv3.Principal{both(present, present)}
	case model.AuthPrefix:
		out = append(out, both(*v, present))
	case model.AuthSuffix:
		out = append(out, both(present, *v))
	}
	for i := range len(v.Text) {
		if v.Text[i] != '/' {
			continue
		}
		issuer, subject := model.AuthValue{Text: v.Text[:i]}, model.AuthValue{Text: v.Text[i+1:]}
		switch v.Kind {
		case model.AuthPrefix:
			subject.Kind = model.AuthPrefix
		case model.AuthSuffix:
			issuer.Kind = model.AuthSuffix
		}
		out = append(out, both(anyIfEmpty(issuer), anyIfEmpty(subject)))
	}
	return out
}

// anyIfEmpty makes of the beginning or the end of nothing that there is anything: a claim
// that is empty names nobody.
func anyIfEmpty(v model.AuthValue) model.AuthValue {
	if v.Text == "" && v.Kind != model.AuthExact {
		return model.AuthValue{Kind: model.AuthPresent}
	}
	return v
}

// claimPrincipal compares the claim to which a path leads.
func claimPrincipal(value *matcherv3.ValueMatcher, path ...string) *rbacv3.Principal {
	m := &matcherv3.MetadataMatcher{Filter: xds.TokenFilter, Value: value}
	for _, key := range append([]string{xds.TokenPayload}, path...) {
		m.Path = append(m.Path, &matcherv3.MetadataMatcher_PathSegment{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}})
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_SourcedMetadata{SourcedMetadata: &rbacv3.SourcedMetadata{MetadataMatcher: m}}}
}

// oneText compares a claim that is a text.
func oneText(v *model.AuthValue) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: valueMatcher(v)}}
}

// textOrList compares a claim that is a text, or the texts of one that is a list.
func textOrList(v *model.AuthValue) *matcherv3.ValueMatcher {
	one := oneText(v)
	list := &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_ListMatch{ListMatch: &matcherv3.ListMatcher{
		MatchPattern: &matcherv3.ListMatcher_OneOf{OneOf: one},
	}}}
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_OrMatch{OrMatch: &matcherv3.OrMatcher{
		ValueMatchers: []*matcherv3.ValueMatcher{one, list},
	}}}
}
