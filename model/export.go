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
}

// Key is the primary key.
func (e *Export) Key() string { return ExportKey(e.Cluster, e.Namespace, e.Name) }

// ExportKey is the primary key of the row by which a cluster offers a Service.
func ExportKey(c ClusterID, namespace, name string) string {
	return key(string(c), namespace, name)
}

// ReadFrom is the cluster that the row was read from.
func (e *Export) ReadFrom() ClusterID { return e.Cluster }

// Import is a Service that clusters export, as one for all of them (ServiceImport).
type Import struct {
	Namespace string
	Name      string
	// Address is where clients reach it; it is not valid for a headless one, whose
	// clients connect to its pods.
	Address  netip.Addr
	Headless bool
	Ports    []ImportPort // sorted by number
	Clusters []ClusterID  // that export it, sorted
}

// Imports are all that clusters export. Complete tells that every cluster was read:
// while it is not, what is missing may still come.
type Imports struct {
	List     []Import
	Complete bool
}

// ImportPort is a TCP port of an Import.
type ImportPort struct {
	Name   string
	Number uint16
}
