package resources

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// Imports are what clusters export, as the clients of the control plane's own
// cluster see it, but for namespaces that it does not have; sorted by host. The
// channel is closed when it may be something else.
func (s *Source) Imports() (model.Imports, <-chan struct{}) {
	// Taken before anything is read, so that no change falls between.
	changed, _ := s.hub.topic(xds.TypeCluster)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.newReaderLocked()

	out := model.Imports{Complete: true}
	for c := range readAll(r, &s.store.Clusters) {
		out.Complete = out.Complete && c.Synced
	}
	for _, h := range s.hosts.get(r, hostsOf{s, s.cfg.Cluster}).list {
		first := h.primary()
		home := model.Namespace{Cluster: s.cfg.Cluster, Name: first.Namespace}
		if h.vantage.clusterSet && readRow(r, &s.store.Namespaces, home.Key()) != nil {
			out.List = append(out.List, h.asImport(r))
		}
	}
	return out, changed
}

// asImport is what is exported as one Service. What the mesh does not carry or
// honour, ports of other transports than TCP and session affinity, is in it too:
// others may, and the conditions of the ServiceExports tell of it.
func (h *host) asImport(r *reader) model.Import {
	first := h.firstSeen()
	out := model.Import{Namespace: first.Namespace, Name: first.Name, Headless: h.primary().Headless}
	if !out.Headless {
		out.Address = first.Allocated
	}

	var offered []*model.Offer
	for _, row := range h.rows {
		out.Clusters = append(out.Clusters, row.Cluster)
		e := readRow(r, &h.source.store.Exports, model.ExportKey(row.Cluster, row.Namespace, row.Name))
		if e != nil && e.Offer != nil {
			offered = append(offered, e.Offer)
		}
	}
	out.Ports = union(offered)
	if len(offered) > 0 {
		out.Affinity = offered[0].Affinity
	}
	slices.Sort(out.Clusters)
	return out
}
