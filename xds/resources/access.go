package resources

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// accessPolicies is every AuthorizationPolicy, by the namespace that it is in. It is
// immutable.
type accessPolicies struct {
	root        string
	byNamespace map[string][]*accessPolicy
}

// accessPolicy is a policy, and what identifies its content.
type accessPolicy struct {
	row    *model.AuthorizationPolicy
	digest string
}

// accessOf asks for all AuthorizationPolicies.
type accessOf struct{ source *Source }

func (q accessOf) build(r *reader, old *accessPolicies) *accessPolicies {
	known := map[*model.AuthorizationPolicy]*accessPolicy{}
	if old != nil {
		for _, list := range old.byNamespace {
			for _, p := range list {
				known[p.row] = p
			}
		}
	}

	out := &accessPolicies{root: q.source.mesh.get(r).RootNamespace, byNamespace: map[string][]*accessPolicy{}}
	for row := range readAll(r, &q.source.store.Policies) {
		p := known[row]
		if p == nil {
			p = &accessPolicy{row, digestOf(row)}
		}
		out.byNamespace[row.Namespace] = append(out.byNamespace[row.Namespace], p)
	}
	return out
}

// digestOf identifies what a policy says. When it was made, and so often as it is written,
// makes no difference.
func digestOf(row *model.AuthorizationPolicy) string {
	text, err := json.Marshal(struct {
		Name, Namespace string
		Deny, DryRun    bool
		Rules           []model.AuthRule
	}{row.Name, row.Namespace, row.Deny, row.DryRun, row.Rules})
	if err != nil {
		panic("xds/resources: a policy cannot be written as JSON: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// selecting are the policies that hold for a workload, in the order of their names: those
// of its namespace and of the root namespace, as far as they select it.
func (a *accessPolicies) selecting(w *model.Workload) []*accessPolicy {
	all := a.byNamespace[w.Namespace]
	if w.Namespace != a.root {
		all = slices.Concat(all, a.byNamespace[a.root])
	}
	var out []*accessPolicy
	for _, p := range all {
		if p.row.Selector == nil || matchLabels(p.row.Selector, w.Labels) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *accessPolicy) int { return cmp.Compare(a.row.Key(), b.row.Key()) })
	return out
}

// byLabel are those of policies that choose workloads by their labels.
func byLabel(policies []*accessPolicy) []*accessPolicy {
	var out []*accessPolicy
	for _, p := range policies {
		if p.row.Selector != nil {
			out = append(out, p)
		}
	}
	return out
}

// accessText describes policies completely.
func accessText(policies []*accessPolicy) string {
	var b strings.Builder
	for _, p := range policies {
		b.WriteString(";" + p.digest)
	}
	return b.String()
}
