package discovery

import "github.com/isthmus-mesh/isthmus/kube/clusters"

// clusterStates are the states of the mesh's clusters, with what leads into the
// network of each, and what may not be written into it.
func (s *Server) clusterStates() []clusters.State {
	states, report := s.remotes.States(), s.source.Report()
	refused := s.exports.Refused()
	for i := range states {
		c := &states[i]
		c.Network = report.Clusters[c.Cluster]
		if c.Network != "" {
			c.Gateways = len(report.Gateways[c.Network])
		}
		if c.Reason == "" {
			c.Reason = refused[c.Cluster]
		}
	}
	return states
}
