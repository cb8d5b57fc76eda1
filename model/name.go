package model

import "net/netip"

// Name is a host name that stands where proxies need addresses, with those that
// it was last resolved to.
type Name struct {
	// Cluster is the one whose control plane has resolved it.
	Cluster   ClusterID
	Name      string
	Addresses []netip.Addr // sorted
}

// Key is the primary key.
func (n *Name) Key() string { return key(string(n.Cluster), n.Name) }

// ReadFrom is the cluster whose name servers were asked.
func (n *Name) ReadFrom() ClusterID { return n.Cluster }
