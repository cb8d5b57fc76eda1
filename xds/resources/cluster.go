package resources

import (
	"cmp"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// Names of clusters that every sidecar has.
const (
	passthroughCluster        = "PassthroughCluster"
	blackHoleCluster          = "BlackHoleCluster"
	inboundPassthroughCluster = "InboundPassthroughCluster"
)

// clusterKey asks for a cluster of a host.
type clusterKey struct {
	host   *host
	port   uint16
	subset string
	// rule is the DestinationRule that counts, or nil. Scopes by the same rule
	// share the cluster.
	rule *model.DestinationRule
	// sni tells a gateway's cluster, which is named by server name and
	// passes TLS through; alias is its host name when not the host's own.
	sni   bool
	alias string
	// routed tells a gateway's cluster for a headless service, to which its clients
	// have not chosen an address.
	routed bool
	// edge tells a gateway's cluster for requests that it has read: what HTTP version
	// its clients speak says nothing of what the application does.
	edge bool
	// from is where the clients stand, of a cluster that depends on it.
	from *place
}

func (k clusterKey) build(r *reader, old *serve.Resource) *serve.Resource {
	s, port := k.host.source, k.host.port(k.port)
	b := clusterBuilder{
		mesh: s.mesh.get(r), policy: s.policy(r, port.namespace()), members: s.members.get(r),
		host: k.host, port: port, key: k,
	}
	for _, row := range k.host.backing(port) {
		if t := readRow(r, &s.store.Traits, row.Key()); t != nil {
			b.traits = append(b.traits, t)
		}
	}

	name, c := b.build()
	return s.encode(old, name, c)
}

// clustersOf asks for all clusters towards the hosts of a scope.
type clustersOf struct{ scope *scope }

// sharedClusters are the clusters of a scope. They are immutable.
type sharedClusters struct {
	byName map[string]*serve.Resource
	// placed are those that are not the same for all proxies of the scope.
	placed []clusterKey
}

func (q clustersOf) build(r *reader, _ *sharedClusters) *sharedClusters {
	g := q.scope.ground.get(r)
	out := &sharedClusters{byName: map[string]*serve.Resource{}}
	for _, h := range g.sight.hosts {
		rule := g.ruleFor(q.scope, h)
		for i := range h.ports {
			for _, k := range clusterKeys(h, h.ports[i].Number, rule) {
				if k.dependsOnPlace(g.mesh) {
					out.placed = append(out.placed, k)
					continue
				}
				res := h.clusters.get(r, k)
				out.byName[res.Name] = res
			}
		}
	}
	return out
}

// order is how the endpoints of the cluster are ordered.
func (k clusterKey) order(mesh *model.Mesh) order {
	pol := policyFor(k.rule, subsetOf(k.rule, k.subset), k.port)
	return orderFor(mesh, pol, k.host.port(k.port).svc, k.sni)
}

// dependsOnPlace tells whether proxies of several places are sent different
// clusters: where names are to be resolved, a cluster lists its endpoints itself.
// Of one endpoint there is nothing to order.
func (k clusterKey) dependsOnPlace(mesh *model.Mesh) bool {
	port := k.host.port(k.port)
	if port.svc.Resolution != model.ByDNS || k.order(mesh).off() {
		return false
	}
	endpoints, differ := 0, len(k.order(mesh).labels()) > 0
	for _, row := range k.host.backing(port) {
		endpoints += len(row.Resolved)
		for i := range row.Resolved {
			differ = differ || row.Resolved[i].Locality != ""
		}
	}
	return endpoints > 1 && differ
}

// clusterKeys are the clusters of a port: that of the host, and one per subset.
func clusterKeys(h *host, port uint16, rule *model.DestinationRule) []clusterKey {
	keys := []clusterKey{{host: h, port: port, rule: rule}}
	if rule != nil {
		for i := range rule.Subsets {
			keys = append(keys, clusterKey{host: h, port: port, rule: rule, subset: rule.Subsets[i].Name})
		}
	}
	return keys
}

// clusterBuilder builds one cluster.
type clusterBuilder struct {
	mesh   *model.Mesh
	host   *host
	port   *hostPort
	key    clusterKey
	traits []*model.Traits
	policy *namespacePolicy
	// members tells which endpoints of a headless service clients reach.
	members *membership
	// http2 tells that endpoints are spoken to in HTTP/2, whatever clients speak.
	http2 bool
}

func (b *clusterBuilder) build() (string, *clusterv3.Cluster) {
	name := clusterName(b.key.port, b.key.subset, b.host.name)
	subset := subsetOf(b.key.rule, b.key.subset)
	pol := policyFor(b.key.rule, subset, b.key.port)
	b.http2 = onlyHTTP2(b.port.Protocol, pol.ConnectionPool)
	c := &clusterv3.Cluster{
		Name:           name,
		ConnectTimeout: durationpb.New(b.connectTimeout(pol.ConnectionPool)),
		LbPolicy:       lbPolicy(pol.LoadBalancing, b.key.hashPolicy(pol)),
		Metadata:       serviceMetadata([]*model.Service{b.port.svc}, b.host.name),

		OutlierDetection: outlierDetection(pol.Outlier),
		CircuitBreakers:  circuitBreakers(pol),

		UpstreamConnectionOptions: connectionOptions(b.mesh, pol.ConnectionPool),
	}
	if threshold := panicThreshold(pol.Outlier); threshold != nil {
		c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: threshold}
	}
	if b.order().shared() && b.resolution() != model.ByDestination {
		if c.CommonLbConfig == nil {
			c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{}
		}
		c.CommonLbConfig.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
			LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
		}
	}

	if b.key.sni {
		// Under another name the endpoints are the same ones.
		edsName := sniName(b.key.port, b.key.subset, b.host.name)
		hostName := cmp.Or(b.key.alias, b.host.name)
		c.Name = sniName(b.key.port, b.key.subset, hostName)
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource(), ServiceName: edsName}
		balance(c, pol)
		return c.Name, c
	}

	b.discovery(c, subset)
	balance(c, pol)
	c.TypedExtensionProtocolOptions = httpOptions(b.port.Protocol, pol.ConnectionPool, b.key.edge)
	b.transport(c, pol)
	return c.Name, c
}

// resolution is how the endpoints are found.
func (b *clusterBuilder) resolution() model.Resolution {
	if b.key.routed {
		return model.ByEndpoints
	}
	return b.port.svc.Resolution
}

// discovery sets how the endpoints are found.
func (b *clusterBuilder) discovery(c *clusterv3.Cluster, subset *model.Subset) {
	switch b.resolution() {
	case model.ByEndpoints:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource()}
	case model.ByDNS:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
		//lint:ignore SA1019 its successor, a typed resolver, asks more of the proxy
		c.RespectDnsTtl = true
		c.LoadAssignment = b.resolved(subset, c.Name)
		if b.port.svc.OneAddress && countEndpoints(c.LoadAssignment) == 1 {
			// Envoy takes a single endpoint here, and entries of one host may have
			// several between them.
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}
		}
	default:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
		c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
		if p := b.port; p.svc.Origin == model.FromServiceEntry && p.Target != 0 && p.Target != p.Number {
			c.LbConfig = &clusterv3.Cluster_OriginalDstLbConfig_{OriginalDstLbConfig: &clusterv3.Cluster_OriginalDstLbConfig{
				UpstreamPortOverride: wrapperspb.UInt32(uint32(p.Target)),
			}}
		}
	}
}

func countEndpoints(list *endpointv3.ClusterLoadAssignment) int {
	n := 0
	for _, l := range list.GetEndpoints() {
		n += len(l.GetLbEndpoints())
	}
	return n
}

// resolved are the endpoints that the proxy resolves, of all entries that
// declare the host.
func (b *clusterBuilder) resolved(subset *model.Subset, name string) *endpointv3.ClusterLoadAssignment {
	list := assignmentBuilder{
		port: b.port, subset: subset, policy: b.policy, order: b.order(), groups: map[placement][]*endpointv3.LbEndpoint{},
	}
	if b.key.from != nil {
		list.from = *b.key.from
		list.shares = list.order.sharesFor(list.from.locality)
	}
	for _, r := range b.host.backing(b.port) {
		list.add(r, endpointsFor(b.port, r, r.Resolved))
	}
	list.weigh(nil)
	return list.assignment(name)
}

// order is how the cluster's endpoints are ordered.
func (b *clusterBuilder) order() order { return b.key.order(b.mesh) }

// serviceMetadata names the services behind a cluster, for telemetry.
func serviceMetadata(services []*model.Service, hostName string) *corev3.Metadata {
	list := make([]*structpb.Value, 0, len(services))
	for _, svc := range services {
		name := svc.Name
		if svc.Origin == model.FromServiceEntry {
			name = svc.Host
		}
		list = append(list, structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"host":      structpb.NewStringValue(cmp.Or(hostName, svc.Host)),
			"name":      structpb.NewStringValue(name),
			"namespace": structpb.NewStringValue(svc.Namespace),
		}}))
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"istio": {Fields: map[string]*structpb.Value{"services": structpb.NewListValue(&structpb.ListValue{Values: list})}},
	}}
}

func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
}

// staticClusters are the clusters of every sidecar: to where the client meant
// to go, and to nowhere.
func staticClusters(mesh *model.Mesh) []*clusterv3.Cluster {
	return []*clusterv3.Cluster{
		{
			Name:                          passthroughCluster,
			ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
			LbPolicy:                      clusterv3.Cluster_CLUSTER_PROVIDED,
			ConnectTimeout:                durationpb.New(connectTimeout(mesh)),
			TypedExtensionProtocolOptions: httpOptions(model.Unknown, nil, false),
		},
		blackHole(mesh),
	}
}

func blackHole(mesh *model.Mesh) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 blackHoleCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(connectTimeout(mesh)),
		LoadAssignment:       &endpointv3.ClusterLoadAssignment{ClusterName: blackHoleCluster},
	}
}
