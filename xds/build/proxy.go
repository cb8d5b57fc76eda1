package build

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// Kinds of proxies, as their node ids begin.
const (
	kindSidecar = "sidecar"
	kindRouter  = "router"
)

// proxy is what a proxy says of itself in its node.
type proxy struct {
	kind      string
	cluster   model.ClusterID
	namespace string
	name      string
	account   string
	network   string
	locality  model.Locality
	labels    map[string]string
}

// parseNode reads a node: its id KIND~IP~NAME.NAMESPACE~DOMAIN, and the
// metadata CLUSTER_ID, NETWORK, LABELS and SERVICE_ACCOUNT.
func parseNode(n serve.Node) (*proxy, error) {
	parts := strings.Split(n.ID, "~")
	if len(parts) != 4 {
		return nil, fmt.Errorf("node id %q: want KIND~IP~NAME.NAMESPACE~DOMAIN", n.ID)
	}
	dot := strings.LastIndexByte(parts[2], '.')
	if dot < 1 || dot == len(parts[2])-1 {
		return nil, fmt.Errorf("node id %q: %q is not NAME.NAMESPACE", n.ID, parts[2])
	}
	p := &proxy{kind: parts[0], name: parts[2][:dot], namespace: parts[2][dot+1:], account: n.Identity.ServiceAccount}
	if p.kind != kindSidecar && p.kind != kindRouter {
		return nil, fmt.Errorf("node id %q: %q is neither %s nor %s", n.ID, p.kind, kindSidecar, kindRouter)
	}
	meta := n.Core.GetMetadata().GetFields()
	p.cluster = model.ClusterID(meta["CLUSTER_ID"].GetStringValue())
	if p.cluster == "" {
		return nil, fmt.Errorf("node %q: its metadata has no CLUSTER_ID; start the proxy with the name of its cluster", n.ID)
	}
	p.network = meta["NETWORK"].GetStringValue()
	if p.account == "" {
		p.account = meta["SERVICE_ACCOUNT"].GetStringValue()
	}
	p.labels = stringMap(meta["LABELS"])
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
