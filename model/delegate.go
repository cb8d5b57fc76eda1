package model

import (
	"fmt"
	"slices"
	"strings"
)

// Delegate names the VirtualService that says what becomes of the requests that satisfy a
// route (https://istio.io/latest/docs/reference/config/networking/virtual-service/#Delegate).
// It has no hosts and no gateways of its own: those of the root, which delegates to it,
// count.
type Delegate struct{ Namespace, Name string }

// Delegates tells whether the object leaves routes to others.
func (v *VirtualService) Delegates() bool {
	return slices.ContainsFunc(v.HTTP, func(r HTTPRoute) bool { return r.Delegate != nil })
}

// DelegatesOf are the objects to which the routes of a root are left, one for each route;
// nil where there is none, or none that may be used. find returns the object of a
// namespace and name, nil where there is none; byDefault is who sees objects that do not
// say so.
func (v *VirtualService) DelegatesOf(find func(namespace, name string) *VirtualService, byDefault Exports) []*VirtualService {
	out := make([]*VirtualService, len(v.HTTP))
	for i := range v.HTTP {
		if to := v.HTTP[i].Delegate; to != nil {
			if d := find(to.Namespace, to.Name); d != nil && v.mayUse(d, byDefault) == "" {
				out[i] = d
			}
		}
	}
	return out
}

// mayUse says why a delegate may not be used; empty: it may be.
func (v *VirtualService) mayUse(d *VirtualService, byDefault Exports) string {
	switch {
	case len(d.Hosts) > 0 || len(d.Gateways) > 0:
		return "has hosts or gateways of its own, which a delegate has not"
	case !d.VisibleIn(v.Namespace, byDefault):
		return fmt.Sprintf("is not shown to namespace %q (exportTo)", v.Namespace)
	case d.Delegates():
		return "delegates itself, and one level is honoured"
	}
	return ""
}

// DelegateNotes says which routes of a root, or of its delegates, are left out, and why.
// The arguments are those of DelegatesOf.
func (v *VirtualService) DelegateNotes(find func(namespace, name string) *VirtualService, byDefault Exports) []string {
	var notes []string
	for i := range v.HTTP {
		to := v.HTTP[i].Delegate
		if to == nil {
			continue
		}
		problem := "does not exist"
		if d := find(to.Namespace, to.Name); d != nil {
			problem = v.mayUse(d, byDefault)
		}
		if problem != "" {
			notes = append(notes, fmt.Sprintf("spec.http[%d].delegate: VirtualService %s/%s %s; the route is left out", i, to.Namespace, to.Name, problem))
		}
	}

	_, conflicts := v.WithDelegates(v.DelegatesOf(find, byDefault))
	return append(notes, conflicts...)
}

// WithDelegates is a root with the routes of its delegates (DelegatesOf) in the places of
// those that are left to them. What conflicts is left out, as in Istio; the notes say so.
func (v *VirtualService) WithDelegates(delegates []*VirtualService) (merged *VirtualService, notes []string) {
	out := *v
	out.HTTP = nil
	for i := range v.HTTP {
		root := &v.HTTP[i]
		switch d := delegates[i]; {
		case root.Delegate == nil:
			out.HTTP = append(out.HTTP, *root)
		case d != nil:
			for j := range d.HTTP {
				route, conflict := root.delegated(&d.HTTP[j], d.Namespace)
				if conflict == "" {
					out.HTTP = append(out.HTTP, route)
					continue
				}
				notes = append(notes, fmt.Sprintf("spec.http[%d].delegate: http[%d].%s of VirtualService %s/%s; that route is left out",
					i, j, conflict, d.Namespace, d.Name))
			}
		}
	}
	return &out, notes
}

// delegated is a delegate's route in the place of the root's: with the conditions of both,
// and what the root says where the delegate says nothing. It is the delegate's author who
// says where requests go; namespace is the delegate's.
func (r *HTTPRoute) delegated(to *HTTPRoute, namespace string) (HTTPRoute, string) {
	out := *to
	out.Name = joinNames(r.Name, to.Name)
	var conflict string
	if out.Matches, conflict = mergeMatches(r.Matches, to.Matches); conflict != "" {
		return out, conflict
	}

	out.Destinations = ofNamespace(to.Destinations, namespace)
	mirrors := r.Mirrors
	if len(to.Mirrors) > 0 {
		mirrors = slices.Clone(to.Mirrors)
		for i := range mirrors {
			mirrors[i].To.Namespace = namespace
		}
	}
	if out.Mirrors = nil; len(to.Destinations) > 0 {
		out.Mirrors = mirrors
	}

	if out.Rewrite == nil {
		out.Rewrite = r.Rewrite
	}
	if out.Headers.empty() {
		out.Headers = r.Headers
	}
	if out.Timeout == 0 {
		out.Timeout = r.Timeout
	}
	if out.Retry == nil {
		out.Retry = r.Retry
	}
	if out.Fault == nil {
		out.Fault = r.Fault
	}
	if out.CORS == nil {
		out.CORS = r.CORS
	}
	return out, ""
}

// ofNamespace are destinations that an object of a namespace names.
func ofNamespace(list []WeightedDestination, namespace string) []WeightedDestination {
	out := slices.Clone(list)
	for i := range out {
		out[i].Namespace = namespace
	}
	return out
}

// joinNames is Istio's name of what two objects name.
func joinNames(root, delegate string) string {
	if root == "" || delegate == "" {
		return root + delegate
	}
	return root + "-" + delegate
}

// mergeMatches are the conditions that hold where one of each list does. Each of the
// delegate's has to be within one of the root's; else it says which is not.
func mergeMatches(root, delegate []HTTPMatch) (out []HTTPMatch, conflict string) {
	if len(root) == 0 {
		return delegate, ""
	}
	if len(delegate) == 0 {
		return root, ""
	}
	for i := range delegate {
		before, why := len(out), ""
		for j := range root {
			m, part := root[j].and(&delegate[i])
			if part == "" {
				out = append(out, m)
			} else if why == "" {
				why = part
			}
		}
		if len(out) == before {
			return nil, fmt.Sprintf("match[%d].%s is not within what the root leaves to it", i, why)
		}
	}
	return out, ""
}

// and is a condition of a root together with one of its delegate, which has to be within
// it; else it says which part is not.
func (m *HTTPMatch) and(d *HTTPMatch) (out HTTPMatch, conflict string) {
	out = *d
	out.Name = joinNames(m.Name, d.Name)

	switch {
	case d.URI == nil:
		out.URI, out.IgnoreCase = m.URI, m.IgnoreCase
	case m.URI != nil && (m.IgnoreCase != d.IgnoreCase || !m.URI.covers(d.URI, m.IgnoreCase)):
		return out, "uri"
	}
	if out.Port == 0 {
		out.Port = m.Port
	} else if m.Port != 0 && m.Port != d.Port {
		return out, "port"
	}
	if out.Namespace == "" {
		out.Namespace = m.Namespace
	} else if m.Namespace != "" && m.Namespace != d.Namespace {
		return out, "sourceNamespace"
	}
	if len(d.Gateways) == 0 {
		out.Gateways = m.Gateways
	} else if len(m.Gateways) > 0 && slices.ContainsFunc(d.Gateways, func(g string) bool { return !slices.Contains(m.Gateways, g) }) {
		return out, "gateways"
	}

	if out.Labels, conflict = mergeLabels(m.Labels, d.Labels); conflict != "" {
		return out, conflict
	}
	if out.Fields, conflict = mergeFields(m.Fields, d.Fields); conflict != "" {
		return out, conflict
	}
	if out.Query, conflict = mergeFields(m.Query, d.Query); conflict != "" {
		return out, "queryParams[" + strings.TrimPrefix(conflict, "headers[")
	}
	return out, ""
}

func mergeLabels(root, delegate map[string]string) (map[string]string, string) {
	if len(root) == 0 {
		return delegate, ""
	}
	out := map[string]string{}
	for name, value := range delegate {
		out[name] = value
	}
	for name, value := range root {
		if own, has := delegate[name]; has && own != value {
			return nil, "sourceLabels"
		}
		out[name] = value
	}
	return out, ""
}

// mergeFields are the conditions of both on header fields, or on parameters. Where both
// ask for a value of the same, that of the delegate has to be within the root's. What must
// not be, must not be by either.
func mergeFields(root, delegate []FieldMatch) ([]FieldMatch, string) {
	if len(root) == 0 {
		return delegate, ""
	}
	out := slices.Clone(delegate)
	for _, f := range root {
		i := slices.IndexFunc(delegate, func(d FieldMatch) bool { return !d.Not && strings.EqualFold(d.Name, f.Name) })
		switch {
		case f.Not || i < 0:
			out = append(out, f)
		case f.Value == nil: // the delegate asks for more than that it is there
		case delegate[i].Value == nil:
			out[i].Value = f.Value
		case !f.Value.covers(delegate[i].Value, false):
			return nil, fieldPath(f.Name)
		}
	}
	return out, ""
}

// fieldPath is where a condition on a header field, or on what stands beside them, is said.
func fieldPath(name string) string {
	if part, ok := strings.CutPrefix(name, ":"); ok {
		return part
	}
	return "headers[" + name + "]"
}

// covers tells whether every text that satisfies the other condition satisfies this one.
// Of two different regular expressions that is not known, so they do not.
func (m *StringMatch) covers(other *StringMatch, ignoreCase bool) bool {
	a, b := m.Value, other.Value
	if ignoreCase && m.Kind != StringRegex {
		a, b = strings.ToLower(a), strings.ToLower(b)
	}
	switch m.Kind {
	case StringPrefix:
		return other.Kind != StringRegex && strings.HasPrefix(b, a)
	case StringRegex, StringExact:
		return other.Kind == m.Kind && a == b
	}
	return false
}

func (e *HeaderEdits) empty() bool { return e.Request.empty() && e.Response.empty() }

func (e *HeaderEdit) empty() bool { return len(e.Remove)+len(e.Set)+len(e.Add) == 0 }
