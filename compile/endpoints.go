package compile

import (
	"cmp"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// Lookups is what endpoints are joined with.
type Lookups struct {
	// Workload finds a pod; nil when it is not known (yet).
	Workload func(namespace, name string) *model.Workload
	// Answers tells of a pod what PodAnswers does; false when it is not known.
	Answers func(namespace, name string) bool
	// Node gives what is known of a node; the zero Node when nothing is.
	Node func(name string) Node
}

// Endpoints makes the rows for the endpoints of a service from all of its
// EndpointSlices: the ready ones. A pod that is ending is not ready any more,
// so it gets no new requests; those that it has go on, for a connection does not
// end with its endpoint.
//
// Where no endpoint is ready, those that end but still serve are better than none
// (as for kube-proxy: EndpointSlice API, conditions serving and terminating), and
// so are those that went with their nodes. The node controller of Kubernetes calls
// every pod of a node that it has not heard of for a while not ready. An API server
// that was away for some minutes has heard of none: when it is back, all pods of
// the cluster are published as not ready, until their nodes have spoken again.
func Endpoints(svc *model.Service, slicesOf []*discoveryv1.EndpointSlice, in Lookups) (*model.EndpointSet, *model.Traits) {
	use := func(ep *discoveryv1.Endpoint) bool { return ready(&ep.Conditions) }
	switch {
	case svc.NotReadyToo:
		use = func(*discoveryv1.Endpoint) bool { return true }
	case !anyReady(slicesOf):
		use = func(ep *discoveryv1.Endpoint) bool {
			return endsButServes(&ep.Conditions) || wentWithNode(svc.Namespace, ep, in)
		}
	}

	set := &model.EndpointSet{Host: svc.Host, Cluster: svc.Cluster, Namespace: svc.Namespace, Name: svc.Name}
	family := addressFamily(svc, slicesOf)
	for _, slice := range slicesOf {
		if slice.AddressType != family {
			continue
		}

		ports := slicePorts(slice)
		for i := range slice.Endpoints {
			ep := &slice.Endpoints[i]
			if !use(ep) {
				continue
			}
			proto := describeEndpoint(svc, ep, ports, in)
			proto.LastResort = !svc.NotReadyToo && !ready(&ep.Conditions) && wentWithNode(svc.Namespace, ep, in)
			for _, addr := range ep.Addresses {
				e := proto
				e.Address = addr
				set.Endpoints = append(set.Endpoints, e)
			}
		}
	}

	// Sorted, so that the row is the same each time, and that mergePorts finds
	// neighbours.
	slices.SortStableFunc(set.Endpoints, func(a, b model.Endpoint) int { return cmp.Compare(a.Address, b.Address) })
	set.Endpoints = mergePorts(set.Endpoints)
	return set, traits(svc, set.Endpoints)
}

// ready tells whether new requests may go to an endpoint. An absent condition
// counts as true.
func ready(c *discoveryv1.EndpointConditions) bool { return c.Ready == nil || *c.Ready }

// anyReady tells whether new requests may go to any endpoint.
func anyReady(slicesOf []*discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(slicesOf, func(s *discoveryv1.EndpointSlice) bool {
		return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return ready(&e.Conditions) })
	})
}

// endsButServes tells whether an endpoint that is ending still answers.
func endsButServes(c *discoveryv1.EndpointConditions) bool {
	return isTrue(c.Terminating) && isTrue(c.Serving)
}

// wentWithNode tells whether an endpoint that is not ready was called so for its
// node's sake: its pod has not said so, and is not ending.
func wentWithNode(namespace string, ep *discoveryv1.Endpoint, in Lookups) bool {
	return !isTrue(ep.Conditions.Terminating) &&
		ep.TargetRef != nil && ep.TargetRef.Kind == "Pod" && in.Answers(namespace, ep.TargetRef.Name)
}

func isTrue(b *bool) bool { return b != nil && *b }

// describeEndpoint fills all but the address.
func describeEndpoint(svc *model.Service, ep *discoveryv1.Endpoint, ports map[string]uint16, in Lookups) model.Endpoint {
	e := model.Endpoint{Ports: ports}
	if svc.Headless && ep.Hostname != nil {
		e.Hostname = *ep.Hostname
	}
	if ep.TargetRef != nil && ep.TargetRef.Kind == "Pod" {
		if w := in.Workload(svc.Namespace, ep.TargetRef.Name); w != nil {
			e.Network = w.Network
			e.Locality = w.Locality
			e.Node = w.Node
			e.TLS, e.Capture, e.Router = w.TLS, w.Capture, w.Router
			e.Account = w.Namespace + "/" + w.Account
			e.Workload = describe(w)
			e.Labels = w.Labels
			return e
		}
	}

	if ep.NodeName != nil {
		e.Node = *ep.NodeName
		node := in.Node(*ep.NodeName)
		e.Locality, e.Network = node.Locality, node.Network
	}
	return e
}

// addressFamily picks the family that the service's endpoints are reached in: a
// pod with two addresses is one endpoint, not two.
func addressFamily(svc *model.Service, slicesOf []*discoveryv1.EndpointSlice) discoveryv1.AddressType {
	if len(svc.Addresses) > 0 {
		if svc.Addresses[0].Addr().Is4() {
			return discoveryv1.AddressTypeIPv4
		}
		return discoveryv1.AddressTypeIPv6
	}

	for _, s := range slicesOf {
		if s.AddressType == discoveryv1.AddressTypeIPv4 {
			return discoveryv1.AddressTypeIPv4
		}
	}
	return discoveryv1.AddressTypeIPv6
}

func slicePorts(slice *discoveryv1.EndpointSlice) map[string]uint16 {
	ports := make(map[string]uint16, len(slice.Ports))
	for _, p := range slice.Ports {
		if p.Port == nil || (p.Protocol != nil && *p.Protocol != "TCP") {
			continue
		}
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		ports[name] = uint16(*p.Port)
	}
	return ports
}

// mergePorts joins neighbours with the same address: Kubernetes splits a pod
// over slices when its ports differ from others'.
func mergePorts(eps []model.Endpoint) []model.Endpoint {
	out := eps[:0]
	for _, e := range eps {
		if n := len(out); n > 0 && out[n-1].Address == e.Address {
			merged := make(map[string]uint16, len(out[n-1].Ports)+len(e.Ports))
			for k, v := range out[n-1].Ports {
				merged[k] = v
			}
			for k, v := range e.Ports {
				merged[k] = v
			}
			out[n-1].Ports = merged
			continue
		}
		out = append(out, e)
	}

	return slices.Clip(out)
}

// traits sums up the endpoints of a service.
func traits(svc *model.Service, eps []model.Endpoint) *model.Traits {
	t := &model.Traits{Host: svc.Host, Cluster: svc.Cluster, Namespace: svc.Namespace, Name: svc.Name}
	for i := range eps {
		e := &eps[i]
		if e.Account != "" {
			t.Accounts = append(t.Accounts, e.Account)
		}
		if svc.Headless {
			t.Addresses = append(t.Addresses, e.Address)
			t.Members = append(t.Members, *e)
		}
	}

	slices.Sort(t.Accounts)
	t.Accounts = slices.Compact(t.Accounts)
	return t
}
