package model

import (
	"cmp"
	"slices"
	"time"
)

// LoadBalancing is how an endpoint is picked.
type LoadBalancing uint8

// The ways to pick an endpoint. Unset leaves it to the mesh: least request.
// LBPeakEWMA is least request by what endpoints take for a request.
const (
	LBUnset LoadBalancing = iota
	LBLeastRequest
	LBRoundRobin
	LBRandom
	LBPeakEWMA
)

// ClientTLSMode is how a client's proxy secures its connections.
type ClientTLSMode uint8

// The client modes. Auto: mutual TLS to endpoints that take it. Own is TLS as servers
// outside the mesh speak it.
const (
	ClientTLSAuto ClientTLSMode = iota
	ClientTLSDisable
	ClientTLSMutualMesh
	ClientTLSOwn
)

// TrafficPolicy is what a DestinationRule says of a host, a port or a subset.
// Each field has an unset value, which leaves the matter to the level above.
type TrafficPolicy struct {
	LoadBalancing LoadBalancing
	// The others are nil when unset. Hash stands above LoadBalancing.
	Hash           *ConsistentHash
	Locality       *LocalitySetting
	Warmup         *Warmup
	TLS            *ClientTLS
	Outlier        *OutlierDetection
	ConnectionPool *ConnectionPool
	RetryBudget    *RetryBudget
}

// Over returns the policy with what it leaves unset taken from the level below.
func (t TrafficPolicy) Over(below TrafficPolicy) TrafficPolicy {
	// These stand in one field, loadBalancer, and a field is taken whole.
	balancing, hash, warmup := t.LoadBalancing, t.Hash, t.Warmup
	if balancing == LBUnset && hash == nil && warmup == nil {
		balancing, hash, warmup = below.LoadBalancing, below.Hash, below.Warmup
	}

	return TrafficPolicy{
		LoadBalancing:  balancing,
		Hash:           hash,
		Locality:       cmp.Or(t.Locality, below.Locality),
		Warmup:         warmup,
		TLS:            cmp.Or(t.TLS, below.TLS),
		Outlier:        cmp.Or(t.Outlier, below.Outlier),
		ConnectionPool: cmp.Or(t.ConnectionPool, below.ConnectionPool),
		RetryBudget:    cmp.Or(t.RetryBudget, below.RetryBudget),
	}
}

// OutlierDetection says when an endpoint that answers with errors is left out.
type OutlierDetection struct {
	// Errors in a row: nil leaves it to Envoy's defaults (5 answers of 5xx, those
	// of gateways not by themselves), 0 turns it off.
	Consecutive5xx, ConsecutiveGateway *uint32
	// SplitLocal counts failures that the client's own proxy meets, as to connect,
	// by themselves and not among the errors above: ConsecutiveLocal of them, 5 by
	// default, in a row.
	SplitLocal       bool
	ConsecutiveLocal *uint32
	// Zero leaves these to Envoy's defaults: 10 s, 30 s, 10 %.
	Interval, BaseEjection time.Duration
	MaxPercent             uint32
	// MinHealthPercent is the share of healthy endpoints below which all are used,
	// healthy or not. 0: never.
	MinHealthPercent uint32
}

// ClientTLS is the tls part of a TrafficPolicy.
type ClientTLS struct {
	Mode            ClientTLSMode
	SNI             string
	SubjectAltNames []string

	// Of the mode Own: SkipVerify takes any server's certificate. The others are paths of
	// files in the proxy's container: the roots, which are the system's where there is
	// none, and what the client shows.
	SkipVerify           bool
	Roots                string
	Certificate, KeyFile string
}

// Subset is a named part of a host's endpoints.
type Subset struct {
	Name   string
	Labels map[string]string
	Policy TrafficPolicy
	Ports  map[uint16]TrafficPolicy
}

// DestinationRule is one object of that kind.
type DestinationRule struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	Created   time.Time
	// Host is fully qualified, or a wildcard such as *.global.
	Host     string
	Policy   TrafficPolicy
	Ports    map[uint16]TrafficPolicy
	Subsets  []Subset
	ExportTo []string
	// ExportByDefault tells that the rule does not say who sees it.
	ExportByDefault bool
}

// VisibleIn tells whether the rule counts for clients of the namespace; byDefault
// is the mesh's word for rules that do not say so.
func (d *DestinationRule) VisibleIn(namespace string, byDefault Exports) bool {
	if d.ExportByDefault {
		return byDefault.to(d.Namespace, namespace)
	}
	return len(d.ExportTo) == 0 || slices.Contains(d.ExportTo, namespace)
}

// Key is the primary key.
func (d *DestinationRule) Key() string { return key(string(d.Cluster), d.Namespace, d.Name) }

// ReadFrom is the cluster that the row was read from.
func (d *DestinationRule) ReadFrom() ClusterID { return d.Cluster }

// MTLSMode is what a workload's proxy accepts from clients.
type MTLSMode uint8

// The modes. Unset leaves the matter to the level above, and PERMISSIVE at the
// top.
const (
	MTLSUnset MTLSMode = iota
	MTLSDisable
	MTLSPermissive
	MTLSStrict
)

// PeerAuthentication is one object of that kind.
type PeerAuthentication struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	Created   time.Time
	// Selector is nil when the object holds for its whole namespace.
	Selector map[string]string
	Mode     MTLSMode
	// Ports are ports of the workload, not of a service.
	Ports map[uint16]MTLSMode
}

// Key is the primary key.
func (p *PeerAuthentication) Key() string { return key(string(p.Cluster), p.Namespace, p.Name) }

// ReadFrom is the cluster that the row was read from.
func (p *PeerAuthentication) ReadFrom() ClusterID { return p.Cluster }
