package resources

import (
	"iter"
	"maps"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/nds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// A sidecar that answers DNS is sent one table of names: those of the hosts that
// its namespace sees, with the addresses at which it has listeners or finds the
// endpoints. What has no address in the mesh is left to the pod's own resolvers.

// nameTableName is the name of the one table that a proxy has.
const nameTableName = "names"

// Registries, as Istio calls them in name tables.
const (
	registryKubernetes = "Kubernetes"
	registryExternal   = "External"
)

// nameTableOf asks for the names that all hosts of a cluster give, as seen from a
// network. Most namespaces see all hosts, and share it.
type nameTableOf struct {
	hosts   hostsOf
	network string
}

func (q nameTableOf) build(r *reader, old *serve.Resource) *serve.Resource {
	s := q.hosts.source
	all := s.hosts.get(r, q.hosts)
	left, byName, aliases := followAliases(all.list, all.byName)
	return s.nameTable(r, old, &sight{hosts: left, byName: byName, aliases: aliases}, place{cluster: q.hosts.cluster, network: q.network})
}

// scopeNamesOf asks for the names that a scope sees of a network.
type scopeNamesOf struct {
	scope   *scope
	network string
}

func (q scopeNamesOf) build(r *reader, old *serve.Resource) *serve.Resource {
	sc := q.scope
	all := hostsOf{sc.source, sc.key.cluster}
	seen := sc.sights.get(r)
	if slices.Equal(seen.visible, sc.source.hosts.get(r, all).list) {
		return sc.source.nameTables.get(r, nameTableOf{all, q.network})
	}
	return sc.source.nameTable(r, old, seen, place{cluster: sc.key.cluster, network: q.network})
}

// names is the view's name table. Gateways have no application that would ask.
func (v *view) names(r *reader) map[string]*serve.Resource {
	if v.gateway != nil {
		return map[string]*serve.Resource{}
	}
	return map[string]*serve.Resource{nameTableName: v.scope.names.get(r, scopeNamesOf{v.scope, v.from.network})}
}

// nameTable joins what the hosts are known by. Names are encoded host by host, and
// kept there: a table of ten thousand is put together out of finished pieces.
func (s *Source) nameTable(r *reader, old *serve.Resource, seen *sight, from place) *serve.Resource {
	var body []byte
	if old != nil {
		body = make([]byte, 0, len(old.Body.Value)+1<<10) // as a rule it is much the same
	}
	for _, h := range seen.hosts {
		pods := h.pods()
		if len(pods) == 0 {
			body = append(body, h.ownName()...)
			continue
		}

		body = append(body, h.encodeName(s.podAddresses(r, h, pods, from))...)
		for _, pod := range s.namedPods(r, h, pods, from) {
			// A host of that name comes before a pod.
			if seen.byName[pod.name] == nil {
				body = append(body, pod.encode()...)
			}
		}
	}

	// An alias has the addresses of what it is for, which need not be in the
	// proxy's own cluster.
	for _, name := range slices.Sorted(maps.Keys(seen.aliases)) {
		target := seen.byName[name]
		ips := s.podAddresses(r, target, target.pods(), from)
		for _, h := range seen.aliases[name] {
			body = append(body, h.encodeName(ips)...)
		}
	}

	return s.encodeAny(old, nameTableName, &anypb.Any{TypeUrl: xds.TypeNameTable, Value: body})
}

// ownName is the entry of a host with addresses of its own, encoded. It depends on
// the host alone.
func (h *host) ownName() []byte {
	if h.encodedName == nil {
		h.encodedName = append([]byte{}, h.encodeName(h.ownAddresses())...)
	}
	return h.encodedName
}

// encodeName encodes the host's entry; it is empty without addresses. Proxies make
// shorter names of those of Kubernetes services: what clusters export has none.
func (h *host) encodeName(ips []string) []byte {
	info := &nds.NameTable_NameInfo{Ips: ips, Registry: registryExternal}
	if row := h.primary(); row.Origin == model.FromKubernetes && !h.vantage.clusterSet {
		info.Registry, info.Shortname, info.Namespace = registryKubernetes, row.Name, row.Namespace
	}
	return encodeInfo(h.name, info)
}

// encodeInfo encodes one entry of a table. Encoded messages one behind the other
// are one message with the entries of all.
//
// Source: https://protobuf.dev/programming-guides/encoding/#last-one-wins
func encodeInfo(name string, info *nds.NameTable_NameInfo) []byte {
	if len(info.Ips) == 0 {
		return nil
	}
	return pack(&nds.NameTable{Table: map[string]*nds.NameTable_NameInfo{name: info}}).Value
}

// ownAddresses are the addresses that clients of the host connect to and that are
// not those of its endpoints: those at which its ports have listeners. A prefix is
// none.
func (h *host) ownAddresses() []string {
	var out []string
	add := func(ip netip.Addr) {
		if text := ip.String(); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	for _, svc := range h.declaring() {
		for _, a := range svc.Addresses {
			if a.IsSingleIP() {
				add(a.Addr())
			}
		}
		if svc.Allocated.IsValid() {
			add(svc.Allocated)
		}
	}
	return out
}

// declaring are the rows that declare the host's ports, each as it counts for the
// clients of the proxy's cluster; of a host without ports, the first row. A name
// that only stands for another host has none.
func (h *host) declaring() []*model.Service {
	if isAlias(h) {
		return nil
	}
	var out []*model.Service
	for i := range h.ports {
		if svc := h.ports[i].svc; len(out) == 0 || out[len(out)-1] != svc {
			out = append(out, svc)
		}
	}
	if len(out) == 0 {
		out = append(out, h.firstSeen())
	}
	return out
}

// pods are the rows of a headless Kubernetes service, whose name has the addresses
// of their endpoints; none for all other hosts.
func (h *host) pods() []*model.Service {
	headless := func(svc *model.Service) bool { return svc.Headless && svc.Origin == model.FromKubernetes }
	if !slices.ContainsFunc(h.rows, headless) || !slices.ContainsFunc(h.declaring(), headless) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(h.rows), func(svc *model.Service) bool { return !headless(svc) })
}

// podAddresses are the host's own addresses, if ports of it live elsewhere only, and
// those of the endpoints that are reached directly.
func (s *Source) podAddresses(r *reader, h *host, pods []*model.Service, from place) []string {
	out := h.ownAddresses()
	for _, ep := range s.reachable(r, pods, from) {
		out = append(out, ep.Address)
	}
	return out
}

// namedPod is a pod with a name below its service's, as a StatefulSet gives one.
type namedPod struct {
	name, short string // short is empty when there is no shorter name
	service     *model.Service
	ips         []string
}

func (p *namedPod) encode() []byte {
	if p.short == "" {
		return encodeInfo(p.name, &nds.NameTable_NameInfo{Ips: p.ips, Registry: registryExternal})
	}
	return encodeInfo(p.name, &nds.NameTable_NameInfo{
		Ips: p.ips, Registry: registryKubernetes, Shortname: p.short, Namespace: p.service.Namespace,
	})
}

// namedPods are the pods of a headless service that have a name, in the order of
// their addresses, those of the own cluster first. Of two clusters that have the
// same name, the first gives it.
//
// Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service
func (s *Source) namedPods(r *reader, h *host, pods []*model.Service, from place) []*namedPod {
	var out []*namedPod
	byName := map[string]*namedPod{}
	for row, ep := range s.reachable(r, pods, from) {
		if ep.Hostname == "" {
			continue
		}
		name := h.podName(row.Cluster, ep.Hostname)
		if name == "" {
			continue
		}
		pod := byName[name]
		if pod == nil {
			pod = &namedPod{name: name, service: row}
			if !h.vantage.clusterSet {
				pod.short = ep.Hostname + "." + row.Name
			}
			byName[name] = pod
			out = append(out, pod)
		}
		if pod.service == row {
			pod.ips = append(pod.ips, ep.Address)
		}
	}
	return out
}

// reachable are the endpoints of headless services that a proxy reaches by their
// addresses, row by row.
func (s *Source) reachable(r *reader, rows []*model.Service, from place) iter.Seq2[*model.Service, *model.Endpoint] {
	return func(yield func(*model.Service, *model.Endpoint) bool) {
		members := s.members.get(r)
		for _, row := range rows {
			t := readRow(r, &s.store.Traits, row.Key())
			if t == nil {
				continue
			}
			for i := range t.Members {
				ep := &t.Members[i]
				network := members.of(row.Cluster, ep.Network, ep.Address)
				if network != "" && from.network != "" && network != from.network {
					continue
				}
				if !yield(row, ep) {
					return
				}
			}
		}
	}
}
