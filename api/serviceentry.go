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
		if slices.Contains(se.Hosts[:i], h) {
			p.addf(indexed("spec.hosts", i), "%q is listed twice", h)
		}
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
	p.checkExportTo("spec.exportTo", se.ExportTo)
	for i, san := range se.SubjectAltNames {
		if san == "" {
			p.addf(indexed("spec.subjectAltNames", i), "is empty; give a SPIFFE id or a DNS name")
		}
	}
}

func validateServicePorts(p *problems, se *networking.ServiceEntry) {
	if len(se.Ports) == 0 {
		p.addf("spec.ports", "is empty; list the ports of the service")
	}
	numbers, names := map[uint32]bool{}, map[string]bool{}
	for i, port := range se.Ports {
		path := indexed("spec.ports", i)
		p.checkPort(path+".number", port.Number)
		if numbers[port.Number] {
			p.addf(path+".number", "%d is listed twice", port.Number)
		}
		numbers[port.Number] = true
		switch {
		case port.Name == "":
			p.addf(path+".name", "is empty; name the port, for instance http")
		case names[port.Name]:
			p.addf(path+".name", "%q is listed twice", port.Name)
		}
		names[port.Name] = true
		if port.TargetPort != 0 {
			p.checkPort(path+".targetPort", port.TargetPort)
		}
		if !slices.Contains(protocols, strings.ToUpper(port.Protocol)) {
			p.addf(path+".protocol", "%q is unknown; give one of %s", port.Protocol, strings.Join(protocols[1:], ", "))
		}
	}
}

// protocols are the values of a port's protocol field; the empty one leaves it
// to the port's name, and then to the bytes.
var protocols = []string{"", "HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "MONGO", "MYSQL", "REDIS"}

func validateResolution(p *problems, se *networking.ServiceEntry) {
	wildcard := slices.ContainsFunc(se.Hosts, func(h string) bool { return strings.HasPrefix(h, "*") })
	switch se.Resolution {
	case networking.ServiceEntry_NONE:
		if len(se.Endpoints) > 0 {
			p.addf("spec.endpoints", "cannot stand with resolution NONE, which sends traffic where the client addressed it; set spec.resolution to STATIC or DNS, or remove the endpoints")
		}
	case networking.ServiceEntry_STATIC:
		if len(se.Endpoints) == 0 {
			p.addf("spec.endpoints", "is empty; resolution STATIC needs the addresses of the service")
		}
	case networking.ServiceEntry_DNS:
		if wildcard && len(se.Endpoints) == 0 {
			p.addf("spec.hosts", "a wildcard host cannot be resolved by DNS; list spec.endpoints, or set spec.resolution to NONE")
		}
	default:
		p.addf("spec.resolution", "%s is not honoured yet; set NONE, STATIC or DNS", se.Resolution)
	}
}

func validateEndpoint(p *problems, path string, se *networking.ServiceEntry, ep *networking.WorkloadEntry) {
	_, err := netip.ParseAddr(ep.Address)
	switch {
	case ep.Address == "":
		p.addf(path+".address", "is empty; give an IP address, or a DNS name with resolution DNS")
	case strings.HasPrefix(ep.Address, "unix:"):
		p.addf(path+".address", "%q: sockets of the unix family are not honoured; give an IP address", ep.Address)
	case err == nil:
	case se.Resolution == networking.ServiceEntry_STATIC:
		p.addf(path+".address", "%q is no IP address; give one, or set spec.resolution to DNS", ep.Address)
	default:
		p.checkHost(path+".address", ep.Address, false)
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
	var hosts []string
	for _, h := range se.Hosts {
		if !strings.HasPrefix(h, "*") {
			hosts = append(hosts, strings.ToLower(h))
		}
	}
	return hosts
}
