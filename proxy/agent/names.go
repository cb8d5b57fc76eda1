package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/proxy/dns"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
	"github.com/isthmus-mesh/isthmus/xds/nds"
)

// DNS is the name server beside the data plane.
type DNS struct {
	// Listen is the port on loopback.
	Listen uint16
	// Resolvers are the name servers that the pod has without the proxy.
	Resolvers []netip.Addr
	// Home is where the pod's names begin.
	Home dns.Home
}

// names is the name server of an agent, and what feeds it. Its methods may be called
// on nil, which is for agents that do not answer DNS.
type names struct {
	server *dns.Server
	cfg    DNS
	// served tells that discovery has said which names there are, if only that
	// it knows of none.
	served atomic.Bool
}

func newNames(c *Config) (*names, error) {
	if c.DNS == nil {
		return nil, nil
	}
	cfg := dns.Config{Logger: c.Logger.With("part", "dns"), Registerer: c.Registry}
	v4, v6 := false, false
	for _, ip := range c.DNS.Resolvers {
		cfg.Resolvers = append(cfg.Resolvers, netip.AddrPortFrom(ip, dns.Port))
		v4, v6 = v4 || ip.Is4(), v6 || ip.Is6()
	}

	// Queries to a resolver come to the loopback address of its family.
	if v4 || !v6 {
		cfg.Listen = append(cfg.Listen, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), c.DNS.Listen))
	}
	if v6 {
		cfg.Listen = append(cfg.Listen, netip.AddrPortFrom(netip.IPv6Loopback(), c.DNS.Listen))
	}

	server, err := dns.New(cfg)
	if err != nil {
		return nil, err
	}
	return &names{server: server, cfg: *c.DNS}, nil
}

// handler is the data plane with the name server beside it: each takes the types that
// are its own.
type handler struct {
	Engine
	names *names
}

// Apply implements fetch.Handler.
func (h handler) Apply(typeURL string, added []fetch.Resource, removed []string) error {
	if typeURL != xds.TypeNameTable || h.names == nil {
		return h.Engine.Apply(typeURL, added, removed)
	}
	return h.names.apply(added)
}

// apply puts the table in force. Discovery has one for each proxy, and takes it away
// from none. One that is wrong leaves the former in force.
func (n *names) apply(added []fetch.Resource) error {
	defer n.served.Store(true)
	for _, r := range added {
		t, err := n.decode(r.Body)
		if err != nil {
			return &fetch.RejectError{Reasons: map[string]error{r.Name: err}}
		}
		n.server.SetTable(t)
	}
	return nil
}

func (n *names) decode(body *anypb.Any) (*dns.Table, error) {
	table := &nds.NameTable{}
	if err := body.UnmarshalTo(table); err != nil {
		return nil, err
	}
	return dns.NewTable(table, n.cfg.Home)
}

// ready is nil once names that only the mesh knows can be resolved: an application
// that asked earlier would be told that they do not exist, and may remember it.
func (n *names) ready() error {
	if n == nil || n.served.Load() {
		return nil
	}
	return errors.New("no names yet: discovery has not sent the name table")
}

// dump is the page /dns.
func (a *Agent) dnsDump() any {
	out := struct {
		Enabled   bool         `json:"enabled"`
		Namespace string       `json:"namespace,omitempty"`
		Search    string       `json:"search,omitempty"`
		Resolvers []netip.Addr `json:"resolvers,omitempty"`
		Names     []dns.Name   `json:"names,omitempty"`
	}{Enabled: a.names != nil}

	if a.names != nil {
		home := a.names.cfg.Home
		out.Namespace, out.Search, out.Resolvers = home.Namespace, home.Search, a.names.cfg.Resolvers
		if t := a.names.server.Table(); t != nil {
			out.Names = t.Names()
		}
	}
	return out
}

// checkDNS tells what is wrong with the settings of the name server.
func (c *Config) checkDNS() error {
	if c.DNS == nil {
		return nil
	}
	if c.Kind != Sidecar {
		return fmt.Errorf("a %s answers no DNS: it has no application beside it", c.Kind)
	}
	for _, ip := range c.DNS.Resolvers {
		if !ip.IsValid() || ip.IsLoopback() || ip.WithZone("") == c.IP {
			return fmt.Errorf("the resolver %s is in the pod itself", ip)
		}
	}
	return nil
}
