package config

import (
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// defaultRouteTimeout is Envoy's timeout of a route.
const defaultRouteTimeout = 15 * time.Second

// DecodeRouteConfiguration reads and checks a route configuration.
func DecodeRouteConfiguration(body *anypb.Any) (*RouteConfig, error) {
	p := &routev3.RouteConfiguration{}
	a := at{kind: "route configuration"}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}

	a.name = p.GetName()
	if a.name == "" {
		return nil, a.in("name").errorf("is empty")
	}

	r, err := decodeRouteConfig(a, p)
	if err != nil {
		return nil, err
	}
	r.Version = versionOf(body)
	return r, nil
}

// DecodeVirtualHost reads and checks a virtual host that is a resource of its own.
func DecodeVirtualHost(body *anypb.Any) (*VirtualHost, error) {
	p := &routev3.VirtualHost{}
	a := at{kind: "virtual host"}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}

	a.name = p.GetName()
	if config, host, ok := strings.Cut(a.name, "/"); !ok || config == "" || host == "" {
		return nil, a.in("name").errorf("%q is not of the form ROUTECONFIG/HOST", a.name)
	}

	v, err := decodeVirtualHost(a, p)
	if err != nil {
		return nil, err
	}
	for i, d := range v.Domains {
		if slices.Contains(v.Domains[:i], d) {
			return nil, a.index("domains", i).errorf("%q is there twice", d)
		}
	}
	return v, nil
}

func decodeRouteConfig(a at, p *routev3.RouteConfiguration) (*RouteConfig, error) {
	if err := a.only(p, "name", "virtual_hosts", "validate_clusters", "max_direct_response_body_size_bytes",
		"ignore_port_in_host_matching", "metadata", "vhds", "request_headers_to_add", "request_headers_to_remove",
		"response_headers_to_add", "response_headers_to_remove"); err != nil {
		return nil, err
	}

	r := &RouteConfig{Name: p.GetName(), IgnorePortInHost: p.GetIgnorePortInHostMatching()}
	var err error
	if r.ByDestination, err = decodeUnknownHost(a.in("metadata"), p.GetMetadata()); err != nil {
		return nil, err
	}
	if r.Headers, err = decodeEdits(a, p); err != nil {
		return nil, err
	}
	if v := p.GetVhds(); v != nil {
		r.HostsApart = true
		if err := a.in("vhds.config_source").fromADS(v.GetConfigSource()); err != nil {
			return nil, err
		}
	}

	domains := map[string]string{}
	for i, v := range p.GetVirtualHosts() {
		va := a.index("virtual_hosts", i)
		vh, err := decodeVirtualHost(va, v)
		if err != nil {
			return nil, err
		}
		for _, d := range vh.Domains {
			if other, dup := domains[d]; dup {
				return nil, va.in("domains").errorf("%q is a domain of virtual host %q too", d, other)
			}
			domains[d] = vh.Name
		}
		r.VirtualHosts = append(r.VirtualHosts, vh)
	}

	return r, nil
}

// ownMetadata is the name under which resources carry what only this proxy
// reads. Envoy ignores metadata that no filter of its asks for.
const ownMetadata = "isthmus"

// decodeUnknownHost reads what becomes of requests to hosts that no virtual host
// names: true when the address decides that the client connected to.
func decodeUnknownHost(a at, p *corev3.Metadata) (bool, error) {
	a = a.in("filter_metadata." + ownMetadata)
	byDestination := false
	for field, v := range inOrder(p.GetFilterMetadata()[ownMetadata].GetFields()) {
		if field != "unknown_host" || v.GetStringValue() != "original_destination" {
			return false, a.in(field).errorf("%v is not supported by this proxy", v.AsInterface())
		}
		byDestination = true
	}
	return byDestination, nil
}

func decodeVirtualHost(a at, p *routev3.VirtualHost) (*VirtualHost, error) {
	if err := a.only(p, "name", "domains", "routes", "include_request_attempt_count", "metadata",
		"request_headers_to_add", "request_headers_to_remove", "response_headers_to_add",
		"response_headers_to_remove", "virtual_clusters"); err != nil {
		return nil, err
	}

	v := &VirtualHost{Name: p.GetName()}
	var err error
	if v.Headers, err = decodeEdits(a, p); err != nil {
		return nil, err
	}
	if len(p.GetDomains()) == 0 {
		return nil, a.in("domains").errorf("is empty")
	}

	for i, d := range p.GetDomains() {
		d = strings.ToLower(d)
		if n := strings.Count(d, "*"); d == "" || n > 1 || n == 1 && d[0] != '*' && d[len(d)-1] != '*' {
			return nil, a.index("domains", i).errorf("%q is not a domain: one * is allowed, at either end", d)
		}
		v.Domains = append(v.Domains, d)
	}

	for i, r := range p.GetRoutes() {
		rt, err := decodeRoute(a.index("routes", i), r)
		if err != nil {
			return nil, err
		}
		v.Routes = append(v.Routes, rt)
	}
	return v, nil
}

func decodeRoute(a at, p *routev3.Route) (*Route, error) {
	if err := a.only(p, "name", "match", "route", "redirect", "direct_response", "metadata", "decorator",
		"tracing", "stat_prefix", "request_headers_to_add", "request_headers_to_remove",
		"response_headers_to_add", "response_headers_to_remove", "typed_per_filter_config"); err != nil {
		return nil, err
	}

	r := &Route{Name: p.GetName()}
	var err error
	if r.Headers, err = decodeEdits(a, p); err != nil {
		return nil, err
	}
	if err := r.Match.decode(a.in("match"), p.GetMatch()); err != nil {
		return nil, err
	}
	if err := r.decodeFilters(a.in("typed_per_filter_config"), p.GetTypedPerFilterConfig()); err != nil {
		return nil, err
	}

	switch act := p.GetAction().(type) {
	case *routev3.Route_Route:
		r.Action, err = decodeAction(a.in("route"), act.Route)
	case *routev3.Route_DirectResponse:
		r.Direct, err = decodeDirect(a.in("direct_response"), act.DirectResponse)
	case *routev3.Route_Redirect:
		r.Redirect, err = decodeRedirect(a.in("redirect"), act.Redirect)
	default:
		err = a.errorf("has no action")
	}
	return r, err
}

func (m *RouteMatch) decode(a at, p *routev3.RouteMatch) error {
	if err := a.only(p, "prefix", "path", "safe_regex", "path_separated_prefix", "case_sensitive",
		"headers", "query_parameters", "grpc"); err != nil {
		return err
	}

	switch s := p.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		m.Prefix = s.Prefix
		if m.Prefix == "" {
			m.Prefix = "/"
		}
	case *routev3.RouteMatch_Path:
		m.Path = s.Path
	case *routev3.RouteMatch_PathSeparatedPrefix:
		m.SeparatedPrefix = s.PathSeparatedPrefix
	case *routev3.RouteMatch_SafeRegex:
		re, err := decodeRegex(a.in("safe_regex"), s.SafeRegex)
		if err != nil {
			return err
		}
		m.Regex = re
	default:
		return a.errorf("matches no path")
	}

	if m.Prefix+m.Path+m.SeparatedPrefix == "" && m.Regex == nil {
		return a.errorf("matches an empty path")
	}

	m.IgnoreCase = p.GetCaseSensitive() != nil && !p.GetCaseSensitive().GetValue()
	m.GRPC = p.GetGrpc() != nil
	for i, h := range p.GetHeaders() {
		hm, err := decodeHeaderMatch(a.index("headers", i), h)
		if err != nil {
			return err
		}
		m.Headers = append(m.Headers, hm)
	}
	for i, q := range p.GetQueryParameters() {
		qm, err := decodeQueryMatch(a.index("query_parameters", i), q)
		if err != nil {
			return err
		}
		m.Query = append(m.Query, qm)
	}
	return nil
}

func decodeQueryMatch(a at, p *routev3.QueryParameterMatcher) (QueryMatch, error) {
	q := QueryMatch{Name: p.GetName()}
	if err := a.only(p, "name", "string_match", "present_match"); err != nil {
		return q, err
	}
	if q.Name == "" {
		return q, a.in("name").errorf("is empty")
	}

	var err error
	switch s := p.GetQueryParameterMatchSpecifier().(type) {
	case *routev3.QueryParameterMatcher_StringMatch:
		q.Value, err = decodeString(a.in("string_match"), s.StringMatch)
	case *routev3.QueryParameterMatcher_PresentMatch:
		if !s.PresentMatch {
			return q, a.in("present_match").errorf("false is not supported by this proxy")
		}
		q.Present = true
	default:
		q.Present = true
	}
	return q, err
}

func decodeHeaderMatch(a at, p *routev3.HeaderMatcher) (HeaderMatch, error) {
	h := HeaderMatch{
		Name: strings.ToLower(p.GetName()), Invert: p.GetInvertMatch(), MissingIsEmpty: p.GetTreatMissingHeaderAsEmpty(),
	}
	if err := a.only(p, "name", "string_match", "exact_match", "prefix_match", "suffix_match",
		"contains_match", "safe_regex_match", "present_match", "invert_match",
		"treat_missing_header_as_empty"); err != nil {
		return h, err
	}
	if h.Name == "" {
		return h, a.in("name").errorf("is empty")
	}

	var err error
	switch s := p.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_StringMatch:
		h.Value, err = decodeString(a.in("string_match"), s.StringMatch)
	case *routev3.HeaderMatcher_ExactMatch:
		h.Value = StringMatch{Kind: MatchExact, Value: s.ExactMatch}
	case *routev3.HeaderMatcher_PrefixMatch:
		h.Value = StringMatch{Kind: MatchPrefix, Value: s.PrefixMatch}
	case *routev3.HeaderMatcher_SuffixMatch:
		h.Value = StringMatch{Kind: MatchSuffix, Value: s.SuffixMatch}
	case *routev3.HeaderMatcher_ContainsMatch:
		h.Value = StringMatch{Kind: MatchContains, Value: s.ContainsMatch}
	case *routev3.HeaderMatcher_SafeRegexMatch:
		h.Value.Kind, h.Value.Value = MatchRegex, s.SafeRegexMatch.GetRegex()
		h.Value.Regex, err = decodeRegex(a.in("safe_regex_match"), s.SafeRegexMatch)
	case *routev3.HeaderMatcher_PresentMatch:
		// present_match false asks for absence, as does invert_match; both
		// together ask for presence.
		h.Present = true
		h.Invert = h.Invert != !s.PresentMatch
	default:
		h.Present = true
	}

	return h, err
}

func decodeDirect(a at, p *routev3.DirectResponseAction) (*DirectResponse, error) {
	if err := a.only(p, "status", "body"); err != nil {
		return nil, err
	}
	if s := p.GetStatus(); s < 200 || s > 599 {
		return nil, a.in("status").errorf("%d is not a status from 200 to 599", s)
	}

	d := &DirectResponse{Status: int(p.GetStatus())}
	if b := p.GetBody(); b != nil {
		if d.Body = string(inlineBytes(b)); d.Body == "" {
			return nil, a.in("body").errorf("is not inline_bytes or inline_string")
		}
	}
	return d, nil
}

func decodeRedirect(a at, p *routev3.RedirectAction) (*Redirect, error) {
	if err := a.only(p, "https_redirect", "scheme_redirect", "host_redirect", "port_redirect",
		"path_redirect", "prefix_rewrite", "response_code", "strip_query"); err != nil {
		return nil, err
	}

	if err := a.oneLine(textField{"scheme_redirect", p.GetSchemeRedirect()}, textField{"host_redirect", p.GetHostRedirect()},
		textField{"path_redirect", p.GetPathRedirect()}, textField{"prefix_rewrite", p.GetPrefixRewrite()}); err != nil {
		return nil, err
	}

	codes := map[routev3.RedirectAction_RedirectResponseCode]int{
		routev3.RedirectAction_MOVED_PERMANENTLY: 301, routev3.RedirectAction_FOUND: 302,
		routev3.RedirectAction_SEE_OTHER: 303, routev3.RedirectAction_TEMPORARY_REDIRECT: 307,
		routev3.RedirectAction_PERMANENT_REDIRECT: 308,
	}

	r := &Redirect{
		Status: codes[p.GetResponseCode()], HTTPS: p.GetHttpsRedirect(), Scheme: p.GetSchemeRedirect(),
		Host: p.GetHostRedirect(), Port: p.GetPortRedirect(), Path: p.GetPathRedirect(),
		Prefix: p.GetPrefixRewrite(), Strip: p.GetStripQuery(),
	}
	if r.Status == 0 {
		return nil, a.in("response_code").errorf("%v is not known to this proxy", p.GetResponseCode())
	}
	return r, nil
}

// edits is what the three levels of header edits have in common.
type edits interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

func decodeEdits(a at, p edits) (HeaderEdits, error) {
	h := HeaderEdits{RequestRemove: p.GetRequestHeadersToRemove(), ResponseRemove: p.GetResponseHeadersToRemove()}
	var err error
	if h.RequestAdd, err = decodeAdds(a, "request_headers_to_add", p.GetRequestHeadersToAdd()); err != nil {
		return h, err
	}
	h.ResponseAdd, err = decodeAdds(a, "response_headers_to_add", p.GetResponseHeadersToAdd())
	return h, err
}

func decodeAdds(a at, field string, list []*corev3.HeaderValueOption) ([]HeaderEdit, error) {
	var out []HeaderEdit
	for i, o := range list {
		oa := a.index(field, i)
		if err := oa.only(o, "header", "append", "append_action", "keep_empty_value"); err != nil {
			return nil, err
		}

		e := HeaderEdit{Name: o.GetHeader().GetKey(), Value: o.GetHeader().GetValue()}
		// Pseudo-fields decided the route already.
		if e.Name == "" || strings.HasPrefix(e.Name, ":") {
			return nil, oa.in("header.key").errorf("%q cannot be edited", e.Name)
		}
		if err := oa.in("header").oneLine(textField{"key", e.Name}, textField{"value", e.Value}); err != nil {
			return nil, err
		}
		// Envoy would put something in their place
		// (%DOWNSTREAM_REMOTE_ADDRESS%).
		if strings.Contains(e.Value, "%") {
			return nil, oa.in("header.value").errorf("substitutions (%%) are not supported by this proxy")
		}

		switch o.GetAppendAction() {
		case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
			e.Append = o.GetAppend() == nil || o.GetAppend().GetValue()
		case corev3.HeaderValueOption_ADD_IF_ABSENT:
			e.IfAbsent = true
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		default:
			return nil, oa.in("append_action").errorf("%v is not supported by this proxy", o.GetAppendAction())
		}
		out = append(out, e)
	}

	return out, nil
}
