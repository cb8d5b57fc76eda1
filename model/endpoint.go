package model

// Endpoint is one address behind a service, with all that a client's proxy
// must know of it.
type Endpoint struct {
	// Address is an IP address, or a name when the service's resolution is
	// ByDNS.
	Address string
	// Ports maps a service port's name to the port at this address. The map
	// is shared between endpoints.
	Ports map[string]uint16
	// Network is the one that a label of the pod or its node names, or a
	// ServiceEntry; empty: that of the cluster.
	Network  string
	Locality Locality
	// Hostname is the pod's name below a headless service's, empty when it has
	// none: DNS knows the pod by it.
	Hostname string
	// Node is the name of the node it runs on, in its own cluster.
	Node string
	// TLS tells that a proxy at the endpoint takes mutual TLS; TakesMutual
	// says on which ports.
	TLS bool
	// Capture is the pod's; nil is the zero Capture. It is shared.
	Capture *Capture
	// Router tells that the endpoint is a gateway's pod.
	Router bool
	// LastResort tells that Kubernetes calls the endpoint not ready because it
	// has lost sight of its node. It counts where no cluster has a better one.
	LastResort bool
	// Account is namespace/name of the service account it runs as; empty
	// when unknown.
	Account string
	// Workload describes the pod for telemetry:
	// name;namespace;canonical service;canonical revision;cluster.
	Workload string
	// Labels are the pod's, for subsets. The map is shared.
	Labels map[string]string
	// Weight is relative to the other endpoints; 0 counts as 1.
	Weight uint32
}

// TakesMutual tells whether the endpoint's proxy takes connections over on one
// of its ports, and so can take mutual TLS there. Whether it does is a matter of
// policy besides (PeerAuthentication).
func (e *Endpoint) TakesMutual(port uint16) bool { return e.TLS && e.Capture.Takes(port) }

// EndpointSet is all endpoints of one Service row that new requests may go to: the
// ready ones, or what is left where none is.
type EndpointSet struct {
	Host      string
	Cluster   ClusterID
	Namespace string
	Name      string
	// Endpoints are sorted by address.
	Endpoints []Endpoint
}

// Key is the primary key, made as a Service's is.
func (e *EndpointSet) Key() string {
	return key(e.Host, string(e.Cluster), e.Namespace, e.Name)
}

// ReadFrom is the cluster that the row was read from.
func (e *EndpointSet) ReadFrom() ClusterID { return e.Cluster }

// Traits is what clusters and listeners need to know of the endpoints of one
// Service row. It is a row of its own because it rarely changes when endpoints
// do: a scaled Deployment changes no Traits.
type Traits struct {
	Host      string
	Cluster   ClusterID
	Namespace string
	Name      string
	// Accounts are the service accounts (namespace/name) of the endpoints,
	// sorted.
	Accounts []string
	// Addresses are the endpoints' addresses, sorted; only filled for
	// headless services, whose clients connect to them.
	Addresses []string
	// Members are the endpoints behind Addresses, in the same order: whether
	// one is spoken to in mutual TLS is decided with the cluster, which has no
	// load assignment.
	Members []Endpoint
}

// Key is the primary key, made as a Service's is.
func (t *Traits) Key() string {
	return key(t.Host, string(t.Cluster), t.Namespace, t.Name)
}

// ReadFrom is the cluster that the row was read from.
func (t *Traits) ReadFrom() ClusterID { return t.Cluster }
