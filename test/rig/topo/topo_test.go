package topo

import (
	"io"
	"net/netip"
	"os"
	"os/exec"
	"testing"
)

func TestNodes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	n, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	a, err := n.Add("a", netip.MustParseAddr("10.79.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Add("b", netip.MustParseAddr("10.79.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.Listen("10.79.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte(c.RemoteAddr().String()))
		_ = c.Close()
	}()
	c, err := a.Dial("10.79.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	seen, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if from, err := netip.ParseAddrPort(string(seen)); err != nil || from.Addr() != a.Addr {
		t.Fatalf("b saw %q, want a connection from %s", seen, a.Addr)
	}
	if err := b.Run(exec.Command("ip", "route", "get", "1.2.3.4")); err != nil {
		t.Errorf("no route to the world: %v", err)
	}
	if err := a.Run(exec.Command("false")); err == nil {
		t.Error("a command that failed gave no error")
	}
	// Nothing of it is here.
	if err := exec.Command("ip", "link", "show", bridgeName).Run(); err == nil {
		t.Errorf("the host has a link %s", bridgeName)
	}
}
