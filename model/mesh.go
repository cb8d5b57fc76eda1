package model

import (
	"net/netip"
	"time"
)

// Mesh is the configuration that holds for the whole mesh, as one cluster
// keeps it.
type Mesh struct {
	Cluster     ClusterID
	TrustDomain string
	// TrustDomainAliases are further trust domains whose identities count as
	// the mesh's own; the mesh's root signs for all of them.
	TrustDomainAliases []string
	RootNamespace      string
	// ClusterDomain is the DNS suffix of Kubernetes services.
	ClusterDomain string
	AccessLog     AccessLog
	RegistryOnly  bool
	AutoMTLS      bool
	// ConnectTimeout is what the mesh is given; 0: it depends on where endpoints
	// are.
	ConnectTimeout time.Duration
	// Keepalive is nil where sockets are left as the proxy makes them.
	Keepalive *TCPKeepalive
	// Retry is nil where nobody says when requests are tried again.
	Retry *RetryPolicy
	// Locality is the LocalitySetting of services of which nobody says anything
	// else; nil is the zero one.
	Locality *LocalitySetting
	// Namespaces select those whose services count; none: all do.
	Namespaces []LabelSelector
	// HostSettings begin with those that hold in every mesh.
	HostSettings []HostSetting
	// ServiceExports, RuleExports and RouteExports are who sees Services and
	// ServiceEntries, DestinationRules, and VirtualServices that do not say so
	// themselves.
	ServiceExports, RuleExports, RouteExports Exports
	// Paths is what proxies make of the paths of requests.
	Paths PathNormalization
}

// PathNormalization is what becomes of a path before anything is decided about it.
type PathNormalization uint8

// The values. Each does what those before it do, but for PathsAsTheyCome: PathsBase
// resolves dot segments and takes a backslash for a slash, PathsMerged makes one of several
// slashes, PathsDecoded decodes those that are encoded.
const (
	PathsBase PathNormalization = iota
	PathsMerged
	PathsDecoded
	PathsAsTheyCome
)

// Key is the primary key.
func (m *Mesh) Key() string { return string(m.Cluster) }

// ReadFrom is the cluster that the row was read from.
func (m *Mesh) ReadFrom() ClusterID { return m.Cluster }

// AccessLog is where proxies log requests, and how; an empty File is nowhere.
type AccessLog struct {
	File string
	JSON bool
	// Format is a template, or empty for the default one.
	Format string
}

// Namespace is one namespace.
type Namespace struct {
	Cluster ClusterID
	Name    string
	Labels  map[string]string
}

// Key is the primary key.
func (n *Namespace) Key() string { return key(string(n.Cluster), n.Name) }

// ReadFrom is the cluster that the row was read from.
func (n *Namespace) ReadFrom() ClusterID { return n.Cluster }

// Network is a network that the mesh configuration names, with the gateways
// that lead into it.
type Network struct {
	Cluster  ClusterID
	Name     string
	Clusters []ClusterID
	CIDRs    []netip.Prefix
	Gateways []NetworkGateway
}

// NetworkGateway is one way into a Network: an address, or a service whose
// load balancer has one.
type NetworkGateway struct {
	Address string
	Service string
	Port    uint16
}

// Key is the primary key.
func (n *Network) Key() string { return key(string(n.Cluster), n.Name) }

// ReadFrom is the cluster that the row was read from.
func (n *Network) ReadFrom() ClusterID { return n.Cluster }

// Cluster is the state of one cluster's reader.
type Cluster struct {
	ID ClusterID
	// Network is the one that the cluster says itself that its pods are in, by
	// the label of the control plane's namespace there. DefaultNetwork is what
	// the control plane was started with; what Networks say of the cluster
	// stands between the two.
	Network        string
	DefaultNetwork string
	// Synced tells that everything that the cluster holds was read once.
	Synced bool
	// Stale tells that the cluster cannot be reached: its rows are the last
	// that were seen, since Since.
	Stale bool
	Since time.Time
}

// Key is the primary key.
func (c *Cluster) Key() string { return string(c.ID) }

// ReadFrom is the cluster that the row was read from.
func (c *Cluster) ReadFrom() ClusterID { return c.ID }

// DefaultMesh is the Mesh of a cluster that configures nothing.
func DefaultMesh(c ClusterID) *Mesh {
	m := &Mesh{
		Cluster:       c,
		TrustDomain:   "cluster.local",
		RootNamespace: "istio-system",
		ClusterDomain: "cluster.local",
		AutoMTLS:      true,
	}
	m.HostSettings = DefaultHostSettings(m.ClusterDomain, m.RootNamespace)
	return m
}

// DefaultHostSettings keep at home what speaks of the cluster itself (Istio,
// MeshConfig.serviceSettings), the control plane among it: a gateway that leads
// others to this cluster's must not lead them to another's.
func DefaultHostSettings(clusterDomain, rootNamespace string) []HostSetting {
	return []HostSetting{
		{Pattern: "istiod." + rootNamespace + ".svc." + clusterDomain, ClusterLocal: true},
		{Pattern: "*.kube-system.svc." + clusterDomain, ClusterLocal: true},
		{Pattern: "kubernetes.default.svc." + clusterDomain, ClusterLocal: true},
	}
}
