package discovery

import (
	"io"
	"net"
	"testing"
	"time"
)

func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := boundConns(inner, 4, 3)
	defer l.Close()
	taken := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taken <- c
		}
	}()
	// dial connects from an address of loopback, and tells whether the server
	// took the connection.
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		select {
		case server := <-taken:
			t.Cleanup(func() { server.Close() })
			return server
		case <-closedByPeer(c):
			return nil
		case <-time.After(20 * time.Second):
			t.Fatal("neither taken nor closed")
			return nil
		}
	}

	first := dial("127.0.0.2")
	for range 2 {
		if dial("127.0.0.2") == nil {
			t.Fatal("a connection within the bounds was closed")
		}
	}
	if dial("127.0.0.2") != nil {
		t.Error("a fourth connection of one address was taken")
	}
	if dial("127.0.0.3") == nil {
		t.Error("another address has no room")
	}
	if dial("127.0.0.4") != nil {
		t.Error("a fifth connection in all was taken")
	}

	first.Close()
	first.Close() // counts once
	if dial("127.0.0.4") == nil {
		t.Error("a closed connection still counts")
	}
	if dial("127.0.0.5") != nil {
		t.Error("a connection that was closed twice counted twice")
	}
}

func closedByPeer(c net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, c)
	}()
	return done
}
