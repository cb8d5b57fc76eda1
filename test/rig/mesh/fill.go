package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/statedb"

	"github.com/isthmus-mesh/isthmus/model"
)

func sortEndpoints(list []model.Endpoint) {
	slices.SortFunc(list, func(a, b model.Endpoint) int { return cmp.Compare(a.Address, b.Address) })
}

// fill writes the scene into an empty store, in one change.
func (s *Scene) fill(store *model.Store) error {
	txn := store.Write()
	defer txn.Abort()
	w := writer{txn: txn}
	put(&w, store.Clusters, &model.Cluster{ID: Cluster, Network: Network, Synced: true})
	put(&w, store.Meshes, model.DefaultMesh(Cluster))

	spaces := map[string]bool{"istio-system": true}
	for i := range s.Services {
		svc := made(i)
		svc.Pods = nil
		spaces[svc.Namespace] = true
		put(&w, store.Services, svc.row())
		put(&w, store.Endpoints, s.madeSet(i, nil))
		put(&w, store.Traits, &model.Traits{Host: svc.Host(), Cluster: Cluster, Namespace: svc.Namespace, Name: svc.Name,
			Accounts: []string{svc.Namespace + "/" + svc.Name}})
	}

	for i := range s.Named {
		spaces[s.Named[i].Namespace] = true
		s.named(&w, store, &s.Named[i])
	}
	for i := range s.Pods {
		spaces[s.Pods[i].Namespace] = true
		put(&w, store.Workloads, s.Pods[i].row())
	}

	for _, g := range s.Gateways {
		put(&w, store.Gateways, &model.Gateway{Cluster: Cluster, Namespace: g.Namespace, Name: g.Name, Created: created,
			Selector: g.Selector, Servers: []model.GatewayServer{{Port: g.Port, Hosts: g.Hosts}}})
	}

	if len(s.Far) > 0 {
		put(&w, store.Clusters, &model.Cluster{ID: FarCluster, Synced: true})
		// A way back, which nobody takes: without one discovery would warn.
		put(&w, store.Entrances, gatewayInto(Network, Cluster, netip.MustParseAddrPort("192.0.2.1:15443")))
	}
	for i := range s.Far {
		s.far(&w, store, &s.Far[i])
	}

	for i := range s.Entries {
		spaces["default"] = true
		s.Entries[i].fill(&w, store)
	}
	if s.Strict {
		put(&w, store.Peers, &model.PeerAuthentication{Cluster: Cluster, Namespace: "istio-system", Name: "default",
			Created: created, Mode: model.MTLSStrict})
	}

	for ns := range spaces {
		put(&w, store.Namespaces, &model.Namespace{Cluster: Cluster, Name: ns})
	}
	if w.err != nil {
		return w.err
	}
	txn.Commit()
	return nil
}

func (s *Scene) named(w *writer, store *model.Store, svc *Service) {
	set, traits := s.behind(w, svc)
	put(w, store.Services, svc.row())
	put(w, store.Endpoints, set)
	put(w, store.Traits, traits)
}

// far writes a service of the other cluster, and the gateway to its pods.
func (s *Scene) far(w *writer, store *model.Store, f *Far) {
	row := f.Service.row()
	set, traits := s.behind(w, &f.Service)
	if w.err != nil {
		return
	}
	row.Cluster, set.Cluster, traits.Cluster = FarCluster, FarCluster, FarCluster
	for i := range set.Endpoints {
		set.Endpoints[i].Network = f.Network
	}
	put(w, store.Services, row)
	put(w, store.Endpoints, set)
	put(w, store.Traits, traits)
	put(w, store.Entrances, gatewayInto(f.Network, FarCluster, f.Gateway))
}

// gatewayInto is a Service that leads into a network.
func gatewayInto(network string, cluster model.ClusterID, at netip.AddrPort) *model.Entrance {
	return &model.Entrance{
		Cluster: cluster, Namespace: "istio-system", Name: network, Host: network + ".istio-system.svc.cluster.local",
		Network: network, GatewayPort: at.Port(), Addresses: []string{at.Addr().String()},
		Ports: map[uint16]uint16{at.Port(): at.Port()},
	}
}

// behind are the pods of a service.
func (s *Scene) behind(w *writer, svc *Service) (*model.EndpointSet, *model.Traits) {
	var list []model.Endpoint
	traits := &model.Traits{Host: svc.Host(), Cluster: Cluster, Namespace: svc.Namespace, Name: svc.Name}
	for _, name := range svc.Pods {
		i := slices.IndexFunc(s.Pods, func(p Pod) bool { return p.Namespace == svc.Namespace && p.Name == name })
		if i < 0 {
			w.err = fmt.Errorf("service %s: no pod %q", svc.Host(), name)
			return nil, nil
		}
		p := &s.Pods[i]
		list = append(list, endpointRow(p.Addr, svc.targets(), p.Namespace, p.Account, p.Name, p.Injected))
		traits.Accounts = append(traits.Accounts, p.Namespace+"/"+p.Account)
	}
	slices.Sort(traits.Accounts)
	traits.Accounts = slices.Compact(traits.Accounts)
	sortEndpoints(list)
	return endpointSet(svc, list), traits
}

func (p *Pod) row() *model.Workload {
	row := &model.Workload{Cluster: Cluster, Namespace: p.Namespace, Name: p.Name, Addresses: []string{p.Addr.String()},
		Account: p.Account, Labels: p.Labels, Locality: model.MakeLocality(Region, Zone, ""), Network: Network,
		TLS: p.Injected, Owner: p.Name}
	if p.Far {
		row.Cluster, row.Network = FarCluster, ""
	}
	return row
}

// writer collects the first error of many inserts.
type writer struct {
	txn model.WriteTxn
	err error
}

func put[R model.Row](w *writer, t statedb.RWTable[R], row R) {
	if w.err != nil {
		return
	}
	if _, _, err := t.Insert(w.txn, row); err != nil {
		w.err = fmt.Errorf("insert into %s: %w", t.Name(), err)
	}
}

// fill writes the entry, and a DestinationRule that asks for mutual TLS.
func (e *Entry) fill(w *writer, store *model.Store) {
	const namespace = "default"
	put(w, store.Services, &model.Service{
		Host: e.Host, Cluster: Cluster, Namespace: namespace, Name: e.Host, Origin: model.FromServiceEntry, Created: created,
		Addresses: []netip.Prefix{netip.PrefixFrom(e.VIP, e.VIP.BitLen())},
		Ports:     []model.Port{{Name: e.Port.Name, Number: e.Port.Number, Protocol: e.Port.Protocol, Target: e.Port.Number}},
	})
	put(w, store.Endpoints, &model.EndpointSet{Host: e.Host, Cluster: Cluster, Namespace: namespace, Name: e.Host,
		Endpoints: []model.Endpoint{{Address: e.Endpoint.Addr().String(), Ports: map[string]uint16{e.Port.Name: e.Endpoint.Port()}}}})
	put(w, store.Destinations, &model.DestinationRule{Cluster: Cluster, Namespace: namespace, Name: e.Host, Created: created,
		Host: e.Host, Policy: model.TrafficPolicy{TLS: &model.ClientTLS{Mode: model.ClientTLSMutualMesh}}})
}
