package resources

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// domainsOf lists the names under which clients of a namespace call a host, in
// the order of their length, then its addresses. Ports are ignored.
func domainsOf(h *host, svc *model.Service, clientNamespace, clusterDomain string) []string {
	domains := []string{h.name}
	switch {
	case h.vantage.clusterSet:
		// Nobody calls it by less than its full name (KEP-1645, DNS).
		if svc.Headless {
			domains = append(domains, "*."+h.name)
		}
	case svc.Origin == model.FromKubernetes:
		full := svc.Name + "." + svc.Namespace
		names := []string{full + ".svc", full}
		if svc.Namespace == clientNamespace {
			names = append(names, svc.Name)
		}
		domains = append(domains, names...)
		if svc.Headless {
			// Pods of a StatefulSet have names of their own below it.
			for _, n := range append([]string{h.name}, names...) {
				domains = append(domains, "*."+n)
			}
		}
	}

	for _, a := range svc.Addresses {
		if a.IsSingleIP() {
			domains = append(domains, hostLiteral(a.Addr().String()))
		}
	}
	if svc.Allocated.IsValid() {
		domains = append(domains, hostLiteral(svc.Allocated.String()))
	}
	return domains
}

// hostLiteral is an address as it stands in a host header.
func hostLiteral(ip string) string {
	if strings.Contains(ip, ":") {
		return "[" + ip + "]"
	}
	return ip
}
