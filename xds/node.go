package xds

import (
	"fmt"
	"net/netip"
	"strings"
)

// Kinds of proxies, the first part of a node id.
const (
	KindSidecar = "sidecar"
	KindRouter  = "router"
)

// NodeID is what a node id of the form KIND~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN
// says.
type NodeID struct {
	Kind      string
	IP        netip.Addr
	Pod       string
	Namespace string
	// Domain is the cluster's DNS domain, for example cluster.local.
	Domain string
}

// ParseNodeID reads a node id strictly: the two namespaces must be the same.
func ParseNodeID(s string) (NodeID, error) {
	bad := func(why string) (NodeID, error) {
		return NodeID{}, fmt.Errorf("node id %q: %s; want KIND~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN", s, why)
	}
	part := strings.Split(s, "~")
	if len(part) != 4 {
		return bad(fmt.Sprintf("it has %d parts", len(part)))
	}

	n := NodeID{Kind: part[0]}
	if n.Kind != KindSidecar && n.Kind != KindRouter {
		return bad("KIND is neither " + KindSidecar + " nor " + KindRouter)
	}

	ip, err := netip.ParseAddr(part[1])
	if err != nil || ip.Zone() != "" {
		return bad("IP is not an address")
	}
	n.IP = ip.Unmap()

	// Names of pods have dots, those of namespaces have none.
	dot := strings.LastIndexByte(part[2], '.')
	if dot <= 0 || dot == len(part[2])-1 {
		return bad("POD.NAMESPACE is incomplete")
	}
	n.Pod, n.Namespace = part[2][:dot], part[2][dot+1:]

	domain, ok := strings.CutPrefix(part[3], n.Namespace+".svc.")
	if !ok || domain == "" {
		return bad("the last part is not of namespace " + n.Namespace)
	}
	n.Domain = domain
	return n, nil
}

// String writes the id. It is what ParseNodeID reads.
func (n NodeID) String() string {
	return n.Kind + "~" + n.IP.String() + "~" + n.Pod + "." + n.Namespace + "~" + n.Namespace + ".svc." + n.Domain
}
