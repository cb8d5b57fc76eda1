package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/isthmus-mesh/isthmus/proxy/agent"
	"github.com/isthmus-mesh/isthmus/proxy/dns"
)

// dnsPort is where a sidecar answers DNS, as in Istio.
const dnsPort = 15053

// readResolvConf reads the pod's resolv.conf. Without one there are no name servers.
func readResolvConf(file string) (dns.ResolvConf, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return dns.ResolvConf{}, nil
	}
	if err != nil {
		return dns.ResolvConf{}, fmt.Errorf("read the pod's name servers: %w", err)
	}
	defer f.Close()
	conf, err := dns.ParseResolvConf(f)
	if err != nil {
		return conf, fmt.Errorf("%s: %w", file, err)
	}
	return conf, nil
}

// nameServers are those of a resolv.conf that are not in the pod itself.
func nameServers(file string) (dns.ResolvConf, []netip.Addr, error) {
	conf, err := readResolvConf(file)
	if err != nil {
		return conf, nil, err
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return conf, nil, fmt.Errorf("find the pod's addresses: %w", err)
	}
	var own []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap())
		}
	}
	return conf, conf.Others(own), nil
}

// nameServer is the configuration of the name server; nil when there is none to be.
func (s *settings) nameServer(kind agent.Kind) (*agent.DNS, error) {
	if _, err := parseSwitch("dns-auto-allocate", s.dnsAutoAllocate); err != nil {
		return nil, err
	}
	capture, err := parseSwitch("dns-capture", s.dnsCapture)
	if err != nil || !capture || kind != agent.Sidecar {
		return nil, err
	}

	conf, resolvers, err := nameServers(s.resolvConf)
	if err != nil {
		return nil, err
	}
	out := &agent.DNS{
		Listen: dnsPort, Resolvers: resolvers,
		Home: dns.Home{Namespace: s.namespace, Domain: s.dnsDomain},
	}
	if len(conf.Search) > 0 {
		out.Home.Search = conf.Search[0]
	}
	return out, nil
}
