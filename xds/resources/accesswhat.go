package resources

import (
	"net/netip"
	"regexp"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	templatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
)

// permissions writes tests of what is called.
func permissions() algebra[*rbacv3.Permission] {
	return algebra[*rbacv3.Permission]{
		any: &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}},
		all: func(of []*rbacv3.Permission) *rbacv3.Permission {
			return &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: of}}}
		},
		or: func(of []*rbacv3.Permission) *rbacv3.Permission {
			return &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: &rbacv3.Permission_Set{Rules: of}}}
		},
		not: func(one *rbacv3.Permission) *rbacv3.Permission {
			return &rbacv3.Permission{Rule: &rbacv3.Permission_NotRule{NotRule: one}}
		},
		value: permissionsOf,
	}
}

func permissionsOf(c *model.AuthCheck, v *model.AuthValue, wide bool) []*rbacv3.Permission {
	switch c.About {
	case model.AuthDestinationIP:
		return []*rbacv3.Permission{{Rule: &rbacv3.Permission_DestinationIp{DestinationIp: cidrRange(v.Block)}}}
	case model.AuthDestinationPort:
		return []*rbacv3.Permission{{Rule: &rbacv3.Permission_DestinationPort{DestinationPort: uint32(v.Port)}}}
	case model.AuthServerName:
		return []*rbacv3.Permission{{Rule: &rbacv3.Permission_RequestedServerName{RequestedServerName: valueMatcher(v)}}}
	case model.AuthPath:
		return []*rbacv3.Permission{pathPermission(v)}
	case model.AuthMethod:
		return []*rbacv3.Permission{{Rule: &rbacv3.Permission_Header{Header: valueHeader(":method", v)}}}
	}

	var out []*rbacv3.Permission
	for _, h := range hostHeaders(v, wide) {
		out = append(out, &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: h}})
	}
	return out
}

func pathPermission(v *model.AuthValue) *rbacv3.Permission {
	switch v.Kind {
	case model.AuthPresent: // every request has a path
		return permissions().any
	case model.AuthTemplate:
		return &rbacv3.Permission{Rule: &rbacv3.Permission_UriTemplate{UriTemplate: &corev3.TypedExtensionConfig{
			Name:        "envoy.path.match.uri_template.uri_template_matcher",
			TypedConfig: pack(&templatev3.UriTemplateMatchConfig{PathTemplate: v.Text}),
		}}}
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{
		UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: valueMatcher(v)}},
	}}
}

// hostHeaders compare the host of a request, without regard to case. Widely, the same host
// with a port, or with the dot that ends an absolute name, is taken for it as well: there
// are no two applications behind these.
func hostHeaders(v *model.AuthValue, wide bool) []*routev3.HeaderMatcher {
	one := func(v model.AuthValue) *routev3.HeaderMatcher {
		h := valueHeader(":authority", &v)
		if m := h.GetStringMatch(); m != nil {
			m.IgnoreCase = true
		}
		return h
	}

	if !wide {
		return []*routev3.HeaderMatcher{one(*v)}
	}
	out := []*routev3.HeaderMatcher{one(*v)}
	if host, port, has := strings.Cut(v.Text, ":"); has {
		if v.Kind == model.AuthExact && !strings.HasPrefix(host, "[") {
			out = append(out, one(model.AuthValue{Text: host + ".:" + port}))
		}
		return out
	}
	switch v.Kind {
	case model.AuthExact:
		host := strings.TrimSuffix(v.Text, ".")
		return []*routev3.HeaderMatcher{
			one(model.AuthValue{Text: host}), one(model.AuthValue{Text: host + "."}),
			one(model.AuthValue{Kind: model.AuthPrefix, Text: host + ":"}), one(model.AuthValue{Kind: model.AuthPrefix, Text: host + ".:"}),
		}
	case model.AuthSuffix:
		out = append(out, &routev3.HeaderMatcher{Name: ":authority", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: regexMatcher("(?i).*" + regexp.QuoteMeta(strings.TrimSuffix(v.Text, ".")) + `\.?(:[0-9]*)?`),
		}})
	}
	return out
}

// valueHeader compares a header field, or a part of the request beside them.
func valueHeader(name string, v *model.AuthValue) *routev3.HeaderMatcher {
	h := &routev3.HeaderMatcher{Name: name}
	if v.Kind == model.AuthPresent {
		h.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
	} else {
		h.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: valueMatcher(v)}
	}
	return h
}

// valueMatcher compares a text.
func valueMatcher(v *model.AuthValue) *matcherv3.StringMatcher {
	switch v.Kind {
	case model.AuthPresent:
		return regexMatcher(".+")
	case model.AuthPrefix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: v.Text}}
	case model.AuthSuffix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: v.Text}}
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: v.Text}}
}

func regexMatcher(regex string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: regex}}}
}

func cidrRange(p netip.Prefix) *corev3.CidrRange {
	return &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))}
}
