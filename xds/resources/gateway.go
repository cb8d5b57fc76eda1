package resources

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// gateway is what a gateway's pod does: the ports that it opens, each with its servers. It
// is immutable.
type gateway struct {
	ports []gatewayPort // sorted by number
	// access are the AuthorizationPolicies that hold for the gateway's pods.
	access []*accessPolicy
	// tokens are the RequestAuthentications that do.
	tokens []*authentication
}

type gatewayPort struct {
	number uint16 // of the pod
	hosts  []string
	// services are passed on to whoever asks for them by name.
	services []passedService
	// http are servers that route requests, those of the oldest Gateway first.
	http []edgeServer
	// https are those that end TLS before, ending those that lead on what comes out of
	// TLS, and passing those that pass TLS on as routes say, in the same order. No two
	// have a host in common, but those that pass TLS on, of one namespace.
	https, ending, passing []edgeServer
	// tcp are servers that take whatever comes: a port has these or others.
	tcp []edgeServer
	// open tells that there is a server of another kind than tcp; owners have the hosts of
	// those that are told apart by server name.
	open   bool
	owners map[string]*edgeServer
}

// newGateway gathers the servers of the Gateways that select the workload. The
// port of a server is a port of the gateway's service, where it has one.
//
// A server that passes through by server name opens Services of every
// namespace to whoever reaches the gateway: it counts only in a Gateway of the
// workload's own namespace or of the mesh's root. One that leads where
// VirtualServices say counts in a Gateway of any namespace.
func newGateway(w *model.Workload, services []*model.Service, gateways []*model.Gateway, root string) *gateway {
	ports := map[uint16]*gatewayPort{}
	for _, gw := range slices.SortedFunc(slices.Values(gateways), (*model.Gateway).CompareAge) {
		if !matchLabels(gw.Selector, w.Labels) {
			continue
		}
		mayPass := gw.Namespace == w.Namespace || gw.Namespace == root
		for i := range gw.Servers {
			server := &gw.Servers[i]
			if server.Mode == model.PassMesh && !mayPass {
				continue
			}
			port := targetPort(w, services, server.Port)
			if reservedPort(port) {
				// A socket there would collide with the proxy's own.
				continue
			}
			p := ports[port]
			if p == nil {
				p = &gatewayPort{number: port}
				ports[port] = p
			}
			p.add(gw, server, mayPass)
		}
	}

	g := &gateway{}
	for _, p := range ports {
		slices.Sort(p.hosts)
		p.hosts = slices.Compact(p.hosts)
		slices.SortFunc(p.services, passedService.compare)
		p.services = slices.Compact(p.services)
		g.ports = append(g.ports, *p)
	}
	slices.SortFunc(g.ports, func(a, b gatewayPort) int { return cmp.Compare(a.number, b.number) })
	return g
}

// add adds a server of a Gateway: nothing, where servers before it leave no room for it.
// Gateways come by their age. opensServices tells that what it passes on may be any Service.
func (p *gatewayPort) add(gw *model.Gateway, server *model.GatewayServer, opensServices bool) {
	takesAll := server.Mode == model.ServeTCP
	if takesAll && p.open || !takesAll && len(p.tcp) > 0 {
		return
	}
	s := newEdgeServer(gw, server, opensServices)
	if takesAll {
		if len(p.tcp) == 0 || p.tcp[0].namespace == s.namespace {
			p.tcp = append(p.tcp, s)
		}
		return
	}

	p.open = true
	if server.Mode.ByServerName() {
		if s = p.apart(s); len(s.server.Hosts) == 0 {
			return
		}
	}
	switch server.Mode {
	case model.ServeHTTP:
		p.http = append(p.http, s)
	case model.ServeHTTPS:
		p.https = append(p.https, s)
	case model.ServeTLS:
		p.ending = append(p.ending, s)
	case model.PassTLS:
		p.passing = append(p.passing, s)
		for _, host := range s.server.Hosts {
			if opensServices && serviceNamespace(host) != "" {
				p.services = append(p.services, passedService{host, server.Port})
			}
		}
	default:
		p.hosts = append(p.hosts, server.Hosts...)
	}
}

// serviceNamespace is the namespace of the Service whose name, with .svc, a host is.
func serviceNamespace(host string) string {
	if labels := strings.Split(host, "."); len(labels) > 2 && labels[2] == "svc" && !strings.ContainsAny(host, "*/") {
		return labels[1]
	}
	return ""
}

// targetPort finds the pod's port behind a service port.
func targetPort(w *model.Workload, services []*model.Service, port uint16) uint16 {
	for _, svc := range services {
		if len(svc.Selector) == 0 || !matchLabels(svc.Selector, w.Labels) {
			continue
		}
		p := svc.Port(port)
		switch {
		case p == nil:
		case p.TargetName == "":
			return p.Target
		case w.Ports[p.TargetName] != 0:
			return w.Ports[p.TargetName]
		}
	}
	return port
}

// reservedPort tells whether the proxy listens at the port for itself; package
// api refuses it in a Gateway, but a Service may lead there.
func reservedPort(port uint16) bool {
	switch port {
	case 15000, 15001, 15004, 15006, 15008, 15009, 15020, 15021, 15053, 15090:
		return true
	}
	return false
}

// text is equal for gateways that do the same.
func (g *gateway) text() string {
	var b strings.Builder
	for i := range g.ports {
		p := &g.ports[i]
		fmt.Fprint(&b, p.number, p.hosts, p.services)
		for _, s := range slices.Concat(p.http, p.https, p.ending, p.passing, p.tcp) {
			fmt.Fprint(&b, s.gateway, *s.server)
		}
	}
	b.WriteString(accessText(g.access))
	b.WriteString(authenticationText(g.tokens))
	return b.String()
}

// accepts tells whether a server name, which leads to a service of the namespace,
// may pass on some port.
func (g *gateway) accepts(name, namespace string) bool {
	for _, p := range g.ports {
		for _, host := range p.hosts {
			only, pattern := splitGatewayHost(host)
			if (only == "" || only == namespace) && (pattern == "*" || matchHost(pattern, name)) {
				return true
			}
		}
	}
	return false
}

// splitGatewayHost splits NAMESPACE/HOST; a host without a namespace is one of
// any.
func splitGatewayHost(host string) (namespace, pattern string) {
	if namespace, pattern, ok := strings.Cut(host, "/"); ok {
		return namespace, pattern
	}
	return "", host
}

// serverNames are the names that a listener may take at all. Which namespaces
// they lead into is decided by the clusters that there are for them.
func (p *gatewayPort) serverNames() []string {
	var names []string
	for _, host := range p.hosts {
		_, pattern := splitGatewayHost(host)
		if pattern == "*" || isServerName(pattern) {
			names = append(names, pattern)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// listeners pass TLS through to the cluster that the server name names. What
// does not match, or names no cluster, is closed. To services at large only the
// mesh's own mutual TLS passes, told by its protocol names: behind a port that is
// PERMISSIVE an application may speak TLS of its own, and a server takes whoever
// offers none of these names for a client of that (chainGroup.mutual). Services
// that are named (passedService) get whatever asks for them.
func (g *gateway) listeners(mesh *model.Mesh, connections []edgeChain) []*listenerv3.Listener {
	var out []*listenerv3.Listener
	// Requests are judged by every policy that selects the pod. Bytes that it cannot read
	// are judged by the workload that they are for; but who chooses the gateway by its
	// labels means it.
	access, named := newAccessFilters(mesh, g.tokens, g.access), newAccessFilters(mesh, nil, byLabel(g.access))

	for _, p := range g.ports {
		routed := p.connectionChains(mesh, connections, access.tcp)
		passed := p.passedChains(mesh, routed)
		ended := p.tlsChains(mesh, slices.Concat(routed, passed), access.http)
		passed = append(passed, p.meshChains(mesh, slices.Concat(routed, passed, ended))...)
		for _, chain := range passed {
			chain.Filters = slices.Concat(named.tcp, chain.Filters)
		}

		chains := slices.Concat(routed, passed, ended)
		l := &listenerv3.Listener{
			Name:         anyAddress + "_" + utoa(p.number),
			Address:      socketAddress(anyAddress, p.number),
			FilterChains: chains,
		}
		if len(chains) > 0 && len(p.tcp) == 0 {
			l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
		}
		if len(p.http) > 0 {
			l.FilterChains = append(l.FilterChains, p.plainChain(mesh, access.http, len(chains) > 0))
		}
		if len(l.FilterChains) > 0 {
			out = append(out, l)
		}
	}
	return out
}

// meshChains pass on the mesh's own mutual TLS; there are none when no name may pass.
//
// Of several chains the one with the longest server name is taken, and only then is the
// protocol looked at. A Gateway of any namespace could have the mesh's connections to a
// service by a longer name, and break them. So they have each such name as well, where
// the protocol's name decides.
func (p *gatewayPort) meshChains(mesh *model.Mesh, others []*listenerv3.FilterChain) []*listenerv3.FilterChain {
	names := p.serverNames()
	if len(names) == 0 {
		return nil
	}

	longer := p.longerNames(names, others)
	if !slices.Contains(names, anyName) {
		return []*listenerv3.FilterChain{meshChain(mesh, "passthrough", slices.Concat(names, longer))}
	}
	out := []*listenerv3.FilterChain{meshChain(mesh, "passthrough", nil)}
	if len(longer) > 0 {
		out = append(out, meshChain(mesh, "passthrough-names", longer))
	}
	return out
}

// meshChain is for server names; for all when there are none.
func meshChain(mesh *model.Mesh, name string, serverNames []string) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{
		Name: name,
		FilterChainMatch: &listenerv3.FilterChainMatch{
			TransportProtocol:    "tls",
			ApplicationProtocols: slices.Concat(alpnMeshTCP(), alpnMeshHTTP()),
			ServerNames:          serverNames,
		},
		Filters: []*listenerv3.Filter{sniCluster(), tcpProxy(mesh, blackHoleCluster)},
	}
}

// longerNames are the names that chains have in front of the mesh's own, and that
// connections of the mesh may ask for, of Gateways that may not open services. What
// those that may have beside each other is their owner's to settle. Only wildcards are
// among them: the mesh's own server names (sniName) are no names of hosts, which is what
// package api takes.
func (p *gatewayPort) longerNames(own []string, chains []*listenerv3.FilterChain) []string {
	var out []string
	for _, c := range chains {
		for _, name := range c.FilterChainMatch.GetServerNames() {
			owner := p.owners[p.nearest(name)]
			within := slices.ContainsFunc(own, func(mine string) bool {
				common, ok := model.CommonHost(mine, name)
				return ok && common == name && mine != name
			})
			if strings.HasPrefix(name, "*.") && within && owner != nil && !owner.opensServices {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// clusters are those that server names can name.
func (g *gateway) clusters(r *reader, sc *scope) map[string]*serve.Resource {
	out := map[string]*serve.Resource{}
	for _, k := range g.passed(r, sc) {
		res := k.host.clusters.get(r, k)
		out[res.Name] = res
	}
	return out
}

// passed asks for the clusters that server names can name: one per port and subset
// of each service of the mesh that the gateway accepts, under its own host name and
// under NAME.NAMESPACE.GLOBALDOMAIN.
func (g *gateway) passed(r *reader, sc *scope) []clusterKey {
	if !slices.ContainsFunc(g.ports, func(p gatewayPort) bool { return len(p.hosts) > 0 }) {
		return nil
	}

	var out []clusterKey

	ground := sc.ground.get(r)
	for _, h := range ground.sight.hosts {
		svc := h.primary()
		if !inMesh(svc) || strings.HasPrefix(h.name, "*") {
			continue
		}
		rule := ground.ruleFor(sc, h)
		aliases := []string{"", svc.Name + "." + svc.Namespace + "." + sc.source.cfg.GlobalDomain}
		if h.vantage.clusterSet {
			// Clients ask for it by this name and not by the Service's own: that
			// one may stay within the gateway's cluster, or lead to clusters of
			// its network that do not export it.
			aliases = aliases[:1]
		}
		for _, alias := range aliases {
			if !g.accepts(cmp.Or(alias, h.name), svc.Namespace) {
				continue
			}
			for i := range h.ports {
				out = append(out, passthroughKeys(h, h.ports[i].Number, alias, rule)...)
			}
		}
	}
	return out
}

// endpointNames are the load assignments of what the gateway passes through.
func (g *gateway) endpointNames(r *reader, sc *scope) []string {
	var out []string
	seen := map[string]bool{}
	for _, k := range g.passed(r, sc) {
		// A host has the same endpoints under each of its names.
		if name := sniName(k.port, k.subset, k.host.name); !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

// passthroughKeys are the clusters of a port for server names: that of the host,
// which no rule has a say in, and one per subset.
func passthroughKeys(h *host, port uint16, alias string, rule *model.DestinationRule) []clusterKey {
	keys := []clusterKey{{host: h, port: port, sni: true, alias: alias}}
	if rule != nil {
		for i := range rule.Subsets {
			keys = append(keys, clusterKey{host: h, port: port, sni: true, alias: alias, subset: rule.Subsets[i].Name, rule: rule})
		}
	}
	return keys
}
