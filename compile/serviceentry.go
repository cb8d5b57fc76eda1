package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// EntryRows are the rows of one ServiceEntry: one of each kind per host, but
// for Endpoints, which only hosts with resolution STATIC have.
type EntryRows struct {
	Services  []*model.Service
	Endpoints []*model.EndpointSet
	Traits    []*model.Traits
}

// ServiceEntry makes the rows of a valid ServiceEntry. allocated holds the
// addresses of hosts that have none of their own (api.Settle).
func ServiceEntry(c model.ClusterID, obj *api.Object, allocated map[string]netip.Addr) EntryRows {
	se := obj.Spec.(*networking.ServiceEntry)
	var rows EntryRows
	for _, host := range api.EntryHosts(se) {
		svc := entryService(c, obj, se, host)
		svc.Allocated = allocated[svc.Host]
		set := entryEndpoints(svc, se)
		rows.Services = append(rows.Services, svc)
		switch svc.Resolution {
		case model.ByDNS:
			svc.Resolved = set.Endpoints
		case model.ByEndpoints:
			rows.Endpoints = append(rows.Endpoints, set)
		}
		rows.Traits = append(rows.Traits, traits(svc, set.Endpoints))
	}

	return rows
}

func entryService(c model.ClusterID, obj *api.Object, se *networking.ServiceEntry, host string) *model.Service {
	svc := &model.Service{
		Host:            host,
		Cluster:         c,
		Namespace:       obj.Namespace,
		Name:            obj.Name,
		Origin:          model.FromServiceEntry,
		Created:         obj.Created,
		External:        se.Location == networking.ServiceEntry_MESH_EXTERNAL,
		ExportTo:        exportTo(se.ExportTo, obj.Namespace),
		ExportByDefault: len(se.ExportTo) == 0,
		SubjectAltNames: se.SubjectAltNames,
		Distribution:    distribution(obj.Annotations[api.AnnotationDistribution]),
	}

	switch se.Resolution {
	case networking.ServiceEntry_STATIC:
		svc.Resolution = model.ByEndpoints
	case networking.ServiceEntry_DNS:
		svc.Resolution = model.ByDNS
	case networking.ServiceEntry_DNS_ROUND_ROBIN:
		svc.Resolution, svc.OneAddress = model.ByDNS, true
	default:
		svc.Resolution = model.ByDestination
	}

	for _, a := range se.Addresses {
		if p, err := api.ParseAddress(a); err == nil {
			svc.Addresses = append(svc.Addresses, p)
		}
	}

	for _, p := range se.Ports {
		if strings.EqualFold(p.Protocol, "UDP") {
			continue // sidecars redirect TCP alone
		}
		port := model.Port{
			Name:     p.Name,
			Number:   uint16(p.Number),
			Protocol: entryProtocol(p),
			Target:   uint16(cmp.Or(p.TargetPort, p.Number)),
		}
		svc.Ports = append(svc.Ports, port)
	}

	svc.Ports = sortPorts(svc.Ports)
	return svc
}

func entryProtocol(p *networking.ServicePort) model.Protocol {
	if d, ok := declared(p.Protocol); ok {
		return d
	}
	return Protocol(p.Name, nil, int32(p.Number))
}

// entryEndpoints lists the endpoints; a host that is resolved by DNS and lists
// none is its own endpoint.
func entryEndpoints(svc *model.Service, se *networking.ServiceEntry) *model.EndpointSet {
	set := &model.EndpointSet{Host: svc.Host, Cluster: svc.Cluster, Namespace: svc.Namespace, Name: svc.Name}
	if svc.Resolution == model.ByDNS && len(se.Endpoints) == 0 {
		ports := map[string]uint16{}
		for _, p := range svc.Ports {
			ports[p.Name] = p.Target
		}
		set.Endpoints = []model.Endpoint{{Address: svc.Host, Ports: ports}}
		return set
	}

	for _, ep := range se.Endpoints {
		ports := map[string]uint16{}
		for _, p := range svc.Ports {
			ports[p.Name] = p.Target
			if n, ok := ep.Ports[p.Name]; ok {
				ports[p.Name] = uint16(n)
			}
		}

		e := model.Endpoint{
			Address:  strings.TrimSuffix(ep.Address, "."),
			Ports:    ports,
			Network:  ep.Network,
			Locality: cmp.Or(model.ParseLocality(ep.Locality), labelledLocality(ep.Labels)),
			Labels:   ep.Labels,
			Weight:   ep.Weight,
			TLS:      entryTLS(svc, ep),
		}

		if ep.ServiceAccount != "" {
			e.Account = svc.Namespace + "/" + ep.ServiceAccount
		}
		set.Endpoints = append(set.Endpoints, e)
	}

	slices.SortStableFunc(set.Endpoints, func(a, b model.Endpoint) int { return cmp.Compare(a.Address, b.Address) })
	return set
}

// entryTLS tells whether an endpoint takes mutual TLS: its label says so, or it
// is a member of the mesh that runs as a service account.
func entryTLS(svc *model.Service, ep *networking.WorkloadEntry) bool {
	if svc.External {
		return false
	}
	if mode, ok := ep.Labels[labelTLSMode]; ok {
		return mode == tlsModeMutual
	}
	return ep.ServiceAccount != ""
}
