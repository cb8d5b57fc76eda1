package upstream

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// fullListener is a socket that drops every SYN, because its queue of connections is
// full, until accept makes room.
func fullListener(t *testing.T) (addr netip.AddrPort, accept func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
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
	t.Cleanup(func() { waiting.Close() })
	return addr, func() {
		if taken, _, err := unix.Accept(fd); err == nil {
			_ = unix.Close(taken)
		}
	}
}

// TestLostSYN: to an endpoint without another, a SYN that was lost costs time, not the
// connection.
func TestLostSYN(t *testing.T) {
	// Below the second after which the kernel sends a SYN again.
	const limit = 900 * time.Millisecond
	for name, tt := range map[string]struct {
		others  int
		reached bool
	}{
		"a lone endpoint": {others: 0, reached: true},
		"one of two":      {others: 1, reached: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, accept := fullListener(t)
			endpoints := []config.Endpoint{{Addr: addr.Addr(), Port: addr.Port(), Healthy: true}}
			for range tt.others {
				endpoints = append(endpoints, config.Endpoint{Addr: addr.Addr(), Port: 1, Healthy: true})
			}
			s := newTestSet(t, Options{})
			c := apply(t, s, &config.Cluster{
				Name: "c", Type: config.ClusterStatic, ConnectTimeout: limit,
				Endpoints: eds("c", locality(0, endpoints...)),
			})
			var full *Endpoint
			for _, e := range c.Endpoints() {
				if e.Addr() == addr {
					full = e
				}
			}

			// In the second try: its SYN is lost, too, and the third one's is not.
			room := time.AfterFunc(limit*3/2, accept)
			defer room.Stop()
			conn, _, err := full.Dial(context.Background(), config.ProtocolTCP)
			if reached := err == nil; reached != tt.reached {
				t.Fatalf("reached: %v, want %v (%v)", reached, tt.reached, err)
			}
			if err == nil {
				conn.Close()
			}
		})
	}
}
