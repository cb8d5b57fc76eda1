package httpproxy

import (
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
)

// countedCluster caches the telemetry handles of the cluster that a connection used last, for calls in which
// this proxy is the destination. One goroutine uses it.
type countedCluster struct {
	cluster *config.Cluster    // in this version: its service is a label
	handles [2]*telemetry.HTTP // plain, gRPC
}

func (k *countedCluster) get(t *telemetry.Telemetry, info *downstream.Info, c *call) *telemetry.HTTP {
	var now *config.Cluster
	if c.cluster != nil {
		now = c.cluster.Config()
	}
	if k.cluster != now {
		*k = countedCluster{cluster: now}
	}
	i := index(c.GRPC)
	if k.handles[i] == nil {
		k.handles[i] = t.HTTPFor(info, c.cluster, nil, "", c.GRPC)
	}
	return k.handles[i]
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// count returns the telemetry handles for calls in which this proxy is the source.
func (p *endpointPool) count(t *telemetry.Telemetry, info *downstream.Info, grpc bool) *telemetry.HTTP {
	slot := &p.counters[index(grpc)]
	if h := slot.Load(); h != nil {
		return h
	}
	principal := ""
	if id := p.principal.Load(); id != nil {
		principal = *id
	}
	h := t.HTTPFor(info, p.ep.Cluster(), p.ep, principal, grpc)
	slot.Store(h)
	return h
}
