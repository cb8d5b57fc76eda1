package joincheck

import (
	"net/netip"
	"time"

	meshv1 "istio.io/api/mesh/v1alpha1"
)

// Facts are what one cluster shows.
type Facts struct {
	// Context is how people call the cluster.
	Context string
	// Unreachable says why the cluster could not be looked at; then all else is
	// empty.
	Unreachable string

	// Kubernetes and Istiod are versions; Istiod is "" when none is installed.
	Kubernetes, Istiod string
	// Skew is by how much the API server's clock is before this machine's. It is
	// told to the second.
	Skew time.Duration

	// Name and Network are the cluster's own; Network may be "".
	Name, Network string
	// Steered tells that another cluster's istiod steers the proxies.
	Steered     bool
	TrustDomain string
	// Roots are fingerprints of the certificates that the mesh is rooted in, as
	// Source has them.
	Roots  []string
	Source string

	// Pods are the ranges of pods' addresses.
	Pods     []netip.Prefix
	Gateways []Gateway
	Networks *meshv1.MeshNetworks
	// Secrets are those by which other clusters are read.
	Secrets []Secret
	// Unseen lists what could not be looked at, and why.
	Unseen []string
}

// Gateway is a Service by which a network is reached from others.
type Gateway struct {
	// Service is NAMESPACE/NAME.
	Service string
	Network string
	// Addresses are those outside of the cluster, HOST:PORT; none when it has
	// none yet. Silent are those that took no connection from here.
	Addresses, Silent []string
}

// Secret is one by which a cluster is read.
type Secret struct {
	Name, Cluster string
	// Server is the URL of the API server.
	Server string
	// Trouble is what keeps it from being used from here; "" when it does.
	Trouble string
	// Inside is what istiod says of the cluster, from inside; "" when it was
	// not asked.
	Inside string
	// InsideTrouble tells that Inside is no good news.
	InsideTrouble bool
}
