// Package topo makes the network that a rig runs in: network namespaces joined by
// one bridge, with nothing of it on the host. The namespaces have no names; they go
// when the process that made them does.
//
// It needs root. It starts processes inside namespaces, and runs functions
// there; what they do is none of its business.
package topo

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// prefixBits is the size of the one subnet that all nodes are in.
const prefixBits = 16

const bridgeName = "fabric"

// Net is a set of nodes on one bridge.
type Net struct {
	fabric *space
	nodes  []*Node
}

// Node is one network namespace with an address on the bridge.
type Node struct {
	Name string
	Addr netip.Addr
	*space
}

// space is a network namespace together with the thread that lives in it.
type space struct {
	ns    netns.NsHandle
	calls chan func()
}

// New makes the bridge.
func New() (*Net, error) {
	fabric, err := newSpace()
	if err != nil {
		return nil, fmt.Errorf("make a network namespace (root needed): %w", err)
	}
	err = fabric.link(func(h *netlink.Handle) error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
		if err := h.LinkAdd(br); err != nil {
			return err
		}
		return h.LinkSetUp(br)
	})
	if err != nil {
		fabric.close()
		return nil, fmt.Errorf("make the bridge: %w", err)
	}
	return &Net{fabric: fabric}, nil
}

// Close ends all namespaces. Processes that still run in one keep it alive.
func (n *Net) Close() {
	for _, node := range n.nodes {
		node.close()
	}
	n.fabric.close()
}

// Add makes a node with the address, and a default route over the bridge, so
// that connections to any address leave it (or are redirected).
func (n *Net) Add(name string, addr netip.Addr) (*Node, error) {
	s, err := newSpace()
	if err != nil {
		return nil, fmt.Errorf("node %s: make a network namespace: %w", name, err)
	}
	node := &Node{Name: name, Addr: addr, space: s}
	if err := n.plug(node); err != nil {
		s.close()
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	n.nodes = append(n.nodes, node)
	return node, nil
}

func (n *Net) plug(node *Node) error {
	port := fmt.Sprintf("port%d", len(n.nodes))
	err := n.fabric.link(func(h *netlink.Handle) error {
		br, err := h.LinkByName(bridgeName)
		if err != nil {
			return err
		}
		veth := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: port, MasterIndex: br.Attrs().Index},
			PeerName:      "eth0",
			PeerNamespace: netlink.NsFd(int(node.ns)),
		}
		if err := h.LinkAdd(veth); err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		return h.LinkSetUp(veth)
	})
	if err != nil {
		return err
	}
	return node.link(func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		eth, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		ip := net.IP(node.Addr.AsSlice())
		mask := net.CIDRMask(prefixBits, node.Addr.BitLen())
		return errors.Join(
			h.LinkSetUp(lo),
			h.AddrAdd(eth, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: mask}}),
			h.LinkSetUp(eth),
			h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Scope: netlink.SCOPE_LINK,
				Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}),
		)
	})
}

// newSpace starts a thread in a new network namespace. The thread lives as
// long as the space, because processes that it starts with a death signal die
// with it.
func newSpace() (*space, error) {
	s := &space{calls: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- err
			return
		}
		ns, err := netns.Get()
		s.ns = ns
		made <- err
		if err != nil {
			return
		}
		for f := range s.calls {
			f()
		}
	}()
	if err := <-made; err != nil {
		return nil, err
	}
	return s, nil
}

func (s *space) close() {
	close(s.calls)
	_ = s.ns.Close()
}

func (s *space) link(f func(h *netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(s.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h)
}

// Do runs f on the namespace's thread, one call at a time. Sockets that f opens
// itself (not in goroutines of its own) belong to the namespace for good.
func (s *space) Do(f func() error) error {
	done := make(chan error)
	s.calls <- func() { done <- f() }
	return <-done
}

// Start starts the command inside the namespace. The process is killed when
// this one dies.
func (s *space) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return s.Do(cmd.Start)
}

// Run runs the command inside the namespace to its end; its output is part of
// the error.
func (s *space) Run(cmd *exec.Cmd) error {
	return s.Do(func() error {
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", cmd, err, out)
		}
		return nil
	})
}

// Dial opens a TCP connection from inside the namespace.
func (s *space) Dial(addr string) (net.Conn, error) {
	var c net.Conn
	err := s.Do(func() error {
		var err error
		c, err = net.Dial("tcp", addr)
		return err
	})
	return c, err
}

// Listen listens on TCP inside the namespace.
func (s *space) Listen(addr string) (net.Listener, error) {
	var l net.Listener
	err := s.Do(func() error {
		var err error
		l, err = net.Listen("tcp", addr)
		return err
	})
	return l, err
}
