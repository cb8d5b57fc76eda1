package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// Mesh makes the row of a cluster's mesh configuration.
func Mesh(c model.ClusterID, mc *meshconfig.MeshConfig) *model.Mesh {
	m := model.DefaultMesh(c)
	m.TrustDomain = cmp.Or(mc.TrustDomain, m.TrustDomain)
	m.TrustDomainAliases = mc.TrustDomainAliases
	m.RootNamespace = cmp.Or(mc.RootNamespace, m.RootNamespace)
	m.AccessLog = model.AccessLog{
		File:   mc.AccessLogFile,
		JSON:   mc.AccessLogEncoding == meshconfig.MeshConfig_JSON,
		Format: mc.AccessLogFormat,
	}
	m.RegistryOnly = mc.OutboundTrafficPolicy.GetMode() == meshconfig.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY &&
		mc.OutboundTrafficPolicy != nil

	if mc.EnableAutoMtls != nil {
		m.AutoMTLS = mc.EnableAutoMtls.Value
	}
	m.ConnectTimeout = mc.ConnectTimeout.AsDuration()
	m.Keepalive = keepalive(mc.TcpKeepalive)
	m.Retry = retryPolicy(mc.DefaultHttpRetryPolicy)
	m.Locality = localitySetting(mc.LocalityLbSetting)
	m.Namespaces = namespaceSelectors(mc.DiscoverySelectors)
	m.HostSettings = append(model.DefaultHostSettings(m.ClusterDomain, m.RootNamespace), hostSettings(mc.ServiceSettings)...)
	m.ServiceExports = defaultExports(mc.DefaultServiceExportTo)
	m.RuleExports = defaultExports(mc.DefaultDestinationRuleExportTo)
	m.RouteExports = defaultExports(mc.DefaultVirtualServiceExportTo)
	m.Paths = pathNormalization(mc.PathNormalization)
	return m
}

// pathNormalization reads MeshConfig.pathNormalization.
func pathNormalization(n *meshconfig.MeshConfig_ProxyPathNormalization) model.PathNormalization {
	switch n.GetNormalization() {
	case meshconfig.MeshConfig_ProxyPathNormalization_NONE:
		return model.PathsAsTheyCome
	case meshconfig.MeshConfig_ProxyPathNormalization_MERGE_SLASHES:
		return model.PathsMerged
	case meshconfig.MeshConfig_ProxyPathNormalization_DECODE_AND_MERGE_SLASHES:
		return model.PathsDecoded
	}
	return model.PathsBase
}

func namespaceSelectors(selectors []*meshconfig.LabelSelector) []model.LabelSelector {
	var out []model.LabelSelector
	for _, s := range selectors {
		one := model.LabelSelector{Labels: s.GetMatchLabels()}
		for _, e := range s.GetMatchExpressions() {
			one.Expressions = append(one.Expressions, model.LabelExpression{Key: e.Key, Operator: e.Operator, Values: e.Values})
		}
		out = append(out, one)
	}
	return out
}

func hostSettings(settings []*meshconfig.MeshConfig_ServiceSettings) []model.HostSetting {
	var out []model.HostSetting
	for _, s := range settings {
		for _, host := range s.Hosts {
			out = append(out, model.HostSetting{Pattern: api.PlainHost(host), ClusterLocal: s.GetSettings().GetClusterLocal()})
		}
	}
	return out
}

// defaultExports keeps what names namespaces: "~", which is none, is a name that no
// namespace has.
func defaultExports(list []string) model.Exports {
	if slices.Contains(list, "*") {
		return nil
	}
	return list
}

// Networks makes the rows of the networks that the mesh configuration names,
// sorted by name.
func Networks(c model.ClusterID, nets *meshconfig.MeshNetworks) []*model.Network {
	var out []*model.Network
	for _, name := range slices.Sorted(maps.Keys(nets.GetNetworks())) {
		n := nets.Networks[name]
		row := &model.Network{Cluster: c, Name: name}
		for _, ep := range n.Endpoints {
			if r := ep.GetFromRegistry(); r != "" {
				row.Clusters = append(row.Clusters, model.ClusterID(r))
			}
			// Those that are none were told of (api.LoadMeshNetworks).
			if cidr, err := netip.ParsePrefix(ep.GetFromCidr()); err == nil {
				row.CIDRs = append(row.CIDRs, cidr.Masked())
			}
		}

		for _, gw := range n.Gateways {
			row.Gateways = append(row.Gateways, model.NetworkGateway{
				Address: gw.GetAddress(), Service: gw.GetRegistryServiceName(), Port: uint16(gw.Port),
			})
		}
		out = append(out, row)
	}

	return out
}
