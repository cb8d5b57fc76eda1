package redirect_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/proxy/redirect"
)

func TestParse(t *testing.T) {
	tests := []struct {
		in   string
		list string
		all  bool
		bad  bool
	}{
		{in: ""},
		{in: "*", all: true},
		{in: "10.0.0.0/8, 192.168.1.7", list: "[10.0.0.0/8 192.168.1.7/32]"},
		{in: "10.1.2.3/8,fd00::/64", list: "[10.0.0.0/8 fd00::/64]"},
		{in: "10.0.0.0/33", bad: true},
		{in: "example.org", bad: true},
		{in: "fe80::1%eth0", bad: true},
	}
	for _, tt := range tests {
		list, all, err := redirect.ParseCIDRs(tt.in)
		if (err != nil) != tt.bad || all != tt.all || len(list) > 0 && fmt.Sprint(list) != tt.list {
			t.Errorf("ParseCIDRs(%q) = %v, %v, %v", tt.in, list, all, err)
		}
	}
	for in, want := range map[string]string{"80,443": "[80 443] false", "*": "[] true", "": "[] false"} {
		list, all, err := redirect.ParsePorts(in)
		if got := fmt.Sprint(list, all); err != nil || got != want {
			t.Errorf("ParsePorts(%q) = %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"0", "65536", "-1", "http"} {
		if _, _, err := redirect.ParsePorts(in); err == nil {
			t.Errorf("ParsePorts(%q) has no error", in)
		}
	}
}

func TestValidate(t *testing.T) {
	good := redirect.Config{OutboundPort: 15001, InboundPort: 15006, ProxyUID: 1337, AllOutbound: true, AllInbound: true}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, edit := range map[string]func(*redirect.Config){
		"same port":                    func(c *redirect.Config) { c.InboundPort = c.OutboundPort },
		"no port":                      func(c *redirect.Config) { c.InboundPort = 0 },
		"all and a CIDR":               func(c *redirect.Config) { c.IncludeOutboundCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
		"host bits":                    func(c *redirect.Config) { c.ExcludeOutboundCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} },
		"DNS at a port that is taken":  func(c *redirect.Config) { c.DNSPort = c.InboundPort },
		"a name server in the pod":     func(c *redirect.Config) { c.DNSServers = []netip.Addr{netip.MustParseAddr("127.0.0.53")} },
		"host bits in a range of ours": func(c *redirect.Config) { c.GivenCIDRs = []netip.Prefix{netip.MustParsePrefix("242.0.0.1/8")} },
		"port zero":                    func(c *redirect.Config) { c.ExcludeInboundPorts = []uint16{0} },
	} {
		c := good
		edit(&c)
		if c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// pod is a network namespace of our own, with the address 10.77.0.2 and
// fd77::2, whose other end is "outside", a second one, with 10.77.0.1 and
// fd77::1.
type pod struct {
	t            testing.TB
	pod, outside netns.NsHandle
}

func newPod(t testing.TB) *pod {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread dies with the test
	p := &pod{t: t}
	home, err := netns.Get()
	check(t, err)
	p.outside, err = netns.New()
	check(t, err)
	p.pod, err = netns.New()
	check(t, err)
	t.Cleanup(func() {
		check(t, netns.Set(home))
		p.pod.Close()
		p.outside.Close()
		home.Close()
	})
	check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0"}))
	peer, err := netlink.LinkByName("peer0")
	check(t, err)
	check(t, netlink.LinkSetNsFd(peer, int(p.outside)))
	configure(t, "eth0", "10.77.0.2/24", "fd77::2/64", "10.77.0.1", "fd77::1")
	p.in(p.outside, func() { configure(t, "peer0", "10.77.0.1/24", "fd77::1/64", "", "") })
	return p
}

func configure(t testing.TB, name, v4, v6, gw4, gw6 string) {
	t.Helper()
	for _, n := range []string{"lo", name} {
		l, err := netlink.LinkByName(n)
		check(t, err)
		check(t, netlink.LinkSetUp(l))
	}
	l, err := netlink.LinkByName(name)
	check(t, err)
	for _, a := range []string{v4, v6} {
		addr, err := netlink.ParseAddr(a)
		check(t, err)
		addr.Flags = unix.IFA_F_NODAD
		check(t, netlink.AddrAdd(l, addr))
	}
	for _, gw := range []string{gw4, gw6} {
		if gw != "" {
			check(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gw)}))
		}
	}
}

// configureAddress gives an interface one more address.
func configureAddress(t testing.TB, name, address string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	check(t, err)
	addr, err := netlink.ParseAddr(address)
	check(t, err)
	check(t, netlink.AddrAdd(l, addr))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// in runs f in another namespace.
func (p *pod) in(ns netns.NsHandle, f func()) {
	p.t.Helper()
	here, err := netns.Get()
	check(p.t, err)
	defer here.Close()
	check(p.t, netns.Set(ns))
	f()
	check(p.t, netns.Set(here))
}

// listen answers every connection with name and the destination that it had
// before redirection.
func listen(t *testing.T, network, addr, name string) {
	t.Helper()
	l, err := net.Listen(network, addr)
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, originalDst(c.(*net.TCPConn)))
			c.Close()
		}
	}()
}

// originalDst asks the kernel; without an entry it gives the local address.
func originalDst(c *net.TCPConn) netip.AddrPort {
	local := netip.MustParseAddrPort(c.LocalAddr().String())
	out := netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	raw, err := c.SyscallConn()
	if err != nil {
		return out
	}
	_ = raw.Control(func(fd uintptr) {
		if out.Addr().Is4() {
			if m, err := unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST); err == nil {
				b := m.Multiaddr
				out = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
			}
			return
		}
		const ip6tSoOriginalDst = 80
		if m, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, ip6tSoOriginalDst); err == nil {
			port := m.Addr.Port>>8 | m.Addr.Port<<8
			out = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), port)
		}
	})
	return out
}

// call connects and reads who answered. from is a source address or "".
func call(addr, from string) string {
	d := net.Dialer{Timeout: 2 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		if errors.Is(err, unix.ECONNREFUSED) {
			return "refused"
		}
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	buf := make([]byte, 200)
	n, _ := c.Read(buf)
	return string(buf[:n])
}

// The test process is user 0: with ProxyUID 1337 it is the application, with
// ProxyUID 0 it is the proxy.
func TestRedirection(t *testing.T) {
	p := newPod(t)
	listen(t, "tcp", ":15001", "outbound")
	listen(t, "tcp", ":15006", "inbound")
	listen(t, "tcp", ":8080", "app")
	listen(t, "tcp", ":9000", "app")
	listen(t, "tcp", ":15021", "health")
	p.in(p.outside, func() {
		listen(t, "tcp", ":80", "outside")
		listen(t, "tcp", ":2049", "outside")
	})
	cfg := redirect.Config{
		OutboundPort: 15001, InboundPort: 15006, ProxyUID: 1337, AllOutbound: true, AllInbound: true,
		ExcludeOutboundPorts: []uint16{2049}, ExcludeInboundPorts: []uint16{9000},
		ExcludeOutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16"), netip.MustParsePrefix("fd77::1/128")},
	}
	check(t, redirect.Apply(cfg))
	check(t, redirect.Apply(cfg)) // again, with no other effect

	type probe struct{ name, addr, from, want string }
	run := func(probes []probe) {
		t.Helper()
		for _, pr := range probes {
			if got := call(pr.addr, pr.from); got != pr.want {
				t.Errorf("%s: %s answered %q, want %q", pr.name, pr.addr, got, pr.want)
			}
		}
	}
	run([]probe{
		{"any address and port", "203.0.113.9:81", "", "outbound 203.0.113.9:81"},
		{"an existing server", "10.77.0.1:80", "", "outbound 10.77.0.1:80"},
		{"IPv6", "[2001:db8::7]:443", "", "outbound [2001:db8::7]:443"},
		{"excluded port", "10.77.0.1:2049", "", "outside 10.77.0.1:2049"},
		{"excluded IPv6 address", "[fd77::1]:80", "", "outside [fd77::1]:80"},
		{"loopback", "127.0.0.1:8080", "", "app 127.0.0.1:8080"},
		{"own address", "10.77.0.2:8080", "", "app 10.77.0.2:8080"},
		{"IPv6 loopback", "[::1]:8080", "", "app [::1]:8080"},
	})
	if got := call("10.99.0.1:80", ""); strings.HasPrefix(got, "outbound") {
		t.Errorf("excluded CIDR was redirected: %s", got)
	}
	p.in(p.outside, func() {
		run([]probe{
			{"inbound", "10.77.0.2:8080", "", "inbound 10.77.0.2:8080"},
			{"inbound without listener", "10.77.0.2:7777", "", "inbound 10.77.0.2:7777"},
			{"inbound IPv6", "[fd77::2]:8080", "", "inbound [fd77::2]:8080"},
			{"inbound excluded", "10.77.0.2:9000", "", "app 10.77.0.2:9000"},
			{"health port", "10.77.0.2:15021", "", "health 10.77.0.2:15021"},
		})
	})

	cfg.ProxyUID = 0
	check(t, redirect.Apply(cfg))
	run([]probe{
		{"the proxy", "10.77.0.1:80", "", "outside 10.77.0.1:80"},
		{"the proxy to its own pod", "10.77.0.2:8080", "", "inbound 10.77.0.2:8080"},
		{"the proxy to its own pod, IPv6", "[fd77::2]:8080", "", "inbound [fd77::2]:8080"},
		{"the proxy to its application", "10.77.0.2:8080", redirect.PassthroughV4, "app 10.77.0.2:8080"},
		{
			name: "the proxy to its application, IPv6",
			addr: "[fd77::2]:8080",
			from: redirect.PassthroughV6,
			want: "app [fd77::2]:8080",
		},
		{"the proxy to loopback", "127.0.0.1:8080", "", "app 127.0.0.1:8080"},
	})

	check(t, redirect.Clean())
	check(t, redirect.Clean())
	cfg.ProxyUID = 1337
	run([]probe{{"after clean", "10.77.0.1:80", "", "outside 10.77.0.1:80"}})
}

func TestIncludeLists(t *testing.T) {
	p := newPod(t)
	listen(t, "tcp", ":15001", "outbound")
	listen(t, "tcp", ":15006", "inbound")
	listen(t, "tcp", ":8080", "app")
	listen(t, "tcp", ":8081", "app")
	p.in(p.outside, func() { listen(t, "tcp", ":80", "outside") })
	check(t, redirect.Apply(redirect.Config{
		OutboundPort: 15001, InboundPort: 15006, ProxyUID: 1337,
		IncludeOutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
		IncludeInboundPorts:  []uint16{8080},
	}))
	if got := call("10.100.0.1:80", ""); got != "outbound 10.100.0.1:80" {
		t.Error(got)
	}
	if got := call("10.77.0.1:80", ""); got != "outside 10.77.0.1:80" {
		t.Error(got)
	}
	p.in(p.outside, func() {
		if got := call("10.77.0.2:8080", ""); got != "inbound 10.77.0.2:8080" {
			t.Error(got)
		}
		if got := call("10.77.0.2:8081", ""); got != "app 10.77.0.2:8081" {
			t.Error(got)
		}
	})
}
