package compile

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

func (b *routeBuilder) tlsRoute(r *networking.TLSRoute) model.ConnectionRoute {
	out := model.ConnectionRoute{Destinations: b.connectionDestinations(r.Route)}
	for _, m := range r.Match {
		match := b.connectionMatch(m)
		for _, name := range m.SniHosts {
			match.ServerNames = append(match.ServerNames, b.serverNames(name)...)
		}
		out.Matches = append(out.Matches, match)
	}
	return out
}

// serverNames are a server name and, of one without a dot, the longer names of the
// Service that it is.
func (b *routeBuilder) serverNames(name string) []string {
	name = api.PlainHost(name)
	if strings.Contains(name, ".") || strings.HasPrefix(name, "*") {
		return []string{name}
	}
	short := name + "." + b.namespace
	return []string{name, short, short + ".svc", b.host(name)}
}

func (b *routeBuilder) tcpRoute(r *networking.TCPRoute) model.ConnectionRoute {
	out := model.ConnectionRoute{Destinations: b.connectionDestinations(r.Route)}
	for _, m := range r.Match {
		out.Matches = append(out.Matches, b.connectionMatch(m))
	}
	return out
}

func (b *routeBuilder) connectionDestinations(list []*networking.RouteDestination) []model.WeightedDestination {
	var out []model.WeightedDestination
	for _, d := range list {
		if to := b.destination(d.Destination, d.Weight, len(list)); to.Weight > 0 {
			out = append(out, to)
		}
	}
	return out
}

// connectionMatch is what conditions of both kinds of routes have in common.
func (b *routeBuilder) connectionMatch(m interface {
	GetDestinationSubnets() []string
	GetPort() uint32
	GetGateways() []string
	GetSourceNamespace() string
}) model.ConnectionMatch {
	out := model.ConnectionMatch{
		Port:      uint16(m.GetPort()),
		Namespace: m.GetSourceNamespace(),
		Gateways:  b.gateways(m.GetGateways()),
	}
	for _, s := range m.GetDestinationSubnets() {
		if subnet, ok := api.ParseSubnet(s); ok {
			out.Subnets = append(out.Subnets, subnet)
		}
	}
	return out
}
