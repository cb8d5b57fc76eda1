package proxy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// Dump is the configuration in force, for the admin port. It marshals to
// JSON and holds no private keys.
type Dump struct {
	Listeners []*config.Listener
	// Waiting are listeners whose routes have not come yet.
	Waiting  []*config.Listener
	Routes   []*config.RouteConfig
	Clusters []*config.Cluster
}

// ClusterState is a cluster with its endpoints as they are now.
type ClusterState struct {
	Name      string
	Endpoints []EndpointState // by priority, then address
}

// EndpointState is an endpoint as it is now. `istioctl x locality` reads it.
type EndpointState struct {
	Address  netip.AddrPort
	Hostname string `json:",omitempty"`
	Workload config.Workload
	TLS      bool
	Active   int64
	Ejected  bool
	// EjectedUntil is when it may be let in again.
	EjectedUntil time.Time `json:",omitzero"`
	// Doubted tells that it has failed a moment ago, and requests go elsewhere until
	// one has found out.
	Doubted bool `json:",omitempty"`
	// Unhealthy tells that discovery marks it so.
	Unhealthy bool `json:",omitempty"`
	Priority  uint32
	Region    string `json:",omitempty"`
	Zone      string `json:",omitempty"`
	SubZone   string `json:",omitempty"`
	Weight    uint32
	// Gateway tells that it is one of another network's, which stands for the
	// endpoints behind it; the network is Network.
	Gateway bool   `json:",omitempty"`
	Network string `json:",omitempty"`
	// Share is its part of the requests that are no retries, from 0 to 1.
	Share float64
}

// ConfigDump returns the configuration in force, sorted by name.
func (p *Proxy) ConfigDump() any {
	p.mu.Lock()
	defer p.mu.Unlock()

	d := Dump{Listeners: p.listeners.Listeners()}
	for _, l := range p.pending {
		d.Waiting = append(d.Waiting, l)
	}
	for _, t := range p.routes {
		if table := t.slot.Load(); table != nil {
			d.Routes = append(d.Routes, whole(table))
		}
	}

	p.clusters.All(func(c *upstream.Cluster) { d.Clusters = append(d.Clusters, c.Config()) })
	byName := func(a, b *config.Listener) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(d.Listeners, byName)
	slices.SortFunc(d.Waiting, byName)
	slices.SortFunc(d.Routes, func(a, b *config.RouteConfig) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(d.Clusters, func(a, b *config.Cluster) int { return cmp.Compare(a.Name, b.Name) })
	return d
}

// whole is a route configuration with all its virtual hosts, those that came by
// themselves last and sorted by name.
func whole(t *routes.Table) *config.RouteConfig {
	apart := t.Apart()
	if len(apart) == 0 {
		return t.Config()
	}
	slices.SortFunc(apart, func(a, b *config.VirtualHost) int { return cmp.Compare(a.Name, b.Name) })
	rc := *t.Config()
	rc.VirtualHosts = slices.Concat(rc.VirtualHosts, apart)
	return &rc
}

// ClusterDump returns the endpoints of every cluster, sorted by name.
func (p *Proxy) ClusterDump() any {
	var out []ClusterState
	p.clusters.All(func(c *upstream.Cluster) {
		s := ClusterState{Name: c.Name(), Endpoints: []EndpointState{}}
		for _, e := range c.States() {
			s.Endpoints = append(s.Endpoints, EndpointState{
				Address: e.Addr(), Hostname: e.Hostname(), Workload: e.Workload(),
				TLS: e.TLS() != nil, Active: e.Active(),
				Ejected: e.Ejected(), EjectedUntil: e.EjectedUntil, Doubted: e.Doubted, Unhealthy: e.Unhealthy,
				Priority: e.Priority, Region: e.Region, Zone: e.Zone, SubZone: e.SubZone,
				Weight: e.Weight, Gateway: e.Gateway, Network: e.Network, Share: e.Share,
			})
		}
		out = append(out, s)
	})
	slices.SortFunc(out, func(a, b ClusterState) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
