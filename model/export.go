package model

import (
	"net/netip"
	"time"
)

// Export says that a cluster offers a Service to all clusters (ServiceExport of the
// Multi-Cluster Services API). There need not be such a Service.
//
// Source: https://github.com/kubernetes/enhancements/tree/master/keps/sig-multicluster/1645-multi-cluster-services-api
type Export struct {
	Cluster ClusterID
	// Namespace and Name are those of the Service, too.
	Namespace string
	Name      string
	Created   time.Time
	// UID and Generation are those of the ServiceExport: what is written on it is
	// about this one, as it was then.
	UID        string
	Generation int64
	// Labelled tells that labels or annotations are to be exported with it.
	Labelled bool
	// Offer is nil when there is no such Service.
	Offer *Offer
}

// Key is the primary key.
func (e *Export) Key() string { return ExportKey(e.Cluster, e.Namespace, e.Name) }

// ExportKey is the primary key of the row by which a cluster offers a Service.
func ExportKey(c ClusterID, namespace, name string) string {
	return key(string(c), namespace, name)
}

// ReadFrom is the cluster that the row was read from.
func (e *Export) ReadFrom() ClusterID { return e.Cluster }

// Offer is what an exported Service says of itself, whether the mesh has a use for
// it or not: others are told of it.
type Offer struct {
	// Alias tells that it is but another name for something (ExternalName).
	Alias    bool
	Headless bool
	Ports    []ServicePort // as they are declared
	Affinity Affinity
}

// Affinity is whether calls of one client go to one pod (sessionAffinity). The zero
// value is that they need not.
type Affinity struct {
	ByClientIP bool
	// Timeout is after how long without a call that ends, in seconds; 0 where the
	// Service does not say it.
	Timeout int32
}

// ServicePort is a port of any protocol, as a Service declares it.
type ServicePort struct {
	Name   string
	Number uint16
	// Transport is TCP, UDP or SCTP.
	Transport string
	// AppProtocol is what is spoken there; "" where it is not said.
	AppProtocol string
}

// Import is a Service that clusters export, as one for all of them (ServiceImport).
type Import struct {
	Namespace string
	Name      string
	// Address is where clients reach it; it is not valid for a headless one, whose
	// clients connect to its pods.
	Address  netip.Addr
	Headless bool
	// Ports are sorted by number, then transport. Of those the mesh carries TCP.
	Ports    []ServicePort
	Affinity Affinity
	Clusters []ClusterID // that export it, sorted
}

// Imports are all that clusters export. Complete tells that every cluster was read:
// while it is not, what is missing may still come.
type Imports struct {
	List     []Import
	Complete bool
}

// ExportState is what became of a ServiceExport, for those who read its status.
type ExportState struct {
	Cluster         ClusterID
	Namespace, Name string
	// UID and Generation tell of which ServiceExport it is said.
	UID        string
	Generation int64
	Conditions []Condition
}

// Condition is a statement about an object of Kubernetes.
type Condition struct {
	Type    string
	Holds   bool
	Reason  string
	Message string
	// Unsure tells that somebody else may know better: where the object has a
	// condition of this type, that one stays.
	Unsure bool
}
