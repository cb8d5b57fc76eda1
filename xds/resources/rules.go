package resources

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// rules finds the DestinationRule of a host.
type rules struct {
	exact    map[string]map[string]*model.DestinationRule // namespace, host
	wildcard map[string][]*model.DestinationRule          // namespace; longest suffix first
	inForce  map[*model.DestinationRule]bool
	// hashes tells that any of those has a consistentHash.
	hashes bool
	// settings are the LocalitySettings of rules that are in force.
	settings map[*model.LocalitySetting]bool
	// exports is who sees the rules that do not say so.
	exports model.Exports
	// merged are the rules that were made of several, with what they were
	// made of.
	merged map[ruleKey]*mergedRule
}

// ruleKey is what DestinationRules must share to count as one.
type ruleKey struct{ namespace, host string }

// mergedRule keeps its identity while its parts do: clusters are remembered by
// the rule that they were built from.
type mergedRule struct {
	parts []*model.DestinationRule
	rule  *model.DestinationRule
}

// mergeRules makes one rule of several for the same host in the same namespace,
// the oldest first, as Istio does: a later one adds its subsets, and its traffic
// policy where there was none.
func mergeRules(parts []*model.DestinationRule) *model.DestinationRule {
	out := *parts[0]
	out.Subsets = slices.Clone(out.Subsets)
	for _, p := range parts[1:] {
		for _, subset := range p.Subsets {
			if subsetOf(&out, subset.Name) == nil {
				out.Subsets = append(out.Subsets, subset)
			}
		}
		if out.Policy == (model.TrafficPolicy{}) && len(out.Ports) == 0 {
			out.Policy, out.Ports = p.Policy, p.Ports
		}
	}
	return &out
}

// mergeNamesakes merges rules that share a host and a namespace and reach the
// same clients; all are sorted by age. What was merged from the same parts
// before is kept.
func (r *rules) mergeNamesakes(all []*model.DestinationRule, old *rules) []*model.DestinationRule {
	groups := map[ruleKey][]*model.DestinationRule{}
	var order []ruleKey
	for _, dr := range all {
		k := ruleKey{dr.Namespace, dr.Host}
		if first := groups[k]; len(first) > 0 && (first[0].ExportByDefault != dr.ExportByDefault || !slices.Equal(first[0].ExportTo, dr.ExportTo)) {
			continue // who sees the first would not see this
		}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], dr)
	}

	out := make([]*model.DestinationRule, 0, len(order))
	for _, k := range order {
		parts := groups[k]
		if len(parts) == 1 {
			out = append(out, parts[0])
			continue
		}

		m := &mergedRule{parts: parts}
		if old != nil && old.merged[k] != nil && slices.Equal(old.merged[k].parts, parts) {
			m = old.merged[k]
		} else {
			m.rule = mergeRules(parts)
		}
		r.merged[k] = m
		out = append(out, m.rule)
	}
	return out
}

// rulesOf asks for all DestinationRules.
type rulesOf struct{ source *Source }

// build reads them. Several for the same host in the same namespace count as
// one.
func (q rulesOf) build(rd *reader, old *rules) *rules {
	all := slices.Collect(readAll(rd, &q.source.store.Destinations))
	slices.SortStableFunc(all, func(a, b *model.DestinationRule) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Key(), b.Key()))
	})

	r := &rules{
		exact: map[string]map[string]*model.DestinationRule{}, wildcard: map[string][]*model.DestinationRule{},
		inForce: make(map[*model.DestinationRule]bool, len(all)), merged: map[ruleKey]*mergedRule{},
		settings: map[*model.LocalitySetting]bool{}, exports: q.source.mesh.get(rd).RuleExports,
	}
	for _, dr := range r.mergeNamesakes(all, old) {
		r.inForce[dr] = true
		r.hashes = r.hashes || hashes(dr)
		for s := range localitySettings(dr) {
			r.settings[s] = true
		}
		if strings.HasPrefix(dr.Host, "*") {
			r.wildcard[dr.Namespace] = append(r.wildcard[dr.Namespace], dr)
			continue
		}

		ns := r.exact[dr.Namespace]
		if ns == nil {
			ns = map[string]*model.DestinationRule{}
			r.exact[dr.Namespace] = ns
		}
		// The oldest of those that do not count as one.
		if ns[dr.Host] == nil {
			ns[dr.Host] = dr
		}
	}

	for _, list := range r.wildcard {
		slices.SortStableFunc(list, func(a, b *model.DestinationRule) int { return cmp.Compare(len(b.Host), len(a.Host)) })
	}
	return r
}

// localitySettings are those of all levels of a rule.
func localitySettings(dr *model.DestinationRule) iter.Seq[*model.LocalitySetting] {
	return func(yield func(*model.LocalitySetting) bool) {
		for _, p := range policiesOf(dr) {
			if p.Locality != nil && !yield(p.Locality) {
				return
			}
		}
	}
}

// policiesOf are the policies of a rule, of its ports and of its subsets.
func policiesOf(dr *model.DestinationRule) []model.TrafficPolicy {
	out := []model.TrafficPolicy{dr.Policy}
	out = slices.AppendSeq(out, maps.Values(dr.Ports))
	for i := range dr.Subsets {
		out = append(out, dr.Subsets[i].Policy)
		out = slices.AppendSeq(out, maps.Values(dr.Subsets[i].Ports))
	}
	return out
}

// orders tells whether any rule says how endpoints are ordered.
func (r *rules) orders() bool { return len(r.settings) > 0 }

// find returns the rule that counts for clients of a namespace that call the
// host: one of their own namespace, else of the service's, else of the root
// namespace; nil when there is none.
func (r *rules) find(client, root string, h *host) *model.DestinationRule {
	for _, ns := range [...]string{client, ruleNamespace(h), root} {
		if dr := r.exact[ns][h.name]; dr != nil && dr.VisibleIn(client, r.exports) {
			return dr
		}
		for _, dr := range r.wildcard[ns] {
			if matchHost(dr.Host, h.name) && dr.VisibleIn(client, r.exports) {
				return dr
			}
		}
	}
	return nil
}

// matchHost is model.MatchHost.
func matchHost(pattern, name string) bool { return model.MatchHost(pattern, name) }

// policyFor puts the levels of a rule together for a port. The settings of a port
// take the place of those of their level as a whole: what they leave out has its
// default (TrafficPolicy.portLevelSettings). A subset's settings stand above the
// rule's, one by one.
func policyFor(dr *model.DestinationRule, subset *model.Subset, port uint16) model.TrafficPolicy {
	if dr == nil {
		return model.TrafficPolicy{}
	}
	p := dr.Policy
	if own, ok := dr.Ports[port]; ok {
		p = own
	}
	if subset == nil {
		return p
	}

	if own, ok := subset.Ports[port]; ok {
		// The one setting that a port cannot have.
		own.RetryBudget = cmp.Or(own.RetryBudget, p.RetryBudget)
		return own
	}
	return subset.Policy.Over(p)
}

// subsetOf returns the rule's subset of that name, or nil.
func subsetOf(dr *model.DestinationRule, name string) *model.Subset {
	if dr == nil || name == "" {
		return nil
	}
	for i := range dr.Subsets {
		if dr.Subsets[i].Name == name {
			return &dr.Subsets[i]
		}
	}
	return nil
}
