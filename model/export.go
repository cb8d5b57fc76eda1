package model

import "time"

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
