// Package fabric is the network between the nodes of a lab: a router in a
// network namespace of its own, one cable to each node, and the cuts that
// `lab partition` makes. It works on the namespace of the calling process and
// knows nothing of Kubernetes.
package fabric

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// nodeLink is the node's end of its cable.
const nodeLink = "eth0"

// Fabric is the router. Its methods may be called concurrently.
type Fabric struct {
	lab *plan.Lab

	mu   sync.Mutex
	cuts Cuts
}

// New turns the process's network namespace into the lab's router.
func New(ctx context.Context, lab *plan.Lab) (*Fabric, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find the fabric's loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("raise the fabric's loopback: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return nil, fmt.Errorf("let the fabric forward packets: %w", err)
	}

	f := &Fabric{lab: lab, cuts: Cuts{}}
	return f, f.applyLocked(ctx)
}

// Plug lays a cable between the fabric and the network namespace of process
// pid and gives both ends their addresses and routes.
func (f *Fabric) Plug(c plan.Cluster, pid int) error {
	f.mu.Lock()
	defer f.mu.Unlock()

	if err := f.unplugLocked(c); err != nil {
		return err
	}

	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: c.Link()},
		PeerName:      nodeLink,
		PeerNamespace: netlink.NsPid(pid),
	}

	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("lay a cable to %s: %w", c.Name(), err)
	}
	if err := f.setUpNear(c); err != nil {
		return fmt.Errorf("set up the fabric's end of the cable to %s: %w", c.Name(), err)
	}
	if err := setUpFar(c, pid); err != nil {
		return fmt.Errorf("set up the network of %s: %w", c.Name(), err)
	}
	return nil
}

// Unplug removes the cable to a node, if there is one. Packets to the node's
// networks vanish from then on, as they do when a site loses its power, rather
// than being answered by the router.
func (f *Fabric) Unplug(c plan.Cluster) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, dst := range f.networks(c) {
		if err := netlink.RouteReplace(blackhole(dst)); err != nil {
			return fmt.Errorf("take %s off the map: %w", c.Name(), err)
		}
	}
	return f.unplugLocked(c)
}

// networks are those that the fabric reaches through a node.
func (f *Fabric) networks(c plan.Cluster) []netip.Prefix {
	if f.lab.Network == plan.SingleNetwork {
		return []netip.Prefix{c.NodeNet(), c.PodCIDR()}
	}
	return []netip.Prefix{c.NodeNet()}
}

// blackhole is a route that loses packets; one through a cable comes before it.
func blackhole(dst netip.Prefix) *netlink.Route {
	return &netlink.Route{Dst: ipNet(dst), Type: unix.RTN_BLACKHOLE, Priority: blackholeMetric}
}

// blackholeMetric ranks behind that of any other route.
const blackholeMetric = 1 << 20

func (f *Fabric) unplugLocked(c plan.Cluster) error {
	link, err := netlink.LinkByName(c.Link())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}

	// The kernel drops the cable with the node's namespace: it may be gone
	// by now.
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove the cable to %s: %w", c.Name(), err)
	}
	return nil
}

func (f *Fabric) setUpNear(c plan.Cluster) error {
	link, err := netlink.LinkByName(c.Link())
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, address(c.GatewayIP(), c.NodeNet().Bits())); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if f.lab.Network != plan.SingleNetwork {
		return nil
	}

	return netlink.RouteReplace(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: ipNet(c.PodCIDR()), Gw: c.NodeIP().AsSlice(),
	})
}

func setUpFar(c plan.Cluster, pid int) error {
	h, err := nodeHandle(pid)
	if err != nil {
		return err
	}
	defer h.Close()

	for _, name := range []string{"lo", nodeLink} {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if name == nodeLink {
			if err := h.AddrAdd(link, address(c.NodeIP(), c.NodeNet().Bits())); err != nil {
				return err
			}
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
	}

	link, err := h.LinkByName(nodeLink)
	if err != nil {
		return err
	}
	return h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: c.GatewayIP().AsSlice()})
}

// SetAddresses makes the node of process pid answer for exactly these
// load-balancer addresses beside its own.
func SetAddresses(c plan.Cluster, pid int, want []netip.Addr) error {
	h, err := nodeHandle(pid)
	if err != nil {
		return err
	}
	defer h.Close()

	link, err := h.LinkByName(nodeLink)
	if err != nil {
		return fmt.Errorf("find the network interface of %s: %w", c.Name(), err)
	}

	have, err := h.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", c.Name(), err)
	}

	missing := map[netip.Addr]bool{}
	for _, ip := range want {
		missing[ip] = true
	}

	for i := range have {
		ip, _ := netip.AddrFromSlice(have[i].IP.To4())
		if ip == c.NodeIP() || missing[ip] {
			delete(missing, ip)
			continue
		}
		if err := h.AddrDel(link, &have[i]); err != nil {
			return fmt.Errorf("take address %s from %s: %w", ip, c.Name(), err)
		}
	}

	for ip := range missing {
		if err := h.AddrAdd(link, address(ip, 32)); err != nil {
			return fmt.Errorf("give address %s to %s: %w", ip, c.Name(), err)
		}
	}
	return nil
}

func nodeHandle(pid int) (*netlink.Handle, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("talk to the network namespace of process %d: %w", pid, err)
	}
	return h, nil
}

func address(ip netip.Addr, bits int) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// applyLocked loads the packet rules for the present cuts.
func (f *Fabric) applyLocked(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = bytes.NewReader([]byte(f.cuts.rules()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load the fabric's packet rules: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
