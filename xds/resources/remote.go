package resources

import (
	"cmp"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// remoteNamespace is NAMESPACE of a ServiceEntry's host NAME.NAMESPACE.GLOBALDOMAIN:
// the one that the service lies in, in the cluster that answers. It is empty for
// all other hosts.
//
// Any namespace may declare such a host, so what it says of the service's
// identity is bounded by this: the certificate must be of NAMESPACE.
func remoteNamespace(h *host) string {
	if h.primary().Origin != model.FromServiceEntry {
		return ""
	}
	inner, ok := strings.CutSuffix(h.name, "."+h.source.cfg.GlobalDomain)
	if !ok {
		return ""
	}
	name, namespace, ok := strings.Cut(inner, ".")
	if !ok || name == "" || strings.HasPrefix(name, "*") || strings.Contains(namespace, ".") {
		return ""
	}
	return namespace
}

// ruleNamespace is the namespace whose DestinationRules and VirtualServices speak for
// the host: that of its service, wherever the host is declared.
func ruleNamespace(h *host) string {
	return cmp.Or(remoteNamespace(h), h.primary().Namespace)
}

// peerNames are the names that a peer may prove. Any one of them will do; with
// none at all, nobody is let in.
type peerNames struct {
	exact    []string
	prefixes []string
}

// trustDomains are the mesh's own and those that count as it.
func trustDomains(mesh *model.Mesh) []string {
	return append([]string{mesh.TrustDomain}, mesh.TrustDomainAliases...)
}

// anyPeer is any identity of the mesh; within a namespace, when one is given.
func anyPeer(mesh *model.Mesh, namespace string) peerNames {
	var n peerNames
	for _, domain := range trustDomains(mesh) {
		prefix := "spiffe://" + domain + "/"
		if namespace != "" {
			prefix += "ns/" + namespace + "/"
		}
		n.prefixes = append(n.prefixes, prefix)
	}
	return n
}

// within keeps the exact names that are SPIFFE ids of the namespace, in any
// trust domain: what the mesh's root signs is the mesh's to name. When none is
// left the names contradict the host, and a name that no certificate carries
// keeps everybody out.
func (n peerNames) within(namespace string) peerNames {
	var kept []string
	for _, name := range n.exact {
		id, ok := strings.CutPrefix(name, "spiffe://")
		_, path, _ := strings.Cut(id, "/")
		if ok && strings.HasPrefix(path, "ns/"+namespace+"/") {
			kept = append(kept, name)
		}
	}
	if len(kept) == 0 {
		kept = []string{"spiffe://none/ns/" + namespace + "/sa/"}
	}
	return peerNames{exact: kept}
}
