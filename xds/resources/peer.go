package resources

import (
	"cmp"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
)

// peers is every PeerAuthentication, by the namespace that it is in. It is
// immutable.
type peers struct {
	root        string
	byNamespace map[string][]*model.PeerAuthentication
}

// peersOf asks for all PeerAuthentications.
type peersOf struct{ source *Source }

func (q peersOf) build(r *reader, _ *peers) *peers {
	p := &peers{root: q.source.mesh.get(r).RootNamespace, byNamespace: map[string][]*model.PeerAuthentication{}}
	for pa := range readAll(r, &q.source.store.Peers) {
		p.byNamespace[pa.Namespace] = append(p.byNamespace[pa.Namespace], pa)
	}
	return p
}

// sources are those that say something about a namespace.
func (p *peers) sources(namespace string) []*model.PeerAuthentication {
	if namespace == p.root {
		return p.byNamespace[namespace]
	}
	return slices.Concat(p.byNamespace[namespace], p.byNamespace[p.root])
}

// policy returns what the workloads of a namespace accept, remembered.
func (s *Source) policy(r *reader, namespace string) *namespacePolicy {
	return s.policies.get(r, policyOf{s, namespace})
}

// policyOf asks for the policy of a namespace.
type policyOf struct {
	source    *Source
	namespace string
}

// build keeps the policy while the same PeerAuthentications hold, so that what
// was built with it stays good.
func (q policyOf) build(r *reader, old *namespacePolicy) *namespacePolicy {
	p := q.source.peers.get(r)
	if old != nil && old.root == p.root && slices.Equal(old.sources, p.sources(q.namespace)) {
		return old
	}
	return p.in(q.namespace)
}

// in works out the policy of a namespace.
func (p *peers) in(namespace string) *namespacePolicy {
	return newNamespacePolicy(namespace, p.root, p.sources(namespace))
}

// namespacePolicy is what the workloads of one namespace accept from clients.
// It is immutable.
type namespacePolicy struct {
	root      string
	sources   []*model.PeerAuthentication
	selectors []*model.PeerAuthentication // for some workloads; the oldest first
	base      model.MTLSMode              // for all others
}

// newNamespacePolicy sorts the PeerAuthentications that count in a namespace out
// of its own and those of the root namespace: those that select workloads, then
// the oldest of the namespace, then the oldest of the mesh.
func newNamespacePolicy(own, root string, sources []*model.PeerAuthentication) *namespacePolicy {
	sorted := slices.Clone(sources)
	slices.SortStableFunc(sorted, func(a, b *model.PeerAuthentication) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Key(), b.Key()))
	})

	n := &namespacePolicy{root: root, sources: sources}
	var namespace, mesh model.MTLSMode
	for _, pa := range sorted {
		switch {
		case pa.Namespace == own && pa.Selector != nil:
			n.selectors = append(n.selectors, pa)
		case pa.Selector != nil:
			// A selector in the root namespace is about that namespace.
		case pa.Namespace == own && own != root:
			namespace = firstSet(namespace, pa.Mode)
		case pa.Namespace == root:
			mesh = firstSet(mesh, pa.Mode)
		}
	}
	n.base = firstSet(namespace, mesh, model.MTLSPermissive)
	return n
}

// of is what holds for a workload with the labels.
func (n *namespacePolicy) of(labels map[string]string) peerPolicy {
	p := peerPolicy{base: n.base}
	for _, pa := range n.selectors {
		if matchLabels(pa.Selector, labels) {
			p.workload = pa
			break
		}
	}
	return p
}

// mutual tells whether an endpoint of the namespace takes mutual TLS on one of
// its ports: its proxy does, and no policy has switched it off there.
func (n *namespacePolicy) mutual(ep *model.Endpoint, port uint16) bool {
	if !ep.TakesMutual(port) {
		return false
	}
	p := n.of(ep.Labels)
	return p.mode(port) != model.MTLSDisable
}

// peerPolicy is what one workload accepts from clients.
type peerPolicy struct {
	workload *model.PeerAuthentication // selects it; may be nil
	base     model.MTLSMode            // of its namespace, or the mesh
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
