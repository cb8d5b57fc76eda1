package api

import (
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"k8s.io/apimachinery/pkg/util/validation"
)

// What tls and tcp routes of a VirtualService have in common.
var (
	connectionMatchFields = fieldSet{
		"destinationSubnets": nil, "port": nil, "gateways": nil, "sourceNamespace": nil,
	}
	connectionDestinationFields = fieldSet{"destination": {"host": nil, "subset": nil, "port": nil}, "weight": nil}
)

// connectionMatch is what conditions of tls and of tcp routes have in common.
type connectionMatch interface {
	GetDestinationSubnets() []string
	GetPort() uint32
	GetGateways() []string
	GetSourceNamespace() string
}

func validateTLSRoute(p *problems, path string, r *networking.TLSRoute, vs *networking.VirtualService) {
	if len(r.GetMatch()) == 0 {
		p.addf(path+".match", "is empty; say by sniHosts which server names it is about")
	}
	for i, m := range r.GetMatch() {
		at := indexed(path+".match", i)
		if len(m.GetSniHosts()) == 0 {
			p.addf(at+".sniHosts", "is empty; list the server names that clients ask for, of those under spec.hosts")
		}
		for j, name := range m.GetSniHosts() {
			validateServerName(p, indexed(at+".sniHosts", j), name, vs.Hosts)
		}
		validateConnectionMatch(p, at, m, vs)
	}
	validateConnectionDestinations(p, path+".route", r.GetRoute())
}

func validateTCPRoute(p *problems, path string, r *networking.TCPRoute, vs *networking.VirtualService) {
	for i, m := range r.GetMatch() {
		at := indexed(path+".match", i)
		if m == nil {
			p.addf(at, "is empty; remove it, or say what it matches")
			continue
		}
		validateConnectionMatch(p, at, m, vs)
	}
	validateConnectionDestinations(p, path+".route", r.GetRoute())
}

func validateConnectionDestinations(p *problems, path string, list []*networking.RouteDestination) {
	if len(list) == 0 {
		p.addf(path, "is empty; say where the connections go")
	}
	validateWeighted(p, path, list)
}

func validateConnectionMatch(p *problems, path string, m connectionMatch, vs *networking.VirtualService) {
	atGateway := func(g string) bool { return g != GatewayMesh }
	if len(m.GetDestinationSubnets()) > 0 && (slices.ContainsFunc(m.GetGateways(), atGateway) || len(m.GetGateways()) == 0 && slices.ContainsFunc(vs.Gateways, atGateway)) {
		p.addf(path+".destinationSubnets", "is honoured for sidecars alone: at a Gateway, clients call an address of the gateway; add gateways: [mesh] to the condition")
	}
	for i, s := range m.GetDestinationSubnets() {
		if _, ok := ParseSubnet(s); !ok {
			p.addf(indexed(path+".destinationSubnets", i), "%q is neither an address nor a range such as 10.0.0.0/8", s)
		}
	}
	if m.GetPort() != 0 {
		p.checkPort(path+".port", m.GetPort())
	}
	if ns := m.GetSourceNamespace(); ns != "" && len(validation.IsDNS1123Label(ns)) > 0 {
		p.addf(path+".sourceNamespace", "%q is no namespace", ns)
	}
	p.checkMatchedGateways(path+".gateways", m.GetGateways(), vs.Gateways)
}

// ParseSubnet reads an address, or a range of addresses.
func ParseSubnet(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	subnet, err := netip.ParsePrefix(s)
	return subnet.Masked(), err == nil
}

// validateServerName looks at a server name of a tls route: what clients ask for can be
// routed if it is one of the object's hosts.
func validateServerName(p *problems, path, name string, hosts []string) {
	p.checkHost(path, name, true)
	plain := PlainHost(name)
	if strings.HasPrefix(plain, "*") && plain != "*" && !strings.HasPrefix(plain, "*.") {
		p.addf(path, "%q: in a server name \"*\" stands for whole labels; give *.suffix", name)
	}
	if !slices.ContainsFunc(hosts, func(h string) bool { return hasServerName(PlainHost(h), plain) }) {
		p.addf(path, "%q is none of spec.hosts (%s), so that no connection would satisfy the condition; add it there, too", name, strings.Join(hosts, ", "))
	}
}

// hasServerName tells whether a server name is a host's. One without a dot is a Service,
// which has longer names, too.
func hasServerName(host, name string) bool {
	if suffix, wildcard := strings.CutPrefix(host, "*"); wildcard {
		return strings.HasSuffix(name, suffix)
	}
	return name == host || !strings.Contains(host, ".") && strings.HasPrefix(name, host+".")
}
