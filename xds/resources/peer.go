package resources

import (
	"cmp"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
)

// peers is every PeerAuthentication, by the namespace that it is in. It is
// immutable but for what it has worked out, which the Source's lock guards.
type peers struct {
	root        string
	byNamespace map[string][]*model.PeerAuthentication // oldest first
	policies    map[string]*namespacePolicy
}

// newPeers reads all PeerAuthentications. A namespace for which the same ones
// hold as before keeps its policy, so that what was built with it stays good.
func newPeers(store *model.Store, txn model.ReadTxn, root string, old *peers) *peers {
	p := &peers{root: root, byNamespace: map[string][]*model.PeerAuthentication{}, policies: map[string]*namespacePolicy{}}
	for pa := range store.Peers.All(txn) {
		p.byNamespace[pa.Namespace] = append(p.byNamespace[pa.Namespace], pa)
	}
	if old == nil {
		return p
	}
	for namespace, policy := range old.policies {
		if old.root == root && slices.Equal(policy.sources, p.sources(namespace)) {
			p.policies[namespace] = policy
		}
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

// in returns the policy of a namespace.
func (p *peers) in(namespace string) *namespacePolicy {
	policy := p.policies[namespace]
	if policy == nil {
		policy = newNamespacePolicy(namespace, p.root, p.sources(namespace))
		p.policies[namespace] = policy
	}
	return policy
}

// namespacePolicy is what the workloads of one namespace accept from clients.
// It is immutable.
type namespacePolicy struct {
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
	n := &namespacePolicy{sources: sources}
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
