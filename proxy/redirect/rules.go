package redirect

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule is a conjunction of matches and a verdict.
type rule []expr.Any

// outputRules decide about connections that start in the pod, in order.
func (c *Config) outputRules() []rule {
	proxy, gid := userIs(c.ProxyUID), groupIs(c.ProxyUID)
	rules := append(c.queryRules(), when(notTCP())(accept()))
	rules = append(rules,
		// The proxy to the application beside it.
		when(outLoopback(), sourceIn(netip.MustParsePrefix(PassthroughV4+"/32")))(accept()),
		when(outLoopback(), sourceIn(netip.MustParsePrefix(PassthroughV6+"/128")))(accept()),
		// The application to itself by way of a service: the proxy has chosen
		// the pod's own address, and the call comes in like any other.
		when(outLoopback(), proxy, destNotIn(netip.MustParsePrefix("127.0.0.0/8")))(redirectTo(c.InboundPort)),
		when(outLoopback(), proxy, destNotIn(netip.MustParsePrefix("::1/128")))(redirectTo(c.InboundPort)),
		when(outLoopback())(accept()),
		when(proxy)(accept()),
		when(gid)(accept()),
	)

	for _, p := range c.given() {
		rules = append(rules, when(destIn(p))(redirectTo(c.OutboundPort)))
	}
	for _, p := range c.ExcludeOutboundPorts {
		rules = append(rules, when(destPort(p))(accept()))
	}
	for _, p := range c.ExcludeOutboundCIDRs {
		rules = append(rules, when(destIn(p))(accept()))
	}
	for _, server := range c.queried() {
		rules = append(rules, when(destIn(server), destPort(dnsPort))(redirectTo(c.DNSPort)))
	}
	if c.AllOutbound {
		return append(rules, when()(redirectTo(c.OutboundPort)))
	}

	for _, p := range c.IncludeOutboundCIDRs {
		rules = append(rules, when(destIn(p))(redirectTo(c.OutboundPort)))
	}
	return rules
}

// queried are the name servers whose queries are led to the proxy.
func (c *Config) queried() []netip.Prefix {
	if c.DNSPort == 0 || slices.Contains(c.ExcludeOutboundPorts, dnsPort) {
		return nil
	}
	var out []netip.Prefix
	for _, ip := range c.DNSServers {
		ip = ip.WithZone("").Unmap()
		out = append(out, netip.PrefixFrom(ip, ip.BitLen()))
	}
	return out
}

// queryRules decide about DNS over UDP; over TCP it is a connection like others.
func (c *Config) queryRules() []rule {
	servers := c.queried()
	if len(servers) == 0 {
		return nil
	}
	rules := []rule{
		when(isUDP(), userIs(c.ProxyUID))(accept()),
		when(isUDP(), groupIs(c.ProxyUID))(accept()),
	}
	for _, p := range c.ExcludeOutboundCIDRs {
		rules = append(rules, when(isUDP(), destIn(p))(accept()))
	}
	for _, server := range servers {
		rules = append(rules, when(isUDP(), destIn(server), destPort(dnsPort))(redirectTo(c.DNSPort)))
	}
	return rules
}

// untrackedQueries and untrackedAnswers keep the proxy's own queries out of the
// kernel's connection tracking. Its sockets have ports that the kernel draws, and
// one may be the port of a query that the application has made a moment ago: the
// kernel would take the two for one, and lead the proxy's query to the proxy.
func (c *Config) untrackedQueries() []rule {
	var rules []rule
	for _, server := range c.queried() {
		query := [][]expr.Any{isUDP(), destIn(server), destPort(dnsPort)}
		rules = append(rules,
			when(append(query, userIs(c.ProxyUID))...)(untrack()),
			when(append(query, groupIs(c.ProxyUID))...)(untrack()),
		)
	}
	return rules
}

// untrackedAnswers are those to untrackedQueries. Queries of the application that
// were led to the proxy get none from outside.
func (c *Config) untrackedAnswers() []rule {
	var rules []rule
	for _, server := range c.queried() {
		rules = append(rules, when(isUDP(), sourceIn(server), sourcePort(dnsPort))(untrack()))
	}
	return rules
}

// inputRules decide about connections that come to the pod, in order.
func (c *Config) inputRules() []rule {
	rules := []rule{when(notTCP())(accept()), when(inLoopback())(accept())}
	for _, p := range slices.Concat(OwnPorts(), c.ExcludeInboundPorts) {
		rules = append(rules, when(destPort(p))(accept()))
	}
	if c.AllInbound {
		return append(rules, when()(redirectTo(c.InboundPort)))
	}
	for _, p := range c.IncludeInboundPorts {
		rules = append(rules, when(destPort(p))(redirectTo(c.InboundPort)))
	}
	return rules
}

// when joins matches to a rule that ends in a verdict.
func when(matches ...[]expr.Any) func(verdict []expr.Any) rule {
	return func(verdict []expr.Any) rule {
		return append(slices.Concat(matches...), verdict...)
	}
}

// accept ends the chain: the connection goes where it wants to.
func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// redirectTo sends the connection to a local port.
func redirectTo(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

// untrack leaves a packet out of connection tracking, and so out of all that
// follows from it: it is redirected by nothing.
func untrack() []expr.Any { return []expr.Any{&expr.Notrack{}} }

func meta(key expr.MetaKey, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

func notTCP() []expr.Any {
	return meta(expr.MetaKeyL4PROTO, expr.CmpOpNeq, []byte{unix.IPPROTO_TCP})
}

func isUDP() []expr.Any {
	return meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_UDP})
}

func userIs(uid uint32) []expr.Any {
	return meta(expr.MetaKeySKUID, expr.CmpOpEq, native32(uid))
}

func groupIs(gid uint32) []expr.Any {
	return meta(expr.MetaKeySKGID, expr.CmpOpEq, native32(gid))
}

func outLoopback() []expr.Any { return meta(expr.MetaKeyOIFNAME, expr.CmpOpEq, ifname("lo")) }
func inLoopback() []expr.Any  { return meta(expr.MetaKeyIIFNAME, expr.CmpOpEq, ifname("lo")) }

func native32(v uint32) []byte {
	b := make([]byte, 4)
	binary.NativeEndian.PutUint32(b, v)
	return b
}

// ifname pads an interface name to the kernel's IFNAMSIZ.
func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

// sourcePort and destPort match a port; the protocol is known to be TCP or UDP,
// whose headers begin alike.
func sourcePort(p uint16) []expr.Any { return portAt(0, p) }
func destPort(p uint16) []expr.Any   { return portAt(2, p) }

func portAt(offset uint32, p uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(p)},
	}
}

func destIn(p netip.Prefix) []expr.Any    { return address(p, false, expr.CmpOpEq) }
func destNotIn(p netip.Prefix) []expr.Any { return address(p, false, expr.CmpOpNeq) }
func sourceIn(p netip.Prefix) []expr.Any  { return address(p, true, expr.CmpOpEq) }

// address matches source or destination by a prefix, and the prefix's address
// family with it. The offsets are those of the IPv4 and IPv6 headers.
func address(p netip.Prefix, source bool, op expr.CmpOp) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	if source {
		offset = 12
	}

	if p.Addr().Is6() {
		family, offset, size = unix.NFPROTO_IPV6, 24, 16
		if source {
			offset = 8
		}
	}

	out := meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{family})
	out = append(out, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size})
	if p.Bits() < p.Addr().BitLen() {
		out = append(out, &expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: size,
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, size),
		})
	}
	return append(out, &expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()})
}
