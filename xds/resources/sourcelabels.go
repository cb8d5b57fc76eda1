package resources

import (
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// clientTraits is which labels of clients that conditions of VirtualServices ask for the
// proxies of a scope have. It is a text that can be a part of a key: |a=b,c=d|e=f|, each
// once and in order; "" for none. Proxies whose labels nobody asks for share one.
type clientTraits string

// labelText is what a condition asks for, as it stands in clientTraits: no label has a
// sign of it in its name or value.
func labelText(labels map[string]string) string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(labels)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name + "=" + labels[name])
	}
	return b.String()
}

// have tells whether the clients have what a condition asks for.
func (c clientTraits) have(labels map[string]string) bool {
	return len(labels) == 0 || strings.Contains(string(c), "|"+labelText(labels)+"|")
}

// traits are those of a client. Only conditions count that its namespace is told of, so
// that nobody's rule makes proxies of others differ.
func (v *virtuals) traits(namespace string, labels map[string]string) clientTraits {
	var has []string
	for _, rule := range v.selecting {
		if !rule.VisibleIn(namespace, v.exports) {
			continue
		}
		for m := range labelled(rule) {
			if (m.Namespace == "" || m.Namespace == namespace) && matchLabels(m.Labels, labels) {
				has = append(has, labelText(m.Labels))
			}
		}
	}
	if len(has) == 0 {
		return ""
	}
	slices.Sort(has)
	return clientTraits("|" + strings.Join(slices.Compact(has), "|") + "|")
}

// labelled are the conditions of a VirtualService that ask for labels of clients.
func labelled(rule *model.VirtualService) func(yield func(*model.HTTPMatch) bool) {
	return func(yield func(*model.HTTPMatch) bool) {
		for i := range rule.HTTP {
			for j := range rule.HTTP[i].Matches {
				if m := &rule.HTTP[i].Matches[j]; len(m.Labels) > 0 && !yield(m) {
					return
				}
			}
		}
	}
}

// askedOf is what a VirtualService asks of clients' labels, and of whom, and who may ask in
// its stead; "" for nothing.
func askedOf(rule *model.VirtualService) string {
	var list []string
	for m := range labelled(rule) {
		list = append(list, m.Namespace+"|"+labelText(m.Labels))
	}
	for i := range rule.HTTP {
		if to := rule.HTTP[i].Delegate; to != nil {
			list = append(list, "delegate", to.Namespace, to.Name)
		}
	}
	if len(list) == 0 {
		return ""
	}
	if !rule.ExportByDefault {
		list = append(list, "exportTo", strings.Join(rule.ExportTo, ","))
	}
	return strings.Join(list, ";")
}
