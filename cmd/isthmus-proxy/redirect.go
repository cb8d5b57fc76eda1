package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/proxy/redirect"
	"github.com/isthmus-mesh/isthmus/xds"
)

// redirectFlags are the flags of redirect, as they are typed.
type redirectFlags struct {
	outbound, inbound          uint16
	uid                        uint32
	includeCIDRs, excludeCIDRs string
	includeInPorts, excludeIn  string
	excludeOut                 string
	dns                        bool
	resolvConf                 string
	clean                      bool
}

func runRedirect(_ context.Context, c *call) error {
	var f redirectFlags
	fl := c.flags
	fl.Uint16Var(&f.outbound, "proxy-port", 15001, "port that outbound connections are led to")
	fl.Uint16Var(&f.inbound, "inbound-port", 15006, "port that inbound connections are led to")
	fl.Uint32Var(&f.uid, "proxy-uid", 1337, "user and group of the proxy, whose own connections are left alone")
	fl.StringVar(&f.includeCIDRs, "include-outbound-cidrs", "*", `destinations that are led to the proxy, comma-separated; "*" is all, "" none`)
	fl.StringVar(&f.excludeCIDRs, "exclude-outbound-cidrs", "", "destinations that are not")
	fl.StringVar(&f.excludeOut, "exclude-outbound-ports", "", "destination ports that are not")
	fl.StringVar(&f.includeInPorts, "include-inbound-ports", "*", `ports of the pod that are led to the proxy; "*" is all, "" none`)
	fl.StringVar(&f.excludeIn, "exclude-inbound-ports", "", "ports of the pod that are not; always with "+portList(redirect.OwnPorts()))
	fl.BoolVar(&f.dns, "dns", false, fmt.Sprintf("lead queries to the pod's name servers to the proxy, port %d", dnsPort))
	fl.StringVar(&f.resolvConf, "resolv-conf", "/etc/resolv.conf", "with --dns: the file that names them; one in the pod itself is left alone, and addresses that the mesh gives to hosts are always led to the proxy")
	fl.BoolVar(&f.clean, "clean", false, "remove the rules")

	if err := c.parse(0); err != nil {
		return err
	}
	if f.clean {
		return redirect.Clean()
	}

	cfg, err := f.config()
	if err != nil {
		return err
	}
	if err := redirect.Apply(cfg); err != nil {
		return err
	}

	fmt.Fprintf(c.out, "traffic is led to ports %d (outbound) and %d (inbound); table inet %s\n", f.outbound, f.inbound, redirect.TableName)
	switch {
	case f.dns && len(cfg.DNSServers) == 0:
		fmt.Fprintf(c.out, "DNS queries are led nowhere: %s names no server outside the pod\n", f.resolvConf)
	case f.dns:
		fmt.Fprintf(c.out, "DNS queries to %v are led to port %d\n", cfg.DNSServers, cfg.DNSPort)
	}
	return nil
}

// config reads the lists.
func (f *redirectFlags) config() (redirect.Config, error) {
	cfg := redirect.Config{OutboundPort: f.outbound, InboundPort: f.inbound, ProxyUID: f.uid}
	var all bool
	var err error
	if cfg.IncludeOutboundCIDRs, cfg.AllOutbound, err = redirect.ParseCIDRs(f.includeCIDRs); err != nil {
		return cfg, fmt.Errorf("--include-outbound-cidrs: %w", err)
	}

	if cfg.ExcludeOutboundCIDRs, all, err = redirect.ParseCIDRs(f.excludeCIDRs); err != nil {
		return cfg, fmt.Errorf("--exclude-outbound-cidrs: %w", err)
	}
	if all {
		return cfg, fmt.Errorf(`--exclude-outbound-cidrs: "*" excludes everything: say --include-outbound-cidrs ""`)
	}

	if cfg.ExcludeOutboundPorts, all, err = redirect.ParsePorts(f.excludeOut); err != nil {
		return cfg, fmt.Errorf("--exclude-outbound-ports: %w", err)
	}
	if all {
		return cfg, fmt.Errorf(`--exclude-outbound-ports: "*" excludes everything: say --include-outbound-cidrs ""`)
	}

	if cfg.IncludeInboundPorts, cfg.AllInbound, err = redirect.ParsePorts(f.includeInPorts); err != nil {
		return cfg, fmt.Errorf("--include-inbound-ports: %w", err)
	}
	if cfg.ExcludeInboundPorts, all, err = redirect.ParsePorts(f.excludeIn); err != nil {
		return cfg, fmt.Errorf("--exclude-inbound-ports: %w", err)
	}
	if all {
		return cfg, fmt.Errorf(`--exclude-inbound-ports: "*" excludes everything: say --include-inbound-ports ""`)
	}

	if f.dns {
		cfg.DNSPort, cfg.GivenCIDRs = dnsPort, []netip.Prefix{xds.EntryRange(), xds.ElsewhereRange()}
		_, cfg.DNSServers, err = nameServers(f.resolvConf)
	}
	return cfg, err
}
