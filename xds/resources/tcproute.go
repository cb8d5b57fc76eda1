package resources

import (
	"slices"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-mesh/isthmus/model"
)

// tcpRoute is where a connection goes, and by what policy.
type tcpRoute struct {
	// cluster has all connections, unless split are those that share them.
	cluster string
	split   []clusterShare
	policy  tcpPolicy
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
	return t.cluster == o.cluster && t.policy == o.policy && slices.Equal(t.split, o.split)
}

// tcpPolicy is what a DestinationRule has to say of a connection beside its cluster: its
// bounds, and by what its endpoint is picked.
type tcpPolicy struct {
	// idle is how long nothing may move on it before it is closed: zero leaves it to
	// the proxy (1 h); with idleGiven, it is for ever.
	idle      time.Duration
	idleGiven bool
	age       time.Duration // it is closed after so long in any case; 0: never
	// bySource has the client's address decide which endpoint it goes to.
	bySource bool
}

// tcpPolicyOf is what a rule says of connections to a port of its host, and to a subset
// there.
func tcpPolicyOf(rule *model.DestinationRule, subset string, port uint16) tcpPolicy {
	pol := policyFor(rule, subsetOf(rule, subset), port)
	t := tcpPolicy{bySource: pol.Hash != nil && pol.Hash.SourceIP}
	if pool := pol.ConnectionPool; pool != nil {
		t.age = pool.MaxAge
		if pool.TCPIdle != nil {
			t.idle, t.idleGiven = *pool.TCPIdle, true
		}
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
	if t.policy.idleGiven {
		p.IdleTimeout = durationpb.New(t.policy.idle)
	}
	if t.policy.age > 0 {
		p.MaxDownstreamConnectionDuration = durationpb.New(t.policy.age)
	}
	if t.policy.bySource {
		p.HashPolicy = []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}}}}
	}
	return filter("envoy.filters.network.tcp_proxy", p)
}

// tcpProxy sends the connection to a cluster.
func tcpProxy(mesh *model.Mesh, cluster string) *listenerv3.Filter {
	return tcpRoute{cluster: cluster}.filter(mesh)
}
