package kube

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// writeEntrance writes whether and how a Service is reached from outside the
// cluster. svc is nil when there is no such Service any more.
func (r *Reader) writeEntrance(txn model.WriteTxn, s ref, svc *corev1.Service) {
	key := model.EntranceKey(r.cfg.Cluster, s.namespace, s.name)
	delete(r.atNodes, s)
	if svc == nil {
		delete(r.entrancesTold, s)
		r.store.Entrances.Remove(txn, key)
		return
	}

	var nodes []compile.Node
	if compile.AsksForNodes(svc) {
		r.atNodes[s] = true
		for _, n := range r.nodes {
			nodes = append(nodes, n)
		}
	}
	row, problem := compile.Entrance(r.cfg.Cluster, svc, r.cfg.ClusterDomain, nodes)
	r.tellEntrance(s, problem)
	if row == nil {
		r.store.Entrances.Remove(txn, key)
		return
	}
	r.store.Entrances.Put(txn, row)
}

// tellEntrance says once, until it is another thing, what is wrong with a Service
// as a way into its cluster.
func (r *Reader) tellEntrance(s ref, problem string) {
	if r.entrancesTold[s] == problem {
		return
	}
	if problem == "" {
		delete(r.entrancesTold, s)
		return
	}
	r.entrancesTold[s] = problem
	r.log.Warn("a Service is not reached from other networks as it asks to be", "namespace", s.namespace, "service", s.name, "problem", problem)
}
