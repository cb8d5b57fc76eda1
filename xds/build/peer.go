package build

import (
	"cmp"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
)

// peerPolicy is what a workload accepts from clients, from the
// PeerAuthentications that hold for it.
type peerPolicy struct {
	workload *model.PeerAuthentication // selects it; may be nil
	base     model.MTLSMode            // of its namespace, or the mesh
}

// newPeerPolicy picks among the PeerAuthentications of the workload's own and
// of the root namespace: the oldest that selects the workload, then the oldest
// of the namespace, then the oldest of the mesh.
func newPeerPolicy(w *model.Workload, root string, all []*model.PeerAuthentication) *peerPolicy {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b *model.PeerAuthentication) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Key(), b.Key()))
	})
	p := &peerPolicy{}
	var namespace, mesh model.MTLSMode
	for _, pa := range sorted {
		switch {
		case pa.Namespace == w.Namespace && pa.Selector != nil:
			if p.workload == nil && matchLabels(pa.Selector, w.Labels) {
				p.workload = pa
			}
		case pa.Selector != nil:
			// A selector in the root namespace is about that namespace.
		case pa.Namespace == w.Namespace && w.Namespace != root:
			namespace = firstSet(namespace, pa.Mode)
		case pa.Namespace == root:
			mesh = firstSet(mesh, pa.Mode)
		}
	}
	p.base = firstSet(namespace, mesh, model.MTLSPermissive)
	return p
}

func firstSet(modes ...model.MTLSMode) model.MTLSMode {
	for _, m := range modes {
		if m != model.MTLSUnset {
			return m
		}
	}
	return model.MTLSUnset
}

// mode is what holds for a port of the workload; port 0 is any port that has no
// mode of its own.
func (p *peerPolicy) mode(port uint16) model.MTLSMode {
	if p.workload == nil {
		return p.base
	}
	return firstSet(p.workload.Ports[port], p.workload.Mode, p.base)
}

// ports are those with a mode of their own, sorted.
func (p *peerPolicy) ports() []uint16 {
	if p.workload == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(p.workload.Ports))
}
