package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// longestLease bounds how long a drill goes on that nobody renews.
const longestLease = 15 * time.Second

// drill is a failure on purpose: one cluster's endpoints of one host.
type drill struct {
	host, cluster string
	end           *time.Timer
}

// hits tells whether an endpoint is to fail.
func (d *drill) hits(e *upstream.Endpoint) bool {
	host, out := outboundHost(e.Cluster().Name())
	return out && host == d.host && e.Workload().Cluster == d.cluster
}

// outboundHost is the host of a cluster that is named as discovery names those of
// services: outbound|PORT|SUBSET|HOST.
func outboundHost(name string) (string, bool) {
	parts := strings.Split(name, "|")
	if len(parts) != 4 || parts[0] != "outbound" {
		return "", false
	}
	return parts[3], true
}

// Drill makes the endpoints of a host that are in one cluster of the mesh unreachable
// for this proxy, as if that cluster had gone, until the lease is over; saying so again
// renews it. It is refused where no other endpoint in use would be left, and while
// another drill goes on. It changes nothing outside this process.
func (p *Proxy) Drill(host, cluster string, lease time.Duration) error {
	if host == "" || cluster == "" {
		return errors.New("a drill needs a host and cluster")
	}
	if lease <= 0 || lease > longestLease {
		return fmt.Errorf("a lease of %s is not possible: above 0s and up to %s, to be renewed in time", lease, longestLease)
	}

	p.drillMu.Lock()
	defer p.drillMu.Unlock()
	if d := p.drill; d != nil {
		if d.host != host || d.cluster != cluster {
			return fmt.Errorf("a drill with host %q and cluster %q goes on; it ends by itself within %s", d.host, d.cluster, longestLease)
		}
		d.end.Reset(lease)
		return nil
	}

	d := &drill{host: host, cluster: cluster}
	hit := p.clusters.Survives(d.hits)
	if len(hit) == 0 {
		return fmt.Errorf("host %q has no endpoints in cluster %q, as this proxy sees it", host, cluster)
	}
	for _, name := range slices.Sorted(maps.Keys(hit)) {
		if !hit[name] {
			return fmt.Errorf("refused: without cluster %q no endpoint of %s is left that is in use, and calls would fail", cluster, name)
		}
	}

	d.end = time.AfterFunc(lease, func() { p.endDrill(d) })
	p.drill = d
	p.clusters.Fail(d.hits)
	p.log.Warn("a drill has begun: endpoints are failed on purpose", "host", host, "cluster", cluster)
	return nil
}

// EndDrill ends the drill, if there is one.
func (p *Proxy) EndDrill() { p.endDrill(nil) }

// endDrill ends a drill, whichever there is if d is nil.
func (p *Proxy) endDrill(d *drill) {
	p.drillMu.Lock()
	defer p.drillMu.Unlock()
	if p.drill == nil || d != nil && d != p.drill {
		return
	}
	p.drill.end.Stop()
	p.clusters.Fail(nil)
	p.log.Warn("the drill has ended", "host", p.drill.host, "cluster", p.drill.cluster)
	p.drill = nil
}
