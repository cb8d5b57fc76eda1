package resources

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
)

// routeBuilder builds the routes of a VirtualService for the clients of a namespace
// that call a port.
type routeBuilder struct {
	mesh      *model.Mesh
	namespace string
	traits    clientTraits
	port      uint16
	// gateways are those of the rule that the clients call, or model.MeshGateway.
	gateways []string
	// clusterOf names the cluster of a destination.
	clusterOf func(*model.WeightedDestination) string
	// hashOf is by what the endpoints of a destination are picked; nil: by nothing.
	hashOf func(*model.WeightedDestination) *model.ConsistentHash
}

// routes are those that any request of the clients can satisfy, in order.
func (b *routeBuilder) routes(rule *model.VirtualService) []*routev3.Route {
	out := []*routev3.Route{}
	for i := range rule.HTTP {
		r := &rule.HTTP[i]
		if len(r.Matches) == 0 {
			// What comes after it would never be reached.
			return append(out, b.route(r, &model.HTTPMatch{}))
		}
		for j := range r.Matches {
			m := &r.Matches[j]
			if b.means(m) {
				out = append(out, b.route(r, m))
			}
		}
	}
	return out
}

// called tells whether a condition is about requests to the gateways.
func (b *routeBuilder) called(m *model.HTTPMatch) bool {
	return len(m.Gateways) == 0 || slices.ContainsFunc(b.gateways, func(g string) bool { return slices.Contains(m.Gateways, g) })
}

// any tells whether there are such routes.
func (b *routeBuilder) any(rule *model.VirtualService) bool {
	for i := range rule.HTTP {
		matches := rule.HTTP[i].Matches
		if len(matches) == 0 {
			return true
		}
		for j := range matches {
			if b.means(&matches[j]) {
				return true
			}
		}
	}
	return false
}

// means tells whether a condition is about the clients and the port.
func (b *routeBuilder) means(m *model.HTTPMatch) bool {
	return (m.Port == 0 || m.Port == b.port) && (m.Namespace == "" || m.Namespace == b.namespace) && b.traits.have(m.Labels) && b.called(m)
}

// route builds what becomes of the requests that satisfy one condition.
func (b *routeBuilder) route(r *model.HTTPRoute, m *model.HTTPMatch) *routev3.Route {
	out := &routev3.Route{Name: routeNameOf(r, m), Match: routeMatch(m), TypedPerFilterConfig: perFilter(r)}
	switch {
	case r.Redirect != nil:
		out.Action = &routev3.Route_Redirect{Redirect: b.redirect(r.Redirect)}
	case r.Direct != nil:
		out.Action = &routev3.Route_DirectResponse{DirectResponse: directResponse(r.Direct)}
	default:
		out.Action = &routev3.Route_Route{Route: b.forward(r)}
	}

	edits := editsFor(r.Headers)
	if len(r.Destinations) == 1 {
		edits = edits.and(editsFor(r.Destinations[0].Headers))
	}
	out.RequestHeadersToAdd, out.RequestHeadersToRemove = edits.requestAdd, edits.requestRemove
	out.ResponseHeadersToAdd, out.ResponseHeadersToRemove = edits.responseAdd, edits.responseRemove
	return out
}

// routeNameOf is Istio's: the route's name, and that of the condition after a dot.
func routeNameOf(r *model.HTTPRoute, m *model.HTTPMatch) string {
	if m.Name != "" {
		return r.Name + "." + m.Name
	}
	return r.Name
}

func routeMatch(m *model.HTTPMatch) *routev3.RouteMatch {
	out := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	if m.URI != nil {
		switch m.URI.Kind {
		case model.StringExact:
			out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.URI.Value}
		case model.StringPrefix:
			out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: m.URI.Value}
		case model.StringRegex:
			out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: m.URI.Value}}
		}
	}
	if m.IgnoreCase {
		out.CaseSensitive = wrapperspb.Bool(false)
	}

	for i := range m.Fields {
		out.Headers = append(out.Headers, headerMatcher(&m.Fields[i]))
	}
	for i := range m.Query {
		out.QueryParameters = append(out.QueryParameters, queryMatcher(&m.Query[i]))
	}
	return out
}

func headerMatcher(f *model.FieldMatch) *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: f.Name, InvertMatch: f.Not}
	if f.Value == nil {
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
		return out
	}
	out.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: stringMatcher(f.Value)}
	// A request without the field does not have the value that it must not have.
	out.TreatMissingHeaderAsEmpty = f.Not
	return out
}

func queryMatcher(f *model.FieldMatch) *routev3.QueryParameterMatcher {
	out := &routev3.QueryParameterMatcher{Name: f.Name}
	if f.Value == nil {
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true}
	} else {
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: stringMatcher(f.Value)}
	}
	return out
}

func stringMatcher(m *model.StringMatch) *matcherv3.StringMatcher {
	switch m.Kind {
	case model.StringPrefix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: m.Value}}
	case model.StringRegex:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: m.Value}}}
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: m.Value}}
}

// forward leads to the route's destinations.
func (b *routeBuilder) forward(r *model.HTTPRoute) *routev3.RouteAction {
	retry := r.Retry
	if retry == nil {
		retry = b.mesh.Retry
	}
	out := &routev3.RouteAction{
		// Nothing, rather than Envoy's 15 s, where no time-out is set.
		Timeout:     durationpb.New(r.Timeout),
		RetryPolicy: retryPolicy(retry),
	}
	rewriteInto(out, r)
	hashRoute(out, b.hashes(r))
	out.RequestMirrorPolicies = b.mirrors(r)

	if len(r.Destinations) == 1 {
		out.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: b.clusterOf(&r.Destinations[0])}
		return out
	}
	split := &routev3.WeightedCluster{}
	for i := range r.Destinations {
		d := &r.Destinations[i]
		edits := editsFor(d.Headers)
		split.Clusters = append(split.Clusters, &routev3.WeightedCluster_ClusterWeight{
			Name: b.clusterOf(d), Weight: wrapperspb.UInt32(d.Weight),
			RequestHeadersToAdd: edits.requestAdd, RequestHeadersToRemove: edits.requestRemove,
			ResponseHeadersToAdd: edits.responseAdd, ResponseHeadersToRemove: edits.responseRemove,
		})
	}
	out.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: split}
	return out
}

// hashes are by what the endpoints of the route's destinations are picked.
func (b *routeBuilder) hashes(r *model.HTTPRoute) []*model.ConsistentHash {
	var out []*model.ConsistentHash
	for i := range r.Destinations {
		if hash := b.hashOf(&r.Destinations[i]); hash != nil {
			out = append(out, hash)
		}
	}
	return out
}

// mirrors are sent copies of the requests. Envoy and our proxy append -shadow to the host of
// those, as in Istio.
func (b *routeBuilder) mirrors(r *model.HTTPRoute) []*routev3.RouteAction_RequestMirrorPolicy {
	var out []*routev3.RouteAction_RequestMirrorPolicy
	for i := range r.Mirrors {
		m := &r.Mirrors[i]
		out = append(out, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster:         b.clusterOf(&m.To),
			RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: fraction(m.Share)},
		})
	}
	return out
}

func rewriteInto(out *routev3.RouteAction, r *model.HTTPRoute) {
	w := r.Rewrite
	if w == nil {
		return
	}
	out.PrefixRewrite = w.URI
	if w.Regex != "" {
		out.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
			Pattern: &matcherv3.RegexMatcher{Regex: w.Regex}, Substitution: w.Substitution,
		}
	}
	if w.Authority != "" {
		out.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: w.Authority}
	}
}

var redirectCodes = map[int]routev3.RedirectAction_RedirectResponseCode{
	301: routev3.RedirectAction_MOVED_PERMANENTLY,
	302: routev3.RedirectAction_FOUND,
	303: routev3.RedirectAction_SEE_OTHER,
	307: routev3.RedirectAction_TEMPORARY_REDIRECT,
	308: routev3.RedirectAction_PERMANENT_REDIRECT,
}

func (b *routeBuilder) redirect(r *model.HTTPRedirect) *routev3.RedirectAction {
	out := &routev3.RedirectAction{HostRedirect: r.Authority, PortRedirect: r.Port, ResponseCode: redirectCodes[r.Status]}
	if r.KeepPort {
		out.PortRedirect = uint32(b.port)
	}
	switch {
	case r.Prefix != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: r.Prefix}
	case r.URI != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: r.URI}
	}
	if r.Scheme != "" {
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	return out
}

func directResponse(d *model.DirectResponse) *routev3.DirectResponseAction {
	out := &routev3.DirectResponseAction{Status: d.Status}
	if len(d.Body) > 0 {
		out.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: d.Body}}
	}
	return out
}

// headerEdits are a level's edits in Envoy's words.
type headerEdits struct {
	requestAdd, responseAdd       []*corev3.HeaderValueOption
	requestRemove, responseRemove []string
}

func editsFor(e model.HeaderEdits) headerEdits {
	return headerEdits{
		requestAdd: valueOptions(&e.Request), requestRemove: e.Request.Remove,
		responseAdd: valueOptions(&e.Response), responseRemove: e.Response.Remove,
	}
}

// and are the edits, with others after them.
func (e headerEdits) and(o headerEdits) headerEdits {
	return headerEdits{
		requestAdd: slices.Concat(e.requestAdd, o.requestAdd), responseAdd: slices.Concat(e.responseAdd, o.responseAdd),
		requestRemove: slices.Concat(e.requestRemove, o.requestRemove), responseRemove: slices.Concat(e.responseRemove, o.responseRemove),
	}
}

func valueOptions(e *model.HeaderEdit) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	add := func(fields []model.HeaderField, action corev3.HeaderValueOption_HeaderAppendAction) {
		for _, f := range fields {
			out = append(out, &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: f.Name, Value: f.Value}, AppendAction: action,
			})
		}
	}
	add(e.Set, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	add(e.Add, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
	return out
}
