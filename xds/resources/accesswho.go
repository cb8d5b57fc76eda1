package resources

import (
	"regexp"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/isthmus-mesh/isthmus/model"
)

// spiffeScheme begins every identity that the mesh gives.
const spiffeScheme = "spiffe://"

// principals writes tests of who calls.
func principals(mesh *model.Mesh) algebra[*rbacv3.Principal] {
	return algebra[*rbacv3.Principal]{
		any:      &rbacv3.Principal{Identifier: &rbacv3.Principal_Any{Any: true}},
		ofCaller: true,
		all: func(of []*rbacv3.Principal) *rbacv3.Principal {
			return &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: of}}}
		},
		or: func(of []*rbacv3.Principal) *rbacv3.Principal {
			return &rbacv3.Principal{Identifier: &rbacv3.Principal_OrIds{OrIds: &rbacv3.Principal_Set{Ids: of}}}
		},
		not: func(one *rbacv3.Principal) *rbacv3.Principal {
			return &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: one}}
		},
		value: func(c *model.AuthCheck, v *model.AuthValue, _ bool) []*rbacv3.Principal {
			return principalsOf(mesh, c, v)
		},
	}
}

func principalsOf(mesh *model.Mesh, c *model.AuthCheck, v *model.AuthValue) []*rbacv3.Principal {
	switch c.About {
	case model.AuthRequestPrincipal, model.AuthAudience, model.AuthPresenter, model.AuthClaim:
		return tokenPrincipals(c, v)
	case model.AuthHeader:
		return []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Header{Header: valueHeader(c.Name, v)}}}
	case model.AuthSourceIP:
		return []*rbacv3.Principal{{Identifier: &rbacv3.Principal_DirectRemoteIp{DirectRemoteIp: cidrRange(v.Block)}}}
	case model.AuthRemoteIP:
		return []*rbacv3.Principal{{Identifier: &rbacv3.Principal_RemoteIp{RemoteIp: cidrRange(v.Block)}}}
	}

	var out []*rbacv3.Principal
	for _, m := range identityMatchers(mesh, c.About, v) {
		out = append(out, &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{
			Authenticated: &rbacv3.Principal_Authenticated{PrincipalName: m},
		}})
	}
	return out
}

// identityMatchers compare the proven identity of a caller, of which one must fit. Those
// of namespaces and accounts are of all trust domains whose identities count as the mesh's
// own; nobody else is let in (anyPeer).
func identityMatchers(mesh *model.Mesh, about model.AuthAttribute, v *model.AuthValue) []*matcherv3.StringMatcher {
	switch about {
	case model.AuthPrincipal:
		return principalMatchers(mesh, v)
	case model.AuthTrustDomain:
		return []*matcherv3.StringMatcher{partMatcher(spiffeScheme, v, "/")}
	}

	var out []*matcherv3.StringMatcher
	for _, domain := range trustDomains(mesh) {
		before := spiffeScheme + domain + "/ns/"
		if about == model.AuthNamespace {
			out = append(out, partMatcher(before, v, "/sa/"))
			continue
		}
		namespace, account, _ := strings.Cut(v.Text, "/")
		out = append(out, valueMatcher(&model.AuthValue{Text: before + namespace + "/sa/" + account}))
	}
	return out
}

// partMatcher compares one part of identities: what stands between two texts, and holds no
// slash. Where a prefix can tell, it does: it is asked of every connection.
func partMatcher(before string, v *model.AuthValue, after string) *matcherv3.StringMatcher {
	switch v.Kind {
	case model.AuthPresent:
		return valueMatcher(&model.AuthValue{Kind: model.AuthPrefix, Text: before})
	case model.AuthPrefix:
		return valueMatcher(&model.AuthValue{Kind: model.AuthPrefix, Text: before + v.Text})
	case model.AuthSuffix:
		return regexMatcher(regexp.QuoteMeta(before) + "[^/]*" + regexp.QuoteMeta(v.Text+after) + ".*")
	}
	return valueMatcher(&model.AuthValue{Kind: model.AuthPrefix, Text: before + v.Text + after})
}

// principalMatchers compare whole identities, which are written without their scheme. One
// of the mesh's trust domain, by whichever of its names, or by the one that a mesh has
// unless it is given another, is one of all of these names.
func principalMatchers(mesh *model.Mesh, v *model.AuthValue) []*matcherv3.StringMatcher {
	switch v.Kind {
	case model.AuthPresent:
		return []*matcherv3.StringMatcher{valueMatcher(&model.AuthValue{Kind: model.AuthPrefix, Text: spiffeScheme})}
	case model.AuthSuffix:
		return []*matcherv3.StringMatcher{valueMatcher(v)}
	}

	domain, path, whole := strings.Cut(v.Text, "/")
	if !whole {
		return []*matcherv3.StringMatcher{valueMatcher(&model.AuthValue{Kind: v.Kind, Text: spiffeScheme + v.Text})}
	}
	domains := []string{domain}
	if domain == model.DefaultMesh("").TrustDomain || slices.Contains(trustDomains(mesh), domain) {
		domains = trustDomains(mesh)
	}
	var out []*matcherv3.StringMatcher
	for _, d := range domains {
		out = append(out, valueMatcher(&model.AuthValue{Kind: v.Kind, Text: spiffeScheme + d + "/" + path}))
	}
	return out
}
