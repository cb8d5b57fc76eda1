package model

// Workload is one pod.
type Workload struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	Addresses []string
	// Account is the name of the service account.
	Account string
	Labels  map[string]string
	// Ports maps the names of the container ports to their numbers.
	Ports    map[string]uint16
	Node     string
	Locality Locality
	// Network is the one that a label of the pod or its node names; empty: that
	// of the cluster.
	Network string
	// TLS tells that the pod has a proxy that takes mutual TLS.
	TLS bool
	// Capture is which ports that proxy takes over; nil is the zero Capture.
	Capture *Capture
	// Router tells that the proxy is a gateway: it stands for itself, no
	// application is behind it in the pod.
	Router bool
	// Owner is the name of what made the pod, such as its Deployment.
	Owner string
}

// Key is the primary key.
func (w *Workload) Key() string { return WorkloadKey(w.Cluster, w.Namespace, w.Name) }

// ReadFrom is the cluster that the row was read from.
func (w *Workload) ReadFrom() ClusterID { return w.Cluster }

// WorkloadKey is the primary key of the pod's row.
func WorkloadKey(c ClusterID, namespace, name string) string {
	return key(string(c), namespace, name)
}
