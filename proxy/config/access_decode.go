package config

import (
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	tcprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	templatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xds"
)

// Messages of the two filters.
const (
	httpAccessMessage = "envoy.extensions.filters.http.rbac.v3.RBAC"
	tcpAccessMessage  = "envoy.extensions.filters.network.rbac.v3.RBAC"
)

// maxAccessDepth bounds how deep tests may lie in one another.
const maxAccessDepth = 32

// decodeHTTPAccess reads a filter that decides about requests.
func decodeHTTPAccess(a at, body *anypb.Any) (*AccessFilter, error) {
	p := &httprbacv3.RBAC{}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}
	if err := a.only(p, "rules", "rules_stat_prefix", "shadow_rules", "shadow_rules_stat_prefix"); err != nil {
		return nil, err
	}
	d := accessDecoder{http: true}
	return d.filter(a, p.GetRules(), p.GetShadowRules(), p.GetShadowRulesStatPrefix())
}

// decodeTCPAccess reads a filter that decides about connections. Whenever Envoy would
// decide, this proxy does before it dials.
func decodeTCPAccess(a at, body *anypb.Any) (*AccessFilter, error) {
	p := &tcprbacv3.RBAC{}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}
	if err := a.only(p, "rules", "shadow_rules", "shadow_rules_stat_prefix", "stat_prefix"); err != nil {
		return nil, err
	}
	d := accessDecoder{}
	return d.filter(a, p.GetRules(), p.GetShadowRules(), p.GetShadowRulesStatPrefix())
}

// accessDecoder reads tests; those about requests only with http.
type accessDecoder struct{ http bool }

func (d accessDecoder) filter(a at, rules, shadow *rbacv3.RBAC, prefix string) (*AccessFilter, error) {
	f := &AccessFilter{ShadowPrefix: prefix}
	var err error
	if f.Rules, err = d.rules(a.in("rules"), rules); err != nil {
		return nil, err
	}
	f.Shadow, err = d.rules(a.in("shadow_rules"), shadow)
	return f, err
}

func (d accessDecoder) rules(a at, p *rbacv3.RBAC) (*AccessRules, error) {
	if p == nil {
		return nil, nil
	}
	if err := a.only(p, "action", "policies"); err != nil {
		return nil, err
	}

	out := &AccessRules{}
	switch p.GetAction() {
	case rbacv3.RBAC_ALLOW:
	case rbacv3.RBAC_DENY:
		out.Deny = true
	default:
		return nil, a.in("action").errorf("%v is not supported by this proxy", p.GetAction())
	}

	for _, name := range slices.Sorted(maps.Keys(p.GetPolicies())) {
		test, err := d.policy(a.in("policies["+name+"]"), p.GetPolicies()[name])
		if err != nil {
			return nil, err
		}
		out.Policies = append(out.Policies, AccessPolicy{name, test})
	}
	return out, nil
}

func (d accessDecoder) policy(a at, p *rbacv3.Policy) (AccessTest, error) {
	if err := a.only(p, "permissions", "principals"); err != nil {
		return AccessTest{}, err
	}
	what, err := decodeTests(a, "permissions", p.GetPermissions(), 0, d.permission)
	if err != nil {
		return AccessTest{}, err
	}
	who, err := decodeTests(a, "principals", p.GetPrincipals(), 0, d.principal)
	if err != nil {
		return AccessTest{}, err
	}
	return AccessTest{Kind: AccessAll, Of: []AccessTest{{Kind: AccessAny, Of: what}, {Kind: AccessAny, Of: who}}}, nil
}

// decodeTests reads a list, of which there must be one at least: an empty one would
// have two meanings.
func decodeTests[P any](a at, field string, list []P, depth int, one func(at, P, int) (AccessTest, error)) ([]AccessTest, error) {
	if len(list) == 0 {
		return nil, a.in(field).errorf("is empty")
	}
	if depth > maxAccessDepth {
		return nil, a.in(field).errorf("lies deeper than %d tests in one another", maxAccessDepth)
	}
	out := make([]AccessTest, 0, len(list))
	for i, p := range list {
		t, err := one(a.index(field, i), p, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (d accessDecoder) permission(a at, p *rbacv3.Permission, depth int) (AccessTest, error) {
	if err := a.only(p, "and_rules", "or_rules", "any", "header", "url_path", "destination_ip", "destination_port",
		"not_rule", "requested_server_name", "uri_template"); err != nil {
		return AccessTest{}, err
	}

	t := AccessTest{}
	var err error
	switch r := p.GetRule().(type) {
	case *rbacv3.Permission_AndRules:
		t.Kind = AccessAll
		t.Of, err = decodeTests(a.in("and_rules"), "rules", r.AndRules.GetRules(), depth, d.permission)
	case *rbacv3.Permission_OrRules:
		t.Kind = AccessAny
		t.Of, err = decodeTests(a.in("or_rules"), "rules", r.OrRules.GetRules(), depth, d.permission)
	case *rbacv3.Permission_NotRule:
		t.Kind = AccessNot
		t.Of, err = decodeTests(a, "not_rule", []*rbacv3.Permission{r.NotRule}, depth, d.permission)
	case *rbacv3.Permission_Any:
		err = a.always(r.Any)
	case *rbacv3.Permission_Header:
		t.Kind = AccessHeader
		t.Header, err = decodeHeaderMatch(a.in("header"), r.Header)
	case *rbacv3.Permission_UrlPath:
		t.Kind = AccessPath
		t.Text, err = decodePath(a.in("url_path"), r.UrlPath)
	case *rbacv3.Permission_UriTemplate:
		t.Kind = AccessTemplate
		t.Template, err = decodeTemplate(a.in("uri_template"), r.UriTemplate)
	case *rbacv3.Permission_DestinationIp:
		t.Kind = AccessLocalIP
		t.Prefix, err = a.in("destination_ip").prefix(r.DestinationIp)
	case *rbacv3.Permission_DestinationPort:
		t.Kind, t.Port = AccessLocalPort, uint16(r.DestinationPort)
		if r.DestinationPort == 0 || r.DestinationPort > 65535 {
			err = a.in("destination_port").errorf("%d is not a port", r.DestinationPort)
		}
	case *rbacv3.Permission_RequestedServerName:
		t.Kind = AccessServerName
		t.Text, err = decodeString(a.in("requested_server_name"), r.RequestedServerName)
	default:
		err = a.errorf("asks for nothing")
	}
	if err == nil {
		err = d.fits(a, &t)
	}
	return t, err
}

func (d accessDecoder) principal(a at, p *rbacv3.Principal, depth int) (AccessTest, error) {
	if err := a.only(p, "and_ids", "or_ids", "any", "authenticated", "direct_remote_ip", "remote_ip", "header", "url_path",
		"not_id", "sourced_metadata"); err != nil {
		return AccessTest{}, err
	}

	t := AccessTest{}
	var err error
	switch r := p.GetIdentifier().(type) {
	case *rbacv3.Principal_AndIds:
		t.Kind = AccessAll
		t.Of, err = decodeTests(a.in("and_ids"), "ids", r.AndIds.GetIds(), depth, d.principal)
	case *rbacv3.Principal_OrIds:
		t.Kind = AccessAny
		t.Of, err = decodeTests(a.in("or_ids"), "ids", r.OrIds.GetIds(), depth, d.principal)
	case *rbacv3.Principal_NotId:
		t.Kind = AccessNot
		t.Of, err = decodeTests(a, "not_id", []*rbacv3.Principal{r.NotId}, depth, d.principal)
	case *rbacv3.Principal_Any:
		err = a.always(r.Any)
	case *rbacv3.Principal_Authenticated_:
		t.Kind = AccessPrincipal
		t.Text, err = decodeAuthenticated(a.in("authenticated"), r.Authenticated)
	case *rbacv3.Principal_DirectRemoteIp:
		t.Kind = AccessPeerIP
		t.Prefix, err = a.in("direct_remote_ip").prefix(r.DirectRemoteIp)
	case *rbacv3.Principal_RemoteIp:
		t.Kind = AccessRemoteIP
		t.Prefix, err = a.in("remote_ip").prefix(r.RemoteIp)
	case *rbacv3.Principal_Header:
		t.Kind = AccessHeader
		t.Header, err = decodeHeaderMatch(a.in("header"), r.Header)
	case *rbacv3.Principal_SourcedMetadata:
		t, err = decodeClaimTest(a.in("sourced_metadata"), r.SourcedMetadata)
	case *rbacv3.Principal_UrlPath:
		t.Kind = AccessPath
		t.Text, err = decodePath(a.in("url_path"), r.UrlPath)
	default:
		err = a.errorf("asks for nothing")
	}
	if err == nil {
		err = d.fits(a, &t)
	}
	return t, err
}

// fits refuses tests about requests where there are none: what Envoy makes of them,
// an absent header, is not what anybody means.
func (d accessDecoder) fits(a at, t *AccessTest) error {
	if !d.http && t.Kind.OfRequest() {
		return a.errorf("asks about an HTTP request, of which a network filter knows nothing")
	}
	return nil
}

// always refuses "any" with the value false, which Envoy refuses too.
func (a at) always(yes bool) error {
	if !yes {
		return a.in("any").errorf("is false")
	}
	return nil
}

func decodeAuthenticated(a at, p *rbacv3.Principal_Authenticated) (StringMatch, error) {
	if err := a.only(p, "principal_name"); err != nil {
		return StringMatch{}, err
	}
	if p.GetPrincipalName() == nil {
		return StringMatch{Kind: MatchAny}, nil
	}
	return decodeString(a.in("principal_name"), p.GetPrincipalName())
}

// decodeClaimTest reads a test of what the filter that verifies tokens has left.
func decodeClaimTest(a at, p *rbacv3.SourcedMetadata) (AccessTest, error) {
	t := AccessTest{Kind: AccessClaim}
	if err := a.only(p, "metadata_matcher", "metadata_source"); err != nil {
		return t, err
	}
	if p.GetMetadataSource() != rbacv3.MetadataSource_DYNAMIC {
		return t, a.in("metadata_source").errorf("%v is not supported by this proxy", p.GetMetadataSource())
	}

	m, ma := p.GetMetadataMatcher(), a.in("metadata_matcher")
	if err := ma.only(m, "filter", "path", "value"); err != nil {
		return t, err
	}
	if m.GetFilter() != xds.TokenFilter {
		return t, ma.in("filter").errorf("%q leaves nothing that this proxy knows; only %s does", m.GetFilter(), xds.TokenFilter)
	}
	for i, s := range m.GetPath() {
		if s.GetKey() == "" {
			return t, ma.index("path", i).in("key").errorf("is empty")
		}
		t.Claim = append(t.Claim, s.GetKey())
	}
	if len(t.Claim) < 2 || t.Claim[0] != xds.TokenPayload {
		return t, ma.in("path").errorf("does not lead to a claim of %q", xds.TokenPayload)
	}
	t.Claim = t.Claim[1:]
	err := t.decodeClaimValue(ma.in("value"), m.GetValue(), true)
	return t, err
}

// decodeClaimValue reads a comparison with a text, with the texts of a list, or with
// either; all have to be the same.
func (t *AccessTest) decodeClaimValue(a at, p *matcherv3.ValueMatcher, alternatives bool) error {
	take := func(a at, m *matcherv3.StringMatcher) error {
		text, err := decodeString(a, m)
		if err != nil {
			return err
		}
		if (t.Scalar || t.List) && !text.same(&t.Text) {
			return a.errorf("differs from the other alternative, which this proxy does not support")
		}
		t.Text = text
		return nil
	}

	switch m := p.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_StringMatch:
		if err := take(a.in("string_match"), m.StringMatch); err != nil {
			return err
		}
		t.Scalar = true
		return nil
	case *matcherv3.ValueMatcher_ListMatch:
		la := a.in("list_match.one_of")
		one, ok := m.ListMatch.GetOneOf().GetMatchPattern().(*matcherv3.ValueMatcher_StringMatch)
		if !ok {
			return la.errorf("is not a string_match, and nothing else is supported by this proxy")
		}
		if err := take(la.in("string_match"), one.StringMatch); err != nil {
			return err
		}
		t.List = true
		return nil
	case *matcherv3.ValueMatcher_OrMatch:
		if alternatives && len(m.OrMatch.GetValueMatchers()) > 0 {
			for i, one := range m.OrMatch.GetValueMatchers() {
				if err := t.decodeClaimValue(a.in("or_match").index("value_matchers", i), one, false); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return a.errorf("is not a string_match, a list_match of texts, or an or_match of these; this proxy supports nothing else")
}

func decodePath(a at, p *matcherv3.PathMatcher) (StringMatch, error) {
	if err := a.only(p, "path"); err != nil {
		return StringMatch{}, err
	}
	return decodeString(a.in("path"), p.GetPath())
}

func decodeTemplate(a at, p *corev3.TypedExtensionConfig) (PathTemplate, error) {
	m := &templatev3.UriTemplateMatchConfig{}
	ca := a.in("typed_config")
	if err := ca.unpack(p.GetTypedConfig(), m); err != nil {
		return PathTemplate{}, err
	}
	if err := ca.only(m, "path_template"); err != nil {
		return PathTemplate{}, err
	}
	t, err := ParsePathTemplate(m.GetPathTemplate())
	if err != nil {
		return t, ca.in("path_template").errorf("%v", err)
	}
	return t, nil
}
