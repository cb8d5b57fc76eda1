package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// LoadMeshNetworks reads a MeshNetworks in YAML or JSON. Each endpoint and each
// gateway of a network is read by itself: one that is wrong is left out and named
// in the warnings, after its path such as network1.gateways[0]. An error means
// that the text is no YAML mapping at all.
//
// Wrong is what names nothing, two things at once, or something that is none,
// and a range of addresses or a cluster that another network has already. A range
// within a larger one of another network is in order: the longest prefix
// decides. Ranges come back without host bits.
func LoadMeshNetworks(text string) (*meshconfig.MeshNetworks, []string, error) {
	nets := &meshconfig.MeshNetworks{}
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, nil, fmt.Errorf("mesh networks: %w", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, nil, fmt.Errorf("mesh networks: want a mapping of fields: %w", err)
	}

	var w problems
	for _, name := range sortedMapKeys(fields) {
		if name != "networks" {
			w.addf(name, "unknown field; the one that there is is networks")
			continue
		}
		var each map[string]json.RawMessage
		if err := json.Unmarshal(fields[name], &each); err != nil {
			w.addf(name, "want a mapping of networks by name")
			continue
		}
		nets.Networks = make(map[string]*meshconfig.Network, len(each))
		for _, network := range sortedMapKeys(each) {
			nets.Networks[network] = loadNetwork(each[network], network, &w)
		}
	}

	settleNetworks(nets, &w)
	slices.Sort(w)
	return nets, w, nil
}

// loadNetwork reads one network, element by element.
func loadNetwork(raw json.RawMessage, path string, w *problems) *meshconfig.Network {
	n := &meshconfig.Network{}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		w.addf(path, "want a mapping with endpoints and gateways")
		return n
	}

	for _, name := range sortedMapKeys(fields) {
		var list []json.RawMessage
		err := json.Unmarshal(fields[name], &list)
		switch {
		case name != "endpoints" && name != "gateways":
			w.addf(path+"."+name, "unknown field; those that there are are endpoints and gateways")
		case err != nil:
			w.addf(path+"."+name, "want a list")
		case name == "endpoints":
			n.Endpoints = loadElements[meshconfig.Network_NetworkEndpoints](list, path+".endpoints", w)
		default:
			n.Gateways = loadElements[meshconfig.Network_IstioNetworkGateway](list, path+".gateways", w)
		}
	}
	return n
}

// loadElements decodes a list. What does not decode becomes an empty message:
// it keeps its place, for settleNetworks to count by, and is dropped there.
func loadElements[M any, P interface {
	*M
	proto.Message
}](list []json.RawMessage, path string, w *problems) []P {
	out := make([]P, len(list))
	for i, raw := range list {
		out[i] = P(new(M))
		if err := protojson.Unmarshal(raw, out[i]); err != nil {
			w.addf(fmt.Sprintf("%s[%d]", path, i), "%s", shortError(err))
			proto.Reset(out[i])
		}
	}
	return out
}

// settleNetworks leaves out what cannot hold.
func settleNetworks(nets *meshconfig.MeshNetworks, w *problems) {
	ranges, registries := map[netip.Prefix]string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(nets.GetNetworks())) {
		if why := validation.IsValidLabelValue(name); name == "" || len(why) > 0 {
			w.addf(fmt.Sprintf("%q", name), "is no name of a network: it must do as the value of the label topology.istio.io/network; if it came out of a shell variable, see what that holds")
			delete(nets.Networks, name)
			continue
		}

		n := nets.Networks[name]
		n.Endpoints = keep(n.Endpoints, name+".endpoints", w, func(ep *meshconfig.Network_NetworkEndpoints) string {
			switch e := ep.GetNe().(type) {
			case *meshconfig.Network_NetworkEndpoints_FromCidr:
				return settleRange(e, name, ranges)
			case *meshconfig.Network_NetworkEndpoints_FromRegistry:
				return claim(registries, e.FromRegistry, name, "cluster "+e.FromRegistry)
			}
			return "it names neither fromRegistry (a cluster) nor fromCidr (a range of addresses)"
		})
		n.Gateways = keep(n.Gateways, name+".gateways", w, gatewayProblem)
	}
}

// keep leaves out the elements of a list that wrong finds something wrong with.
// What did not decode was told of before, and is not told of again.
func keep[P proto.Message](list []P, path string, w *problems, wrong func(P) string) []P {
	var out []P
	for i, element := range list {
		if why := wrong(element); why != "" {
			at := fmt.Sprintf("%s[%d]", path, i)
			if !slices.ContainsFunc(*w, func(told string) bool { return strings.HasPrefix(told, at+":") }) {
				w.addf(at, "%s", why)
			}
			continue
		}
		out = append(out, element)
	}
	return out
}

// settleRange checks a range of addresses and takes its host bits off.
func settleRange(e *meshconfig.Network_NetworkEndpoints_FromCidr, network string, taken map[netip.Prefix]string) string {
	p, err := netip.ParsePrefix(e.FromCidr)
	if err != nil {
		return fmt.Sprintf("fromCidr %q is no range of addresses such as 10.1.0.0/16", e.FromCidr)
	}
	p = p.Masked()
	e.FromCidr = p.String()
	return claim(taken, p, network, "range "+p.String())
}

// claim notes that something belongs to a network, and says so when it is
// another's.
func claim[K comparable](taken map[K]string, key K, network, what string) string {
	if other, ok := taken[key]; ok && other != network {
		return fmt.Sprintf("%s is in network %s already; an address is in one network", what, other)
	}
	taken[key] = network
	return ""
}

// gatewayProblem says what is wrong with a gateway.
func gatewayProblem(g *meshconfig.Network_IstioNetworkGateway) string {
	switch gw := g.GetGw().(type) {
	case *meshconfig.Network_IstioNetworkGateway_Address:
		if why := AddressProblem(gw.Address); why != "" {
			return "address " + why
		}
	case *meshconfig.Network_IstioNetworkGateway_RegistryServiceName:
		label := strings.Split(gw.RegistryServiceName, ".")
		if len(validation.IsDNS1123Subdomain(gw.RegistryServiceName)) > 0 || len(label) < 4 || label[2] != "svc" {
			return fmt.Sprintf("registryServiceName %q is no full name of a Service such as istio-ingressgateway.istio-system.svc.cluster.local", gw.RegistryServiceName)
		}
	default:
		return "it names neither address (an IP address or a DNS name) nor registryServiceName (a Service in a cluster of the network)"
	}

	switch {
	case g.Port == 0:
		return "port is missing: the one at which the gateway takes connections from other networks, as a rule 15443 or 443"
	case g.Port > math.MaxUint16:
		return fmt.Sprintf("port %d is no port", g.Port)
	}
	return ""
}

// AddressProblem says what keeps an address from being one under which
// another cluster is reached: an IP address or a DNS name, without a scheme or a
// port. It is empty when nothing does.
func AddressProblem(address string) string {
	ip, err := netip.ParseAddr(address)
	switch {
	case err == nil && (ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || ip.Zone() != ""):
		return fmt.Sprintf("%q leads to no other machine", address)
	case err == nil:
		return ""
	}

	// A name of digits alone is a mistyped address: no DNS zone ends in one
	// (RFC 3696, section 2).
	last := address[strings.LastIndexByte(address, '.')+1:]
	if len(validation.IsDNS1123Subdomain(address)) > 0 || strings.Trim(last, "0123456789") == "" {
		return fmt.Sprintf("%q is neither an IP address nor a DNS name, which have no scheme, no port and no brackets here", address)
	}
	return ""
}

// MeshNetworksDoubts lists what is in order and most likely not meant, in a
// MeshNetworks as LoadMeshNetworks returns it: networks that nothing is in, or that
// nothing leads into, ranges within those of another network, and localities. own
// is the network that the cluster is in of itself; it may be "".
func MeshNetworksDoubts(nets *meshconfig.MeshNetworks, own string) []string {
	var w problems
	type held struct {
		netip.Prefix
		network string
	}
	var ranges []held
	for _, name := range slices.Sorted(maps.Keys(nets.GetNetworks())) {
		n := nets.Networks[name]
		if len(n.Endpoints) == 0 && name != own {
			w.addf(name, "has no endpoints: in it is only what is labelled topology.istio.io/network=%s, a pod, a node, or the control plane's namespace of a cluster", name)
		}
		if len(n.Gateways) == 0 {
			w.addf(name, "has no gateways: from other networks it is reached only through Services that are labelled topology.istio.io/network=%s", name)
		}
		for i, gw := range n.Gateways {
			if gw.Locality != "" {
				w.addf(fmt.Sprintf("%s.gateways[%d].locality", name, i), "changes nothing: endpoints behind a gateway keep their own")
			}
		}
		for _, ep := range n.Endpoints {
			if p, err := netip.ParsePrefix(ep.GetFromCidr()); err == nil {
				ranges = append(ranges, held{p, name})
			}
		}
	}

	for _, inner := range ranges {
		for _, outer := range ranges {
			if outer.network != inner.network && outer.Bits() < inner.Bits() && outer.Overlaps(inner.Prefix) {
				w.addf(inner.network, "its range %s is within %s of network %s: the addresses in both count as %s's", inner.Prefix, outer.Prefix, outer.network, inner.network)
			}
		}
	}
	return w
}
