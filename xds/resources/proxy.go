package resources

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// proxy is what a proxy says of itself in its node.
type proxy struct {
	kind      string
	cluster   model.ClusterID
	namespace string
	name      string
	account   string
	proven    bool // a certificate shows the account and the namespace
	address   string
	network   string
	locality  model.Locality
	labels    map[string]string
	// hostsApart tells that it takes virtual hosts as resources of their own.
	hostsApart bool
}

// readNode reads a node: its id, and the metadata CLUSTER_ID, NETWORK, LABELS
// and SERVICE_ACCOUNT. The account that was proven stands above the one that is
// claimed. Virtual hosts of their own there are on delta streams only: in the state
// of the world, each change would bring all of them again.
func readNode(n serve.Node) (*proxy, error) {
	meta := n.Core.GetMetadata().GetFields()
	p := &proxy{
		kind: n.ID.Kind, namespace: n.ID.Namespace, name: n.ID.Pod,
		cluster: model.ClusterID(meta["CLUSTER_ID"].GetStringValue()),
		proven:  n.Identity.ServiceAccount != "" && n.Identity.Namespace == n.ID.Namespace,
		account: cmp.Or(n.Identity.ServiceAccount, meta["SERVICE_ACCOUNT"].GetStringValue()),
		network: meta["NETWORK"].GetStringValue(),
		labels:  stringMap(meta["LABELS"]),

		hostsApart: n.Delta && slices.Contains(n.Core.GetClientFeatures(), xds.FeatureVirtualHosts),
	}
	if p.cluster == "" {
		return nil, fmt.Errorf("node %q: its metadata has no CLUSTER_ID; start the proxy with the name of its cluster", n.ID)
	}

	if n.ID.IP.IsValid() {
		p.address = n.ID.IP.String()
	}
	if l := n.Core.GetLocality(); l != nil {
		p.locality = model.MakeLocality(l.Region, l.Zone, l.SubZone)
	}
	return p, nil
}

func stringMap(v *structpb.Value) map[string]string {
	fields := v.GetStructValue().GetFields()
	out := make(map[string]string, len(fields))
	for k, f := range fields {
		out[k] = f.GetStringValue()
	}
	return out
}
