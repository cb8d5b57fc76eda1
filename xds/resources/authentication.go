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

// authentications is every RequestAuthentication, by the namespace that it is in. It is
// immutable.
type authentications struct {
	root        string
	byNamespace map[string][]*authentication
}

// authentication is an object of that kind, and what identifies its content.
type authentication struct {
	row    *model.RequestAuthentication
	digest string
}

// authenticationsOf asks for all RequestAuthentications.
type authenticationsOf struct{ source *Source }

func (q authenticationsOf) build(r *reader, old *authentications) *authentications {
	known := map[*model.RequestAuthentication]*authentication{}
	if old != nil {
		for _, list := range old.byNamespace {
			for _, a := range list {
				known[a.row] = a
			}
		}
	}

	out := &authentications{root: q.source.mesh.get(r).RootNamespace, byNamespace: map[string][]*authentication{}}
	for row := range readAll(r, &q.source.store.Authentications) {
		a := known[row]
		if a == nil {
			a = &authentication{row, rulesDigest(row.Rules)}
		}
		out.byNamespace[row.Namespace] = append(out.byNamespace[row.Namespace], a)
	}
	return out
}

// rulesDigest identifies what an object says, whatever its name.
func rulesDigest(rules []model.TokenRule) string {
	text, err := json.Marshal(rules)
	if err != nil {
		panic("xds/resources: token rules cannot be written as JSON: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// selecting are the objects that hold for a workload, in the order of their names: those of
// its namespace and of the root namespace, as far as they select it. All of them count
// together, as in Istio.
func (a *authentications) selecting(w *model.Workload) []*authentication {
	all := a.byNamespace[w.Namespace]
	if w.Namespace != a.root {
		all = slices.Concat(all, a.byNamespace[a.root])
	}
	var out []*authentication
	for _, one := range all {
		if one.row.Selector == nil || matchLabels(one.row.Selector, w.Labels) {
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b *authentication) int { return cmp.Compare(a.row.Key(), b.row.Key()) })
	return out
}

// authenticationText describes objects completely.
func authenticationText(list []*authentication) string {
	var b strings.Builder
	for _, a := range list {
		b.WriteString(";t" + a.digest)
	}
	return b.String()
}
