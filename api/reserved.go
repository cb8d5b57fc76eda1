package api

import (
	"net/netip"
	"strings"
)

// reservedPorts are those at which a proxy itself listens, and for what. A
// server of a Gateway there would collide with the proxy's own socket.
// https://istio.io/latest/docs/ops/deployment/application-requirements/
func reservedPorts() map[uint32]string {
	return map[uint32]string{
		15000: "the proxy's administration",
		15001: "redirected outbound traffic",
		15004: "the agent's debugging",
		15006: "redirected inbound traffic",
		15008: "HBONE",
		15009: "HBONE",
		15020: "the agent's metrics and probes",
		15021: "the proxy's readiness",
		15053: "the proxy's DNS",
		15090: "the proxy's metrics",
	}
}

// ReservedPort tells whether a proxy keeps the port for itself.
func ReservedPort(port uint16) bool {
	_, reserved := reservedPorts()[uint32(port)]
	return reserved
}

// checkServerPort notes a port that a gateway's own proxy listens at.
func (p *problems) checkServerPort(path string, n uint32) {
	p.checkPort(path, n)
	if what, reserved := reservedPorts()[n]; reserved {
		p.addf(path, "%d is reserved: proxies keep it for %s; give another port", n, what)
	}
}

// checkRedirectedPort notes a port for which no sidecar can have a listener:
// connections to it count as those that the sidecar was handed.
func (p *problems) checkRedirectedPort(path string, n uint32) {
	p.checkPort(path, n)
	if n == 15001 || n == 15006 {
		p.addf(path, "%d is reserved: sidecars keep it for %s; give another port", n, reservedPorts()[n])
	}
}

// checkElsewhere notes an endpoint address that leads each proxy to its own
// machine: to its administration, to a neighbour in the pod that trusts the
// loopback interface, or to the machine's metadata service.
func (p *problems) checkElsewhere(path string, addr netip.Addr) {
	if reason := local(addr); reason != "" {
		p.addf(path, "%q is %s, which leads every client to its own machine; give an address that is the same from everywhere", addr, reason)
	}
}

// local says what makes an address lead to the machine itself; it is empty for
// all others.
func local(addr netip.Addr) string {
	// ::ffff:127.0.0.1 is dialled as 127.0.0.1.
	addr = addr.Unmap()
	switch {
	case addr.IsLoopback():
		return "a loopback address"
	case addr.IsUnspecified():
		return "the unspecified address"
	case addr.IsLinkLocalUnicast(), addr.IsLinkLocalMulticast(), addr.IsInterfaceLocalMulticast():
		return "a link-local address"
	case addr.Zone() != "":
		return "an address with a zone"
	}
	return ""
}

// checkNameElsewhere notes a name that stands for the loopback interface.
func (p *problems) checkNameElsewhere(path, name string) {
	if localName(PlainHost(name)) {
		p.addf(path, "%q leads every client to its own machine; give a name that is the same from everywhere", PlainHost(name))
	}
}

// localName tells whether a name stands for the loopback interface
// (RFC 6761, section 6.3, and what /etc/hosts of Linux distributions adds).
func localName(name string) bool {
	switch name {
	case "localhost", "localhost.localdomain", "localhost4", "localhost6",
		"localhost4.localdomain4", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback":
		return true
	}
	return strings.HasSuffix(name, ".localhost")
}

// OwnMachine tells whether a name or an address leads every client to its own
// machine.
func OwnMachine(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return local(addr) != ""
	}
	return localName(PlainHost(host))
}
