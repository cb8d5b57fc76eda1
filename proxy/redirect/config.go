// Package redirect puts the kernel rules in force that lead a pod's TCP traffic,
// and its DNS queries, through its sidecar: one nftables table, written over
// netlink in one transaction, without any tool in the image.
//
// Outbound connections go to the proxy's outbound port, and inbound ones to its
// inbound port; the proxy finds the original destination by SO_ORIGINAL_DST.
// The proxy itself is told apart by its user and group, and by the source
// address 127.0.0.6 (::6) under which it calls the application.
//
// The package only sets and removes rules; it moves no traffic.
package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The name of the table, of family inet.
const TableName = "isthmus"

// PassthroughV4 and PassthroughV6 are the source addresses of connections that
// the proxy makes to the application beside it. They are never redirected.
const (
	PassthroughV4 = "127.0.0.6"
	PassthroughV6 = "::6"
)

// OwnPorts are ports of the sidecar itself: agent, health, metrics, and the one
// that ambient meshes tunnel on. They are never redirected inbound.
func OwnPorts() []uint16 { return []uint16{15008, 15020, 15021, 15090} }

// Config is what is redirected. All of it is checked by Validate.
type Config struct {
	// OutboundPort and InboundPort are the proxy's listeners.
	OutboundPort, InboundPort uint16
	// ProxyUID is the user, and the group, of the proxy.
	ProxyUID uint32
	// IncludeOutboundCIDRs are the destinations redirected outbound; all
	// when AllOutbound, none when both are empty.
	AllOutbound          bool
	IncludeOutboundCIDRs []netip.Prefix
	ExcludeOutboundCIDRs []netip.Prefix
	ExcludeOutboundPorts []uint16
	// IncludeInboundPorts are the ports redirected inbound; all when
	// AllInbound, none when both are empty.
	AllInbound          bool
	IncludeInboundPorts []uint16
	ExcludeInboundPorts []uint16
	// DNSPort is the proxy's name server; 0: queries are left alone.
	// DNSServers are the name servers whose queries are led there, those of the
	// pod's resolv.conf as a rule. Queries to any other, and the proxy's own,
	// go where they want to; excluded ports and destinations count here too.
	DNSPort    uint16
	DNSServers []netip.Addr
	// GivenCIDRs are the addresses that the mesh gives to hosts. Who is told one
	// by the proxy's name server can reach it through the proxy alone, so that
	// connections to them are redirected though their port be excluded, or their
	// address not included.
	GivenCIDRs []netip.Prefix
}

// given are the destinations that are redirected outbound whatever is included or
// excluded: those that the proxy's own name server gives out.
func (c *Config) given() []netip.Prefix {
	if len(c.queried()) == 0 {
		return nil
	}
	return c.GivenCIDRs
}

// dnsPort is where name servers are.
const dnsPort = 53

// Validate tells what is wrong with c.
func (c *Config) Validate() error {
	if c.OutboundPort == 0 || c.InboundPort == 0 {
		return errors.New("the proxy's ports must not be 0")
	}
	if c.OutboundPort == c.InboundPort {
		return fmt.Errorf("outbound and inbound port are both %d", c.OutboundPort)
	}
	if c.AllOutbound && len(c.IncludeOutboundCIDRs) > 0 || c.AllInbound && len(c.IncludeInboundPorts) > 0 {
		return errors.New(`"*" includes everything: name it alone`)
	}

	if c.DNSPort != 0 && (c.DNSPort == c.OutboundPort || c.DNSPort == c.InboundPort) {
		return fmt.Errorf("the name server's port %d is another listener's", c.DNSPort)
	}
	for _, ip := range c.DNSServers {
		if !ip.IsValid() || ip.IsLoopback() || ip.IsUnspecified() {
			return fmt.Errorf("name server %s is in the pod itself: its own queries would come back to it", ip)
		}
	}

	for _, l := range [][]netip.Prefix{c.IncludeOutboundCIDRs, c.ExcludeOutboundCIDRs, c.GivenCIDRs} {
		for _, p := range l {
			if !p.IsValid() || p != p.Masked() {
				return fmt.Errorf("%s is not a CIDR with host bits zero", p)
			}
		}
	}

	for _, l := range [][]uint16{c.ExcludeOutboundPorts, c.IncludeInboundPorts, c.ExcludeInboundPorts} {
		for _, p := range l {
			if p == 0 {
				return errors.New("port 0 cannot be redirected")
			}
		}
	}
	return nil
}

// ParseCIDRs reads a comma-separated list of CIDRs and addresses; "*" is all.
func ParseCIDRs(s string) (list []netip.Prefix, all bool, err error) {
	for _, part := range fields(s) {
		if part == "*" {
			all = true
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			a, aerr := netip.ParseAddr(part)
			if aerr != nil || a.Zone() != "" {
				return nil, false, fmt.Errorf("%q is neither a CIDR nor an address", part)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		list = append(list, p.Masked())
	}
	return list, all, nil
}

// ParsePorts reads a comma-separated list of ports; "*" is all.
func ParsePorts(s string) (list []uint16, all bool, err error) {
	for _, part := range fields(s) {
		if part == "*" {
			all = true
			continue
		}
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || n == 0 {
			return nil, false, fmt.Errorf("%q is not a port between 1 and 65535", part)
		}
		list = append(list, uint16(n))
	}
	return list, all, nil
}

func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
