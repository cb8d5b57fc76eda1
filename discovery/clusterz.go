package discovery

import "github.com/isthmus-mesh/isthmus/kube/clusters"

// clusterStates are the states of the mesh's clusters, with what leads into the
// network of each.
func (s *Server) clusterStates() []clusters.State {
	states, report := s.remotes.States(), s.source.Report()
	for i := range states {
		c := &states[i]
		c.Network = report.Clusters[c.Cluster]
		if c.Network != "" {
			c.Gateways = len(report.Gateways[c.Network])
		}
	}
	return states
}
