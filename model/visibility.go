package model

import (
	"slices"
	"strings"
)

// What the mesh configuration says of which namespaces count, and of who sees
// what in them.

// Exports is which namespaces see an object that does not say so itself, as the
// mesh configuration gives it: names of namespaces, or "." for the object's own.
// An empty list is all.
type Exports []string

// to tells whether the client's namespace sees an object of the namespace own.
func (e Exports) to(own, client string) bool {
	return len(e) == 0 || slices.Contains(e, client) || own == client && slices.Contains(e, ".")
}

// LabelSelector selects objects by their labels: those that have all of Labels and
// satisfy all of Expressions.
type LabelSelector struct {
	Labels      map[string]string
	Expressions []LabelExpression
}

// LabelExpression is a condition on one label. Operator is Kubernetes' (In, NotIn,
// Exists, DoesNotExist); with any other nothing is selected.
type LabelExpression struct {
	Key      string
	Operator string
	Values   []string
}

// Selects tells whether an object with the labels is selected.
func (s *LabelSelector) Selects(labels map[string]string) bool {
	for k, v := range s.Labels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return !slices.ContainsFunc(s.Expressions, func(e LabelExpression) bool { return !e.holds(labels) })
}

func (e *LabelExpression) holds(labels map[string]string) bool {
	value, has := labels[e.Key]
	switch e.Operator {
	case "In":
		return has && slices.Contains(e.Values, value)
	case "NotIn":
		return !has || !slices.Contains(e.Values, value)
	case "Exists":
		return has
	case "DoesNotExist":
		return !has
	}
	return false
}

// HostSetting is what the mesh configuration says of the hosts of a pattern (exact,
// *.suffix or *): whether clients are led to endpoints of their own cluster alone.
type HostSetting struct {
	Pattern      string
	ClusterLocal bool
}

// covers tells whether the setting is about the host.
func (h *HostSetting) covers(host string) bool {
	if suffix, ok := strings.CutPrefix(h.Pattern, "*"); ok {
		return strings.HasSuffix(host, suffix)
	}
	return h.Pattern == host
}

// ClusterLocal tells whether clients of a host are led to endpoints of their own
// cluster alone. Of several settings that are about the host, the one with the
// longest pattern counts; of several of those, the last.
func (m *Mesh) ClusterLocal(host string) bool {
	best, local := -1, false
	for i := range m.HostSettings {
		s := &m.HostSettings[i]
		if len(s.Pattern) >= best && s.covers(host) {
			best, local = len(s.Pattern), s.ClusterLocal
		}
	}
	return local
}

// SelectsNamespace tells whether the mesh counts a namespace with the labels. That
// of the mesh's own configuration always counts.
func (m *Mesh) SelectsNamespace(name string, labels map[string]string) bool {
	return len(m.Namespaces) == 0 || name == m.RootNamespace ||
		slices.ContainsFunc(m.Namespaces, func(s LabelSelector) bool { return s.Selects(labels) })
}
