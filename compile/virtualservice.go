package compile

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// VirtualService makes the row of a valid VirtualService. A host without a dot is a
// service of the object's own namespace, wherever it stands in it.
func VirtualService(c model.ClusterID, obj *api.Object, clusterDomain string) *model.VirtualService {
	vs := obj.Spec.(*networking.VirtualService)
	b := routeBuilder{namespace: obj.Namespace, clusterDomain: clusterDomain}
	row := &model.VirtualService{
		Cluster:   c,
		Namespace: obj.Namespace,
		Name:      obj.Name,
		Created:   obj.Created,
		ExportTo:  exportTo(vs.ExportTo, obj.Namespace),

		ExportByDefault: len(vs.ExportTo) == 0,
	}

	for _, h := range vs.Hosts {
		row.Hosts = append(row.Hosts, b.host(h))
	}
	row.Gateways = b.gateways(vs.Gateways)
	for _, r := range vs.Http {
		row.HTTP = append(row.HTTP, b.route(r))
	}
	for _, r := range vs.Tls {
		row.TLS = append(row.TLS, b.tlsRoute(r))
	}
	for _, r := range vs.Tcp {
		row.TCP = append(row.TCP, b.tcpRoute(r))
	}
	return row
}

// routeBuilder makes the routes of one VirtualService.
type routeBuilder struct{ namespace, clusterDomain string }

// host completes a name that is short.
func (b *routeBuilder) host(name string) string {
	host := api.PlainHost(name)
	if strings.Contains(host, ".") || strings.HasPrefix(host, "*") {
		return host
	}
	return Host(b.namespace, host, b.clusterDomain)
}

// gateways completes the names of gateways that are short: those of the object's own
// namespace.
func (b *routeBuilder) gateways(names []string) []string {
	var out []string
	for _, name := range names {
		if name != model.MeshGateway && !strings.Contains(name, "/") {
			name = b.namespace + "/" + name
		}
		out = append(out, name)
	}
	return out
}

func (b *routeBuilder) route(r *networking.HTTPRoute) model.HTTPRoute {
	out := model.HTTPRoute{
		Name:     r.Name,
		Redirect: redirect(r.Redirect),
		Rewrite:  rewrite(r),
		Headers:  headerEdits(r.Headers),
		Timeout:  r.Timeout.AsDuration(),
		Retry:    retryPolicy(r.Retries),
		Fault:    fault(r.Fault),
		CORS:     corsPolicy(r.CorsPolicy),
		Mirrors:  b.mirrors(r),
	}
	if d := r.Delegate; d != nil {
		out.Delegate = &model.Delegate{Namespace: cmp.Or(d.Namespace, b.namespace), Name: d.Name}
	}

	for _, m := range r.Match {
		out.Matches = append(out.Matches, b.httpMatch(m))
	}
	if d := r.DirectResponse; d != nil {
		out.Direct = &model.DirectResponse{Status: d.Status, Body: d.Body.GetBytes()}
		if text := d.Body.GetString_(); text != "" {
			out.Direct.Body = []byte(text)
		}
	}

	for _, d := range r.Route {
		to := b.destination(d.Destination, d.Weight, len(r.Route))
		to.Headers = headerEdits(d.Headers)
		if to.Weight > 0 {
			out.Destinations = append(out.Destinations, to)
		}
	}
	return out
}

// destination is one of a route's, of which there are several.
func (b *routeBuilder) destination(d *networking.Destination, weight int32, several int) model.WeightedDestination {
	out := model.WeightedDestination{
		Host:   b.host(d.Host),
		Subset: d.Subset,
		Port:   uint16(d.GetPort().GetNumber()),
		Weight: uint32(weight),
	}
	if several == 1 {
		out.Weight = 1 // it has all of it, whatever is written
	}
	return out
}

func (b *routeBuilder) httpMatch(m *networking.HTTPMatchRequest) model.HTTPMatch {
	out := model.HTTPMatch{
		Name:       m.Name,
		URI:        stringMatch(m.Uri),
		IgnoreCase: m.IgnoreUriCase,
		Port:       uint16(m.Port),
		Namespace:  m.SourceNamespace,
		Labels:     m.SourceLabels,
		Gateways:   b.gateways(m.Gateways),
	}

	for _, part := range []struct {
		name  string
		match *networking.StringMatch
	}{{":scheme", m.Scheme}, {":method", m.Method}, {":authority", m.Authority}} {
		if part.match != nil {
			out.Fields = append(out.Fields, model.FieldMatch{Name: part.name, Value: stringMatch(part.match)})
		}
	}
	out.Fields = append(out.Fields, fieldMatches(m.Headers, false)...)
	out.Fields = append(out.Fields, fieldMatches(m.WithoutHeaders, true)...)
	out.Query = fieldMatches(m.QueryParams, false)
	return out
}

func fieldMatches(fields map[string]*networking.StringMatch, not bool) []model.FieldMatch {
	var out []model.FieldMatch
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		out = append(out, model.FieldMatch{Name: name, Value: stringMatch(fields[name]), Not: not})
	}
	return out
}

// stringMatch is nil for a condition that says nothing of the text.
func stringMatch(m *networking.StringMatch) *model.StringMatch {
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		return &model.StringMatch{Kind: model.StringExact, Value: t.Exact}
	case *networking.StringMatch_Prefix:
		return &model.StringMatch{Kind: model.StringPrefix, Value: t.Prefix}
	case *networking.StringMatch_Regex:
		return &model.StringMatch{Kind: model.StringRegex, Value: t.Regex}
	}
	return nil
}

func redirect(r *networking.HTTPRedirect) *model.HTTPRedirect {
	if r == nil {
		return nil
	}
	out := &model.HTTPRedirect{
		Status:    int(r.RedirectCode),
		Authority: r.Authority,
		Scheme:    r.Scheme,
		Port:      r.GetPort(),
		KeepPort:  r.GetDerivePort() == networking.HTTPRedirect_FROM_REQUEST_PORT,
	}
	if out.Status == 0 {
		out.Status = 301
	}
	if prefix, ok := strings.CutPrefix(r.Uri, api.RedirectPrefix); ok {
		out.Prefix = prefix
	} else {
		out.URI = r.Uri
	}
	return out
}

// rewrite is that of a route. The host may be set among its header fields, too, or
// among those of its only destination.
func rewrite(r *networking.HTTPRoute) *model.HTTPRewrite {
	w := r.Rewrite
	out := model.HTTPRewrite{
		URI:          w.GetUri(),
		Regex:        w.GetUriRegexRewrite().GetMatch(),
		Substitution: w.GetUriRegexRewrite().GetRewrite(),
		Authority:    cmp.Or(w.GetAuthority(), hostSet(r.Headers)),
	}
	if len(r.Route) == 1 {
		out.Authority = cmp.Or(out.Authority, hostSet(r.Route[0].Headers))
	}
	if out == (model.HTTPRewrite{}) {
		return nil
	}
	return &out
}

// hostSet is the host that edits give a request; empty: none. Where several names
// of the field are set (Host, host), they have one value: others are refused.
func hostSet(h *networking.Headers) string {
	set := h.GetRequest().GetSet()
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if api.IsHostField(name) {
			return set[name]
		}
	}
	return ""
}

func headerEdits(h *networking.Headers) model.HeaderEdits {
	return model.HeaderEdits{Request: headerEdit(h.GetRequest()), Response: headerEdit(h.GetResponse())}
}

func headerEdit(o *networking.Headers_HeaderOperations) model.HeaderEdit {
	return model.HeaderEdit{Remove: o.GetRemove(), Set: headerFields(o.GetSet()), Add: headerFields(o.GetAdd())}
}

func headerFields(fields map[string]string) []model.HeaderField {
	var out []model.HeaderField
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !api.IsHostField(name) { // hostSet
			out = append(out, model.HeaderField{Name: name, Value: fields[name]})
		}
	}
	return out
}
