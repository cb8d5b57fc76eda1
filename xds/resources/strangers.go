package resources

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// maxStrangeClusters is of how many clusters that are not read gateways may
// connect at a time. What a cluster's proxies see is kept for them, some
// megabytes in a large mesh, and a proxy says itself which cluster it is of.
const maxStrangeClusters = 8

// admitLocked refuses proxies of a cluster that this control plane does not
// read: what they are to see, nobody could say. The errors are passing, for the
// cluster may be on its way.
//
// Its gateways are let in. An installation in a cluster that joins the mesh is
// not complete until they are ready, and only then people give the control plane
// the Secret by which it reads the cluster: gateways that waited for it would
// wait for ever. There is nothing of their own cluster that they could pass
// anybody through to until then. Whoever has no identity of the mesh stays out.
func (s *Source) admitLocked(r *reader, p *proxy, id identity.ID) error {
	if s.reads(r.txn, p.cluster) {
		return s.ownPodLocked(r, p, id)
	}
	if p.kind != xds.KindRouter || id.IsZero() {
		return status.Errorf(codes.Unavailable, "discovery does not read a cluster %.100q: its own is %q; "+
			"give it the Secret of that cluster (create-remote-secret --name %.100s), or mend the proxy's CLUSTER_ID, which comes from "+
			"values.global.multiCluster.clusterName of the installation that injected it", p.cluster, s.cfg.Cluster, p.cluster)
	}

	strange := map[model.ClusterID]bool{}
	for _, v := range s.views {
		if v := v.Value(); v != nil && !s.reads(r.txn, v.scope.key.cluster) {
			strange[v.scope.key.cluster] = true
		}
	}
	if !strange[p.cluster] && len(strange) >= maxStrangeClusters {
		return status.Errorf(codes.Unavailable, "discovery does not read a cluster %.100q, and gateways of %d others that it does not read are connected: "+
			"give it the Secrets of those clusters (create-remote-secret)", p.cluster, len(strange))
	}
	if !strange[p.cluster] {
		s.cfg.Logger.Warn("a gateway connects of a cluster that is not read; its other proxies wait until it is",
			"cluster", string(p.cluster), "mend", "create-remote-secret --name "+string(p.cluster))
	}
	return nil
}

// ownPodLocked refuses a proxy that takes itself for another's pod: a certificate
// says whose account a proxy has and nothing of its cluster, where an account of the
// same name may be another's.
func (s *Source) ownPodLocked(r *reader, p *proxy, id identity.ID) error {
	w, _, ok := s.store.Workloads.Get(r.txn, s.store.Workloads.ByKey(model.WorkloadKey(p.cluster, p.namespace, p.name)))
	if !ok || id.IsZero() || w.Namespace == id.Namespace && w.Account == id.ServiceAccount {
		return nil
	}
	return status.Errorf(codes.PermissionDenied, "pod %s/%s of cluster %q has the service account %s, but the caller is %s", p.namespace, p.name, p.cluster, w.Account, id)
}

func (s *Source) reads(txn model.ReadTxn, cluster model.ClusterID) bool {
	_, _, ok := s.store.Clusters.Get(txn, s.store.Clusters.ByKey(string(cluster)))
	return ok
}
