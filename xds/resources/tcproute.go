package resources

import (
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-mesh/isthmus/model"
)

// tcpRoute is where a connection goes, and how long it may be silent.
type tcpRoute struct {
	cluster string
	idle    idleTime
}

// idleTime is how long nothing may move on a connection before it is closed: zero
// leaves it to the proxy (1 h); given as 0, it is for ever.
type idleTime struct {
	given bool
	after time.Duration
}

// idleOf is the idle time that a rule sets for connections to a port of its host.
func idleOf(rule *model.DestinationRule, port uint16) idleTime {
	pool := policyFor(rule, nil, port).ConnectionPool
	if pool == nil || pool.TCPIdle == nil {
		return idleTime{}
	}
	return idleTime{true, *pool.TCPIdle}
}

// filter sends the connection on.
func (t tcpRoute) filter(mesh *model.Mesh) *listenerv3.Filter {
	p := &tcpv3.TcpProxy{
		StatPrefix:       t.cluster,
		ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: t.cluster},
		AccessLog:        accessLog(mesh),
	}
	if t.idle.given {
		p.IdleTimeout = durationpb.New(t.idle.after)
	}
	return filter("envoy.filters.network.tcp_proxy", p)
}

// tcpProxy sends the connection to a cluster.
func tcpProxy(mesh *model.Mesh, cluster string) *listenerv3.Filter {
	return tcpRoute{cluster: cluster}.filter(mesh)
}
