package resources

import (
	"slices"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-mesh/isthmus/model"
)

// tcpRoute is where a connection goes, and how long it may last.
type tcpRoute struct {
	// cluster has all connections, unless split are those that share them.
	cluster string
	split   []clusterShare
	times   tcpTimes
}

// clusterShare is a cluster with its weight.
type clusterShare struct {
	cluster string
	weight  uint32
}

// add adds a destination.
func (t *tcpRoute) add(cluster string, weight uint32) {
	if t.cluster == "" {
		t.cluster, t.split = cluster, append(t.split, clusterShare{cluster, weight})
		return
	}
	t.split = append(t.split, clusterShare{cluster, weight})
}

// orNowhere is the route once its destinations are complete: closed, where there are none.
func (t tcpRoute) orNowhere() tcpRoute {
	if t.cluster == "" {
		t.cluster = blackHoleCluster
	}
	if len(t.split) == 1 {
		t.split = nil
	}
	return t
}

func (t tcpRoute) equal(o tcpRoute) bool {
	return t.cluster == o.cluster && t.times == o.times && slices.Equal(t.split, o.split)
}

// tcpTimes are the bounds of a connection.
type tcpTimes struct {
	// idle is how long nothing may move on it before it is closed: zero leaves it to
	// the proxy (1 h); with idleGiven, it is for ever.
	idle      time.Duration
	idleGiven bool
	age       time.Duration // it is closed after so long in any case; 0: never
}

// tcpTimesOf are the bounds that a rule sets for connections to a port of its host, and
// to a subset there.
func tcpTimesOf(rule *model.DestinationRule, subset string, port uint16) tcpTimes {
	pool := policyFor(rule, subsetOf(rule, subset), port).ConnectionPool
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
	if len(t.split) > 0 {
		split := &tcpv3.TcpProxy_WeightedCluster{}
		for _, s := range t.split {
			split.Clusters = append(split.Clusters, &tcpv3.TcpProxy_WeightedCluster_ClusterWeight{Name: s.cluster, Weight: s.weight})
		}
		p.ClusterSpecifier = &tcpv3.TcpProxy_WeightedClusters{WeightedClusters: split}
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
