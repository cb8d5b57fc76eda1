package model

import (
	"cmp"
	"time"
)

// Sidecar is one object of that kind: which part of the mesh the sidecars of some
// workloads are told of.
type Sidecar struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	Created   time.Time
	// Selector is nil when the object holds for its whole namespace, or, in the
	// root namespace, for all that have none of their own.
	Selector map[string]string
	// Egress is what is told of; nil: everything.
	Egress   []EgressHost
	Outbound OutboundMode
}

// EgressHost is a part of the mesh.
type EgressHost struct {
	// Namespace is "*" for any, "." for the client's own, "~" for none.
	Namespace string
	// Host is a name, or a wildcard: "*", "*.example.com".
	Host string
}

// OutboundMode is what becomes of calls to what a sidecar is not told of.
type OutboundMode uint8

// The modes.
const (
	// OutboundByMesh leaves it to the mesh configuration.
	OutboundByMesh OutboundMode = iota
	OutboundAllowAny
	OutboundRegistryOnly
)

// CompareAge orders by the object's creation, which nobody can choose, then by key.
func (s *Sidecar) CompareAge(other *Sidecar) int {
	return cmp.Or(s.Created.Compare(other.Created), cmp.Compare(s.Key(), other.Key()))
}

// Key is the primary key.
func (s *Sidecar) Key() string { return key(string(s.Cluster), s.Namespace, s.Name) }

// ReadFrom is the cluster that the row was read from.
func (s *Sidecar) ReadFrom() ClusterID { return s.Cluster }
