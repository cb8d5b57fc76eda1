package config

import (
	"net/netip"
	"time"
)

// ClusterType is envoy.config.cluster.v3.Cluster.DiscoveryType.
type ClusterType uint8

// Cluster types.
const (
	ClusterStatic ClusterType = iota
	ClusterEDS
	ClusterStrictDNS
	ClusterLogicalDNS
	ClusterOriginalDst
)

// LBPolicy is envoy.config.cluster.v3.Cluster.LbPolicy.
type LBPolicy uint8

// Policies. A zero value is round robin, as in Envoy.
const (
	LBRoundRobin LBPolicy = iota
	LBLeastRequest
	LBRandom
	LBClusterProvided // original destination
	LBRingHash        // consistent hashing, see Balance.Hash
	LBMaglev
)

// HTTPProtocol says which HTTP version an upstream is spoken to in
// (envoy.extensions.upstreams.http.v3.HttpProtocolOptions).
type HTTPProtocol uint8

// HTTP protocols. UseDownstream speaks what the caller speaks.
const (
	HTTP1 HTTPProtocol = iota
	HTTP2
	HTTPUseDownstream
)

// Cluster is envoy.config.cluster.v3.Cluster.
type Cluster struct {
	Name           string
	Type           ClusterType
	LB             LBPolicy
	ConnectTimeout time.Duration // default 5 s
	// EDSName is the name of the load assignment (EDS), the cluster's own
	// unless service_name says otherwise.
	EDSName string
	// Endpoints is the inline load assignment (static and DNS types).
	Endpoints *LoadAssignment
	// DNSRefresh is the time from one resolution of names to the next; zero
	// leaves it to the proxy. With DNSByTTL (respect_dns_ttl) the TTL of their
	// records counts instead, where there is one above zero.
	DNSRefresh time.Duration
	DNSByTTL   bool
	// DNSFamily restricts the addresses.
	DNSFamily DNSFamily

	HTTP HTTPOptions
	// Transport is used for endpoints that no match fits; Matches are tried
	// first, in order (transport_socket_matches).
	Transport Transport
	Matches   []TransportMatch

	// DestinationPort is dialled in place of the original destination's
	// (original_dst_lb_config.upstream_port_override); 0: that one.
	DestinationPort uint16

	// BindSource are source addresses of outgoing connections
	// (upstream_bind_config), at most one of each family.
	BindSource []netip.Addr
	Service    Service
	Outlier    *OutlierDetection // nil: the proxy's defaults
	Limits     *Limits           // nil: no limits but the proxy's retry budget
	Balance    Balance
	Keepalive  *TCPKeepalive // nil: the proxy's defaults
	Version    string
}

// DNSFamily is Cluster.dns_lookup_family.
type DNSFamily uint8

// Families. DNSAll takes both.
const (
	DNSAll DNSFamily = iota
	DNSV4Only
	DNSV6Only
	DNSV4Preferred
	DNSV6Preferred // Envoy's AUTO
)

// Transport is how bytes go to an endpoint; TLS nil means as they are.
type Transport struct {
	Name string
	TLS  *UpstreamTLS
}

// TransportMatch picks a transport by an endpoint's metadata
// (filter envoy.transport_socket_match). An empty Match fits all.
type TransportMatch struct {
	Match     map[string]string
	Transport Transport
}

// HTTPOptions are the protocol options of a cluster.
type HTTPOptions struct {
	Protocol HTTPProtocol
	// IdleTimeout is how long a pooled connection stays without requests. IdleSet says
	// that it was given: then 0 is for ever; else the proxy's own bounds hold.
	IdleTimeout time.Duration
	IdleSet     bool
	MaxRequests uint32        // per connection; 0: no limit
	MaxAge      time.Duration // of a connection (max_connection_duration); 0: no limit
	MaxStreams  uint32        // HTTP/2 max_concurrent_streams; 0: default
	// Ping asks HTTP/2 endpoints for signs of life; nil: the proxy's defaults.
	Ping *HTTP2Ping
}

// HTTP2Ping is envoy.config.core.v3.KeepaliveSettings: a PING after each
// Interval, and the end of the connection when no answer comes within Timeout.
type HTTP2Ping struct {
	Interval time.Duration
	Timeout  time.Duration
}

// TCPKeepalive is envoy.config.core.v3.TcpKeepalive. Fields that are 0 are left
// to the system.
type TCPKeepalive struct {
	Off      bool // one of the fields was given as 0
	Probes   int
	Idle     time.Duration // before the first probe
	Interval time.Duration // between probes
}

// OutlierDetection is envoy.config.cluster.v3.OutlierDetection, as far as
// passive ejection goes.
type OutlierDetection struct {
	Consecutive5xx     uint32 // 0: not counted
	ConsecutiveGateway uint32 // 502, 503, 504 and connect failures
	// ConsecutiveLocal are connect failures and resets, where Split keeps them
	// apart from what endpoints answer.
	ConsecutiveLocal uint32
	Split            bool
	BaseEjection     time.Duration
	MaxEjection      time.Duration
	// MaxPercent bounds what share of the cluster is left out at a time;
	// MaxPercentGiven says that somebody chose it.
	MaxPercent      uint32
	MaxPercentGiven bool
}

// LoadAssignment is envoy.config.endpoint.v3.ClusterLoadAssignment.
type LoadAssignment struct {
	Name string
	// Overprovision is the overprovisioning factor in percent (0: 140, Envoy's
	// default): a priority keeps all the load as long as that much of its
	// healthy share is 100 % or more.
	Overprovision uint32
	Localities    []LocalityEndpoints
	Version       string
}

// LocalityEndpoints are the endpoints of one place with one priority.
type LocalityEndpoints struct {
	Region, Zone, SubZone string
	Priority              uint32
	Weight                uint32 // 0: not given
	Endpoints             []Endpoint
}

// Endpoint is one address. Exactly one of Addr and Host is set: Host is a
// name to resolve (DNS types).
type Endpoint struct {
	Addr     netip.Addr
	Host     string
	Port     uint16
	Hostname string
	Weight   uint32 // at least 1
	// Healthy is false for endpoints that discovery marked unhealthy,
	// draining or timed out: used only when there is no other.
	Healthy bool
	// Gateway says that it is the gateway of another network, which stands for
	// all endpoints behind it (the filter metadata "istio" has a "network").
	Gateway bool
	// Network is the one that a Gateway leads to; else empty.
	Network string
	// TransportMatch is the metadata under envoy.transport_socket_match.
	TransportMatch map[string]string
	// Workload describes the pod behind it, from the filter metadata "istio"
	// {workload: "name;namespace;canonical;revision;cluster"}.
	Workload Workload
}

// Workload is who stands behind an endpoint, for telemetry. Fields are empty
// when not known.
type Workload struct {
	Name      string
	Namespace string
	App       string // canonical service name
	Version   string // canonical revision
	Cluster   string
}
