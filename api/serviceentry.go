package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

var serviceEntryFields = fieldSet{
	"hosts": nil, "addresses": nil, "location": nil, "resolution": nil,
	"exportTo": nil, "subjectAltNames": nil,
	"ports": {"number": nil, "protocol": nil, "name": nil, "targetPort": nil},
	"endpoints": {"address": nil, "ports": nil, "labels": nil, "network": nil,
		"locality": nil, "weight": nil, "serviceAccount": nil},
}

func validateServiceEntry(p *problems, se *networking.ServiceEntry) {
	if len(se.Hosts) == 0 {
		p.addf("spec.hosts", "is empty; name at least one host")
	}
	for i, h := range se.Hosts {
		p.checkHost(indexed("spec.hosts", i), h, true)
		if h == "*" {
			p.addf(indexed("spec.hosts", i), "\"*\" would take every host; give a DNS name or *.suffix")
		}
		p.checkNameElsewhere(indexed("spec.hosts", i), h)
	}
	for i, a := range se.Addresses {
		if _, err := ParseAddress(a); err != nil {
			p.addf(indexed("spec.addresses", i), "%v", err)
		}
	}
	validateServicePorts(p, se)
	validateResolution(p, se)
	for i, ep := range se.Endpoints {
		validateEndpoint(p, indexed("spec.endpoints", i), se, ep)
	}
	p.checkExportTo("spec.exportTo", se.ExportTo, true)
	for i, san := range se.SubjectAltNames {
		if san == "" {
			p.addf(indexed("spec.subjectAltNames", i), "is empty; give a SPIFFE id or a DNS name")
		}
	}
}

func validateServicePorts(p *problems, se *networking.ServiceEntry) {
	numbers, names := map[uint32]bool{}, map[string]bool{}
	for i, port := range se.Ports {
		path := indexed("spec.ports", i)
		p.checkRedirectedPort(path+".number", port.Number)
		if numbers[port.Number] {
			p.addf(path+".number", "%d is listed twice", port.Number)
		}
		numbers[port.Number] = true
		switch {
		case port.Name == "":
			p.addf(path+".name", "is empty; name the port, for instance http")
		case names[port.Name]:
			p.addf(path+".name", "%q is listed twice", port.Name)
		default:
			p.checkPortName(path+".name", port.Name)
		}
		names[port.Name] = true
		if port.TargetPort != 0 {
			p.checkPort(path+".targetPort", port.TargetPort)
		}
		validateServiceProtocol(p, path+".protocol", port.Protocol)
	}
}

// validateServiceProtocol checks a port's protocol field. The empty one leaves
// it to the port's name, and then to the bytes; UDP is taken, as Istio does, and
// left out of the mesh: Warnings says so.
func validateServiceProtocol(p *problems, path, protocol string) {
	known := []string{"HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "MONGO", "MYSQL", "REDIS", "UDP"}
	switch name := strings.ToUpper(protocol); {
	case name == "", slices.Contains(known, name):
	case name == "HTTP_PROXY":
		p.addf(path, "HTTP_PROXY is not honoured; give TCP: clients that are set up to use the forward proxy then speak to it unchanged")
	default:
		p.addf(path, "%q is unknown; give one of %s", protocol, strings.Join(known, ", "))
	}
}

func validateResolution(p *problems, se *networking.ServiceEntry) {
	partial := slices.ContainsFunc(se.Hosts, func(h string) bool { return strings.HasPrefix(h, "*") && !strings.HasPrefix(h, "*.") })
	for i, port := range se.Ports {
		// Server names of TLS match whole labels only.
		if proto := strings.ToUpper(port.Protocol); partial && (proto == "TLS" || proto == "HTTPS") {
			p.addf(indexed("spec.ports", i)+".protocol", "%s is told apart by the server name, in which \"*\" stands for whole labels; give hosts such as *.example.com", proto)
		}
	}
	wildcard := slices.ContainsFunc(se.Hosts, func(h string) bool { return strings.HasPrefix(h, "*") })
	switch se.Resolution {
	case networking.ServiceEntry_NONE:
		if len(se.Endpoints) > 0 {
			p.addf("spec.endpoints", "cannot stand with resolution NONE, which sends traffic where the client addressed it; set spec.resolution to STATIC or DNS, or remove the endpoints")
		}
	case networking.ServiceEntry_STATIC:
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN:
		if se.Resolution == networking.ServiceEntry_DNS_ROUND_ROBIN && len(se.Endpoints) > 1 {
			p.addf("spec.endpoints", "%d cannot stand with resolution DNS_ROUND_ROBIN, which follows one name; list one, or set spec.resolution to DNS", len(se.Endpoints))
		}
		if wildcard && len(se.Endpoints) == 0 {
			p.addf("spec.hosts", "a wildcard host cannot be resolved by DNS; list spec.endpoints, or set spec.resolution to NONE")
		}
		for i, a := range se.Addresses {
			// As in Istio: a name resolves to one address at a time, and
			// all of a prefix would end up there.
			if prefix, err := ParseAddress(a); err == nil && !prefix.IsSingleIP() {
				p.addf(indexed("spec.addresses", i), "%q: a prefix cannot stand with resolution DNS, which would send all of it to what the name resolves to; set spec.resolution to NONE or STATIC, or give single addresses", a)
			}
		}
	default:
		p.addf("spec.resolution", "%s is not honoured yet; set NONE, STATIC, DNS or DNS_ROUND_ROBIN", se.Resolution)
	}
}

// byName tells whether clients' proxies resolve names for an entry.
func byName(se *networking.ServiceEntry) bool {
	return se.Resolution == networking.ServiceEntry_DNS || se.Resolution == networking.ServiceEntry_DNS_ROUND_ROBIN
}

func validateEndpoint(p *problems, path string, se *networking.ServiceEntry, ep *networking.WorkloadEntry) {
	addr, err := netip.ParseAddr(ep.Address)
	switch {
	case ep.Address == "" && ep.Network != "":
		p.addf(path+".address", "is empty; an endpoint that stands for the gateways of network %q is not honoured yet: give the gateway's address", ep.Network)
	case ep.Address == "":
		p.addf(path+".address", "is empty; give an IP address, or a DNS name with resolution DNS")
	case strings.HasPrefix(ep.Address, "unix:"):
		p.addf(path+".address", "%q: sockets of the unix family are not honoured; give an IP address", ep.Address)
	case err == nil:
		p.checkElsewhere(path+".address", addr)
	case se.Resolution == networking.ServiceEntry_STATIC:
		p.addf(path+".address", "%q is no IP address; give one, or set spec.resolution to DNS", ep.Address)
	default:
		p.checkHost(path+".address", ep.Address, false)
		p.checkNameElsewhere(path+".address", ep.Address)
	}
	known := map[string]bool{}
	for _, port := range se.Ports {
		known[port.Name] = true
	}
	for _, name := range sortedMapKeys(ep.Ports) {
		at := path + ".ports[" + name + "]"
		if !known[name] {
			p.addf(at, "names no port of spec.ports")
		}
		p.checkPort(at, ep.Ports[name])
	}
	p.checkLabels(path+".labels", ep.Labels)
}

// ParseAddress reads an entry of a ServiceEntry's addresses: an IP address, or
// a prefix in CIDR notation.
func ParseAddress(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is no prefix; give an IP address or a prefix such as 10.1.0.0/16", s)
		}
		return prefix.Masked(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is no IP address; give an IP address or a prefix such as 10.1.0.0/16", s)
	}
	if addr.IsUnspecified() {
		return netip.Prefix{}, fmt.Errorf("%q stands for every address; give the one that the host resolves to", s)
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// NeedsAddress returns the hosts of a ServiceEntry that the mesh gives an
// address to: those of an entry without addresses that the proxy resolves, and
// that DNS can be asked for, that is, no wildcards.
func NeedsAddress(se *networking.ServiceEntry) []string {
	if len(se.Addresses) > 0 || se.Resolution == networking.ServiceEntry_NONE {
		return nil
	}
	return slices.DeleteFunc(EntryHosts(se), func(h string) bool { return strings.HasPrefix(h, "*") })
}

// EntryHosts lists the hosts of a ServiceEntry as they are compared, each once.
func EntryHosts(se *networking.ServiceEntry) []string {
	hosts := make([]string, 0, len(se.Hosts))
	for _, h := range se.Hosts {
		if h = PlainHost(h); !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}
