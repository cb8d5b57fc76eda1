package resources

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
)

// maxAliases is how many names may stand one for another before a host: more are
// taken for a circle.
const maxAliases = 8

// followAliases takes the hosts out of a scope that are but another name for one
// that the scope has as well, and returns them by that one. An alias of a host
// that the scope does not have stays: it is resolved by DNS.
func followAliases(hosts []*host, byName map[string]*host) ([]*host, map[string]*host, map[string][]*host) {
	if !slices.ContainsFunc(hosts, isAlias) {
		return hosts, byName, nil
	}
	left := make([]*host, 0, len(hosts))
	leftByName := make(map[string]*host, len(byName))
	aliases := map[string][]*host{}
	for _, h := range hosts {
		if target := aliased(h, byName); target != nil {
			aliases[target.name] = append(aliases[target.name], h)
			continue
		}
		left = append(left, h)
		leftByName[h.name] = h
	}
	return left, leftByName, aliases
}

func isAlias(h *host) bool { return h.primary().Alias != "" }

// aliased finds the host that an alias leads to, by way of others if need be;
// nil when it is no alias, or leads to none of the hosts or round in a circle.
func aliased(h *host, byName map[string]*host) *host {
	for range maxAliases {
		target := byName[h.primary().Alias]
		if target == nil {
			return nil
		}
		if !isAlias(target) {
			return target
		}
		h = target
	}
	return nil
}

// inMesh tells whether a Kubernetes service has endpoints of its own that others
// may be led to, rather than being a name for something elsewhere.
func inMesh(svc *model.Service) bool { return svc.Origin == model.FromKubernetes && svc.Alias == "" }
