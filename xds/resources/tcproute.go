package resources

import (
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-mesh/isthmus/model"
)

// tcpRoute is where a connection goes, and how long it may last.
type tcpRoute struct {
	cluster string
	times   tcpTimes
}

// tcpTimes are the bounds of a connection.
type tcpTimes struct {
	// idle is how long nothing may move on it before it is closed: zero leaves it to
	// the proxy (1 h); with idleGiven, it is for ever.
	idle      time.Duration
	idleGiven bool
	age       time.Duration // it is closed after so long in any case; 0: never
}

// tcpTimesOf are the bounds that a rule sets for connections to a port of its host.
func tcpTimesOf(rule *model.DestinationRule, port uint16) tcpTimes {
	pool := policyFor(rule, nil, port).ConnectionPool
	if pool == nil {
		return tcpTimes{}
	}
	t := tcpTimes{age: pool.MaxAge}
	if pool.TCPIdle != nil {
		t.idle, t.idleGiven = *pool.TCPIdle, true
	}
	return t
}

// filter sends the connection on.
func (t tcpRoute) filter(mesh *model.Mesh) *listenerv3.Filter {
	p := &tcpv3.TcpProxy{
		StatPrefix:       t.cluster,
		ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: t.cluster},
		AccessLog:        accessLog(mesh),
	}
	if t.times.idleGiven {
		p.IdleTimeout = durationpb.New(t.times.idle)
	}
	if t.times.age > 0 {
		p.MaxDownstreamConnectionDuration = durationpb.New(t.times.age)
	}
	return filter("envoy.filters.network.tcp_proxy", p)
}

// tcpProxy sends the connection to a cluster.
func tcpProxy(mesh *model.Mesh, cluster string) *listenerv3.Filter {
	return tcpRoute{cluster: cluster}.filter(mesh)
}
