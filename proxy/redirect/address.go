package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// addPassthroughV6 gives the loopback interface the address ::6. For IPv4
// nothing is needed: all of 127.0.0.0/8 is there.
func addPassthroughV6() error {
	if _, err := os.Stat("/proc/sys/net/ipv6/conf/lo"); err != nil {
		return nil // no IPv6 here
	}
	if data, err := os.ReadFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6"); err == nil && len(data) > 0 && data[0] == '1' {
		return nil
	}

	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return fmt.Errorf("redirect: find the loopback interface: %w", err)
	}

	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return fmt.Errorf("redirect: open netlink: %w", err)
	}
	defer conn.Close()

	addr := netip.MustParseAddr(PassthroughV6).AsSlice()
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.IFA_LOCAL, Data: addr},
		{Type: unix.IFA_ADDRESS, Data: addr},
	})
	if err != nil {
		return err
	}

	// struct ifaddrmsg of rtnetlink(7): family, prefix length, flags, scope,
	// index.
	msg := []byte{unix.AF_INET6, 128, 0, unix.RT_SCOPE_HOST, 0, 0, 0, 0}
	binary.NativeEndian.PutUint32(msg[4:], uint32(lo.Index))
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWADDR, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Replace},
		Data:   append(msg, attrs...),
	})
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("redirect: add %s to the loopback interface: %w", PassthroughV6, hint(err))
	}
	return nil
}
