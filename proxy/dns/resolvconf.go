package dns

import (
	"bufio"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// Port is where name servers are.
const Port = 53

// maxServers is how many name servers a resolver heeds (resolv.conf(5), MAXNS).
const maxServers = 3

// ResolvConf is what counts of a resolv.conf(5).
type ResolvConf struct {
	Servers []netip.Addr
	Search  []string
}

// ParseResolvConf reads a resolv.conf. As resolvers do, it passes over what it does not
// understand, a name server that is no address among it: that would be no reason for a
// pod not to start.
func ParseResolvConf(r io.Reader) (ResolvConf, error) {
	var c ResolvConf
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			ip, err := netip.ParseAddr(f[1])
			if ip = ip.Unmap(); err == nil && len(c.Servers) < maxServers && !slices.Contains(c.Servers, ip) {
				c.Servers = append(c.Servers, ip)
			}
		case "search", "domain":
			c.Search = f[1:] // the last line of either counts
		}
	}
	return c, lines.Err()
}

// Others are the name servers outside the pod, which has the addresses own: those
// whose queries can be led to the sidecar, and to which it may pass queries on. One
// within the pod is left alone: it would ask the sidecar, which would ask it, for
// ever. One of a family in which the pod has no address cannot be reached.
func (c ResolvConf) Others(own []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(c.Servers), func(ip netip.Addr) bool {
		sameFamily := func(a netip.Addr) bool { return a.Is4() == ip.Is4() }
		within := ip.IsLoopback() || ip.IsUnspecified() || slices.Contains(own, ip.WithZone(""))
		return within || !slices.ContainsFunc(own, sameFamily)
	})
}
