package compile

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// Node is what pods and Services take from a node.
type Node struct {
	Locality model.Locality
	// Network is the one that the node's label names, or empty.
	Network string
	// Addresses are those under which others reach it, sorted: the external
	// ones, or, where it has none, the internal ones.
	Addresses []string
	// Ready tells that it runs pods; of one that does not answer nobody knows.
	Ready  bool
	Labels map[string]string
}

// NodeOf reads a node.
func NodeOf(node *corev1.Node) Node {
	return Node{
		Locality:  nodeLocality(node.Labels),
		Network:   node.Labels[LabelNetwork],
		Addresses: nodeAddresses(node),
		Ready:     nodeReady(node),
		Labels:    node.Labels,
	}
}

// SameForPods tells whether pods take the same from both.
func (n *Node) SameForPods(o *Node) bool { return n.Locality == o.Locality && n.Network == o.Network }

func nodeAddresses(node *corev1.Node) []string {
	for _, kind := range []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP} {
		var out []string
		for _, a := range node.Status.Addresses {
			if a.Type == kind && a.Address != "" {
				out = append(out, a.Address)
			}
		}
		if len(out) > 0 {
			slices.Sort(out)
			return slices.Compact(out)
		}
	}
	return nil
}

// nodeReady takes a node that says nothing of itself for a ready one.
func nodeReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return true
}
