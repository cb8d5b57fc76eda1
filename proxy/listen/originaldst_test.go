package listen

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/isthmus-mesh/isthmus/proxy/redirect"
)

// TestKernelOriginalDst asks the real connection tracking: in a network
// namespace of its own, behind the real redirection rules.
func TestKernelOriginalDst(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	runtime.LockOSThread() // the thread ends with the test: never unlocked
	host, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	pod, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	defer func() { _ = netns.Set(host) }()
	podNetwork(t)
	err = redirect.Apply(redirect.Config{OutboundPort: 15001, InboundPort: 15006, ProxyUID: 1337, AllOutbound: true, AllInbound: true})
	if err != nil {
		t.Fatal(err)
	}
	for own, dst := range map[string]string{
		"127.0.0.1:15001": "10.50.0.9:8000", "[::1]:15001": "[fd50::9]:8000",
	} {
		ln, err := net.Listen("tcp", own)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", dst)
		if err != nil {
			t.Fatal(err)
		}
		a, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := originalDst(a.(*net.TCPConn)); err != nil || got != netip.MustParseAddrPort(dst) {
			t.Errorf("%s: got %v, %v", dst, got, err)
		}
		a.Close()
		c.Close()
		ln.Close()
	}
}

// podNetwork gives the current namespace a loopback and an interface with
// addresses, which nobody answers behind.
func podNetwork(t *testing.T) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	check(err)
	check(netlink.LinkSetUp(lo))
	check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0"}))
	eth, err := netlink.LinkByName("eth0")
	check(err)
	for _, a := range []string{"10.50.0.1/24", "fd50::1/64"} {
		addr, err := netlink.ParseAddr(a)
		check(err)
		addr.Flags = 0x02 // no duplicate address detection: usable at once
		check(netlink.AddrAdd(eth, addr))
	}
	check(netlink.LinkSetUp(eth))
	peer, err := netlink.LinkByName("peer0")
	check(err)
	check(netlink.LinkSetUp(peer))
}

// TestOriginalDstOfDirectConnection: one that was not redirected has none but
// its own.
func TestOriginalDstOfDirectConnection(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got, err := originalDst(a.(*net.TCPConn)); err != nil || got != addrPort(ln.Addr()) {
		t.Errorf("got %v, %v, want %v", got, err, ln.Addr())
	}
}
