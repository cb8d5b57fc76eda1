// Package hole makes addresses that swallow what is sent there, as those of a machine
// that is gone, without rights and without another network.
package hole

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Listen returns the address of a socket that drops every SYN, because its queue of
// connections is full, until accept makes room for one. It lasts as long as the test.
func Listen(t testing.TB) (addr netip.AddrPort, accept func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))

	// With a backlog of 0 there is room for one (listen(2)).
	waiting, err := net.Dial("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = waiting.Close() })
	return addr, func() {
		if taken, _, err := unix.Accept(fd); err == nil {
			_ = unix.Close(taken)
		}
	}
}
