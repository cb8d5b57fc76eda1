package model

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Origin tells which kind of object a row was made from.
type Origin uint8

// The origins of a Service, in the order in which they win a host.
const (
	FromKubernetes Origin = iota
	FromServiceEntry
)

// Resolution tells how the addresses behind a service are found.
type Resolution uint8

// The resolutions.
const (
	// ByEndpoints: the mesh knows the addresses and sends them to the
	// proxies.
	ByEndpoints Resolution = iota
	// ByDNS: the proxy resolves the names that the endpoints carry.
	ByDNS
	// ByDestination: traffic goes to the address that the client chose.
	ByDestination
)

// Distribution tells which endpoints of a service are preferred, as long as they
// are healthy (trafficDistribution).
type Distribution uint8

// The distributions. Any leaves it to the mesh's configuration.
const (
	DistributeAny Distribution = iota
	// PreferZone: those in the client's place, then in its zone and its region,
	// and at equal distance those of its own cluster.
	PreferZone
	// PreferNode: those on the client's node, then as PreferZone.
	PreferNode
)

// Service is one host as one object in one cluster declares it. Several
// clusters, or several objects, may declare the same host: xds/resources merges
// them.
type Service struct {
	Host      string
	Cluster   ClusterID
	Namespace string
	// Name is the name of the object, not of the host.
	Name    string
	Origin  Origin
	Created time.Time
	// NamedAfter tells that the host's name speaks of the namespace, as
	// NAME.NAMESPACE.global does: of several that declare it, this one comes
	// first.
	NamedAfter bool
	// JoinsService tells that a ServiceEntry declares the name of a Service
	// and may: its ports and endpoints are added to the Service's.
	JoinsService bool

	Resolution Resolution
	// Resolved are the endpoints of a service that is resolved ByDNS: they
	// are part of what clients are told of the service itself. Others have
	// their endpoints in a row of their own.
	Resolved []Endpoint
	// OneAddress tells of a service that is resolved ByDNS that new connections go to the
	// address that came first in the last answer, and those of before stay.
	OneAddress bool
	// Headless services have no address of their own: clients reach the
	// endpoints directly. Resolution is ByDestination.
	Headless bool
	// Alias is the host that the service is another name for (a Kubernetes
	// service of type ExternalName). A client that sees a service of that
	// host is led to it; to any other, the name is resolved by DNS.
	Alias string
	// External services are not part of the mesh: no mutual TLS is assumed.
	External bool
	// Addresses are what clients connect to: single addresses, or, for a
	// ServiceEntry, prefixes too.
	Addresses []netip.Prefix
	// Allocated is the address given by the mesh when the object has none;
	// it is not valid when there is none.
	Allocated netip.Addr
	// Ports are sorted by number.
	Ports []Port
	// NodeLocal services have no endpoints but those on the client's own node
	// (internalTrafficPolicy: Local).
	NodeLocal bool
	// Distribution is which endpoints are preferred to others.
	Distribution Distribution
	// NotReadyToo tells that endpoints count whether they are ready or not
	// (publishNotReadyAddresses).
	NotReadyToo bool
	// Selector selects the service's pods in its own namespace and cluster;
	// it is empty for services without one.
	Selector map[string]string
	// ExportTo lists the namespaces that see the service; empty is all of
	// them.
	ExportTo []string
	// ExportByDefault tells that the object does not say who sees it.
	ExportByDefault bool
	// SubjectAltNames are the identities that the service is expected to
	// have; empty means those of its endpoints' service accounts.
	SubjectAltNames []string
}

// CompareAge orders services by their object's creation, which nobody can choose,
// then by key: the older has what two of them want and cannot share.
func (s *Service) CompareAge(other *Service) int {
	return cmp.Or(s.Created.Compare(other.Created), cmp.Compare(s.Key(), other.Key()))
}

// Port is a port of a Service.
type Port struct {
	Name     string
	Number   uint16
	Protocol Protocol
	// Target is the port at the endpoint; 0 when TargetName names it.
	Target     uint16
	TargetName string
}

// VisibleIn tells whether proxies of the namespace see the service; byDefault is
// the mesh's word for objects that do not say so.
func (s *Service) VisibleIn(namespace string, byDefault Exports) bool {
	if s.ExportByDefault {
		return byDefault.to(s.Namespace, namespace)
	}
	return len(s.ExportTo) == 0 || slices.Contains(s.ExportTo, namespace)
}

// NodeMatters tells whether it depends on a client's node which endpoints it is
// given.
func (s *Service) NodeMatters() bool { return s.NodeLocal || s.Distribution == PreferNode }

// Port returns the port with the number, or nil.
func (s *Service) Port(number uint16) *Port {
	for i := range s.Ports {
		if s.Ports[i].Number == number {
			return &s.Ports[i]
		}
	}
	return nil
}

// Key is the primary key: rows of one host are neighbours.
func (s *Service) Key() string {
	return key(s.Host, string(s.Cluster), s.Namespace, s.Name)
}

// ReadFrom is the cluster that the row was read from.
func (s *Service) ReadFrom() ClusterID { return s.Cluster }
