// Package plan describes a lab on paper: which clusters it has, which
// addresses they use inside the lab's own namespaces, and where its files
// lie. It computes and it reads and writes one JSON file; it starts nothing
// and opens no socket.
package plan

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Network says how the clusters of a lab reach each other.
type Network string

const (
	// MultiNetwork lets clusters reach each other's node and load-balancer
	// addresses only; pods are behind their node.
	MultiNetwork Network = "multi"
	// SingleNetwork routes every pod CIDR, so that pods reach pods.
	SingleNetwork Network = "single"
)

const (
	// MaxClusters is the largest number of clusters one lab can hold; the
	// address plan has no room for more.
	MaxClusters = 16
	// APIPort is the port of an API server on its node's address.
	APIPort = 6443
	// DefaultKubernetes is the Kubernetes version built when none is asked
	// for.
	DefaultKubernetes = "v1.37.2"
)

// Lab is one lab: a set of clusters on one fabric.
type Lab struct {
	Name       string    `json:"name"`
	Network    Network   `json:"network"`
	Kubernetes string    `json:"kubernetes"`
	BinDirs    []string  `json:"binDirs"`
	Clusters   []Cluster `json:"clusters"`
}

// Cluster is one Kubernetes cluster of a lab: a single node that runs
// everything.
type Cluster struct {
	// Index counts from 1 and fixes every address of the cluster.
	Index int `json:"index"`
	// HostPort is the loopback port of the host behind which the API server
	// answers.
	HostPort int `json:"hostPort"`
	// Ranges is the index of the cluster whose pod and service ranges this one
	// has too; 0 is its own.
	Ranges int `json:"ranges,omitempty"`
}

var (
	labName     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	kubeVersion = regexp.MustCompile(`^v1\.(\d+)\.(\d+)$`)
)

// New lays out a lab of n clusters. Host ports are left to be chosen.
func New(name string, n int, network Network, kubernetes string) (*Lab, error) {
	l := &Lab{Name: name, Network: network, Kubernetes: kubernetes}
	for i := range n {
		l.Clusters = append(l.Clusters, Cluster{Index: i + 1})
	}
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return l, nil
}

// ShareRanges gives every cluster the pod and service ranges of the first, as
// clusters have that were set up by the same defaults. It is for labs whose pods
// do not reach each other.
func (l *Lab) ShareRanges() error {
	if l.Network != MultiNetwork {
		return fmt.Errorf("network %q routes every pod range, and one cannot lead to several clusters: the same ranges go with %q", l.Network, MultiNetwork)
	}
	for i := range l.Clusters {
		l.Clusters[i].Ranges = l.Clusters[0].Index
	}
	return nil
}

// SameRanges tells whether clusters share their pod and service ranges.
func (l *Lab) SameRanges() bool { return len(l.Clusters) > 0 && l.Clusters[0].Ranges != 0 }

// Validate reports every part of the lab that cannot be built.
func (l *Lab) Validate() error {
	var errs []error
	if err := CheckName(l.Name); err != nil {
		errs = append(errs, err)
	}
	if l.Network != MultiNetwork && l.Network != SingleNetwork {
		errs = append(errs, fmt.Errorf("network %q: must be %q or %q", l.Network, MultiNetwork, SingleNetwork))
	}
	if _, err := StagingVersion(l.Kubernetes); err != nil {
		errs = append(errs, err)
	}
	if n := len(l.Clusters); n < 1 || n > MaxClusters {
		errs = append(errs, fmt.Errorf("%d clusters: a lab holds 1 to %d", n, MaxClusters))
	}
	return errors.Join(errs...)
}

// CheckName reports why a lab cannot have that name.
func CheckName(name string) error {
	if !labName.MatchString(name) {
		return fmt.Errorf("lab name %q: use at most 32 of a-z, 0-9 and '-', beginning and ending with a letter or digit", name)
	}
	return nil
}

// StagingVersion maps a Kubernetes version to the version of its library
// modules: v1.37.2 → v0.37.2.
func StagingVersion(kubernetes string) (string, error) {
	m := kubeVersion.FindStringSubmatch(kubernetes)
	if m == nil {
		return "", fmt.Errorf("version %q of Kubernetes: must look like %s", kubernetes, DefaultKubernetes)
	}
	return "v0." + m[1] + "." + m[2], nil
}

// Cluster finds a cluster by its name, for example "cluster-2".
func (l *Lab) Cluster(name string) (Cluster, error) {
	for _, c := range l.Clusters {
		if c.Name() == name {
			return c, nil
		}
	}
	return Cluster{}, fmt.Errorf("no cluster %q in lab %q: it has %s", name, l.Name, strings.Join(l.Names(), ", "))
}

// Names lists the clusters' names in order.
func (l *Lab) Names() []string {
	var names []string
	for _, c := range l.Clusters {
		names = append(names, c.Name())
	}
	return names
}

// Name is the cluster's name and the name of its kubeconfig context.
func (c Cluster) Name() string { return "cluster-" + strconv.Itoa(c.Index) }

// NodeName is the name of the cluster's only node.
func (c Cluster) NodeName() string { return c.Name() + "-node" }

// Region is the value of the node's topology.kubernetes.io/region label.
func (c Cluster) Region() string { return "region-" + strconv.Itoa(c.Index) }

// Zone is the value of the node's topology.kubernetes.io/zone label.
func (c Cluster) Zone() string { return c.Region() + "-a" }

// Link is the name of the fabric's end of the cluster's cable.
func (c Cluster) Link() string { return "node-" + strconv.Itoa(c.Index) }

// NodeNet is the network between the fabric and the cluster's node; the
// cluster's load-balancer addresses are in it too.
func (c Cluster) NodeNet() netip.Prefix {
	return netip.PrefixFrom(addr(172, 30, c.Index, 0), 24)
}

// GatewayIP is the fabric's address on the cluster's cable.
func (c Cluster) GatewayIP() netip.Addr { return addr(172, 30, c.Index, 1) }

// NodeIP is the node's address.
func (c Cluster) NodeIP() netip.Addr { return addr(172, 30, c.Index, 2) }

// LoadBalancerIPs are the addresses handed to Services of type LoadBalancer,
// lowest first.
func (c Cluster) LoadBalancerIPs() []netip.Addr {
	var ips []netip.Addr
	for i := 100; i < 250; i++ {
		ips = append(ips, addr(172, 30, c.Index, i))
	}
	return ips
}

// PodCIDR holds the addresses of the cluster's pods.
func (c Cluster) PodCIDR() netip.Prefix {
	return netip.PrefixFrom(addr(10, 10+c.ranges(), 0, 0), 24)
}

// ServiceCIDR holds the cluster IPs of the cluster's Services.
func (c Cluster) ServiceCIDR() netip.Prefix {
	return netip.PrefixFrom(addr(10, 110+c.ranges(), 0, 0), 16)
}

// APIServiceIP is the cluster IP of the Service default/kubernetes.
func (c Cluster) APIServiceIP() netip.Addr { return addr(10, 110+c.ranges(), 0, 1) }

// DNSServiceIP is the cluster IP of the Service kube-system/kube-dns.
func (c Cluster) DNSServiceIP() netip.Addr { return addr(10, 110+c.ranges(), 0, 10) }

// APIAddr is the API server's address inside the lab's networks: from the
// node, from the cluster's pods, and from the other clusters.
func (c Cluster) APIAddr() netip.AddrPort { return netip.AddrPortFrom(c.NodeIP(), APIPort) }

func (c Cluster) ranges() int { return cmp.Or(c.Ranges, c.Index) }

func addr(a, b, c, d int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a), byte(b), byte(c), byte(d)})
}
