package resources

import (
	"maps"

	"github.com/isthmus-mesh/isthmus/model"
)

// namespaces are those whose services count (MeshConfig.discoverySelectors). It is
// immutable.
type namespaces struct {
	all      bool
	selected map[scopeKey]bool
}

// namespacesOf asks which namespaces count.
type namespacesOf struct{ source *Source }

func (q namespacesOf) build(r *reader, old *namespaces) *namespaces {
	s := q.source
	mesh := s.mesh.get(r)
	now := &namespaces{all: len(mesh.Namespaces) == 0}
	if !now.all {
		now.selected = map[scopeKey]bool{}
		for ns := range readAll(r, &s.store.Namespaces) {
			if mesh.SelectsNamespace(ns.Name, ns.Labels) {
				now.selected[scopeKey{cluster: ns.Cluster, namespace: ns.Name}] = true
			}
		}
	}
	if old != nil && old.all == now.all && maps.Equal(old.selected, now.selected) {
		return old
	}
	return now
}

// has tells whether a service counts.
func (n *namespaces) has(svc *model.Service) bool {
	return n.all || n.selected[scopeKey{cluster: svc.Cluster, namespace: svc.Namespace}]
}
