package model

// Entrance is a Service that can be reached from outside its cluster, or that
// says of itself that it leads into a network.
type Entrance struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	// Host is the Service's name, by which configuration speaks of it.
	Host string
	// Addresses are IP addresses and host names, sorted. There are none for as
	// long as a load balancer has not been given its own.
	Addresses []string
	// Ports are the Service's TCP ports, each with the port at the Addresses
	// where it is found: the same one at a load balancer, another at nodes.
	Ports map[uint16]uint16
	// Network is the one that the Service's label makes it a gateway of; empty
	// when it has no such label. What other clusters send there goes to
	// GatewayPort, which is one of Ports or nothing answers.
	Network     string
	GatewayPort uint16
}

// Key is the primary key.
func (e *Entrance) Key() string { return EntranceKey(e.Cluster, e.Namespace, e.Name) }

// CalledBy tells whether a name is the Service's host, or a shorter form of it:
// NAME.NAMESPACE, NAME.NAMESPACE.svc.
func (e *Entrance) CalledBy(name string) bool {
	if e.Host == name {
		return true
	}
	short := e.Name + "." + e.Namespace
	return name == short || name == short+".svc"
}

// EntranceKey is the primary key of the Service's row.
func EntranceKey(c ClusterID, namespace, name string) string {
	return key(string(c), namespace, name)
}

// ReadFrom is the cluster that the row was read from.
func (e *Entrance) ReadFrom() ClusterID { return e.Cluster }
