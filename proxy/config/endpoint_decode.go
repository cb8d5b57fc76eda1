package config

import (
	"maps"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// DecodeLoadAssignment reads and checks the endpoints of a cluster.
func DecodeLoadAssignment(body *anypb.Any) (*LoadAssignment, error) {
	p := &endpointv3.ClusterLoadAssignment{}
	a := at{kind: "load assignment"}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}

	a.name = p.GetClusterName()
	if a.name == "" {
		return nil, a.in("cluster_name").errorf("is empty")
	}

	la, err := decodeAssignment(a, p, false)
	if err != nil {
		return nil, err
	}
	la.Version = versionOf(body)
	return la, nil
}

// decodeAssignment reads a load assignment; names tells whether host names
// are allowed for addresses.
func decodeAssignment(a at, p *endpointv3.ClusterLoadAssignment, names bool) (*LoadAssignment, error) {
	if err := a.only(p, "cluster_name", "endpoints", "policy"); err != nil {
		return nil, err
	}
	la := &LoadAssignment{Name: p.GetClusterName()}
	if pol := p.GetPolicy(); pol != nil {
		pa := a.in("policy")
		if err := pa.only(pol, "overprovisioning_factor"); err != nil {
			return nil, err
		}
		f := pol.GetOverprovisioningFactor()
		if la.Overprovision = f.GetValue(); f != nil && la.Overprovision == 0 {
			return nil, pa.in("overprovisioning_factor").errorf("is 0")
		}
	}

	d := assignmentDecoder{names: names}
	for i, l := range p.GetEndpoints() {
		ea := a.index("endpoints", i)
		if err := ea.only(l, "locality", "lb_endpoints", "load_balancing_weight", "priority",
			"proximity", "metadata"); err != nil {
			return nil, err
		}
		if l.GetPriority() > 128 { // Envoy's bound (ClusterLoadAssignment)
			return nil, ea.in("priority").errorf("%d is above 128", l.GetPriority())
		}

		loc := LocalityEndpoints{
			Region: l.GetLocality().GetRegion(), Zone: l.GetLocality().GetZone(), SubZone: l.GetLocality().GetSubZone(),
			Priority: l.GetPriority(), Weight: l.GetLoadBalancingWeight().GetValue(),
			Endpoints: make([]Endpoint, 0, len(l.GetLbEndpoints())),
		}

		for j, e := range l.GetLbEndpoints() {
			ep, err := d.endpoint(ea.index("lb_endpoints", j), e)
			if err != nil {
				return nil, err
			}
			loc.Endpoints = append(loc.Endpoints, ep)
		}
		la.Localities = append(la.Localities, loc)
	}

	return la, nil
}

// assignmentDecoder shares equal metadata between the endpoints of one
// assignment.
type assignmentDecoder struct {
	names bool
	last  map[string]string
}

func (d *assignmentDecoder) endpoint(a at, p *endpointv3.LbEndpoint) (Endpoint, error) {
	var e Endpoint
	if err := a.only(p, "endpoint", "health_status", "metadata", "load_balancing_weight"); err != nil {
		return e, err
	}

	ea := a.in("endpoint")
	if p.GetEndpoint() == nil {
		return e, ea.errorf("is not set")
	}
	if err := ea.only(p.GetEndpoint(), "address", "health_check_config", "hostname", "observability_name"); err != nil {
		return e, err
	}

	e.Hostname = p.GetEndpoint().GetHostname()
	e.Weight = max(p.GetLoadBalancingWeight().GetValue(), 1)
	switch p.GetHealthStatus() {
	case corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY:
		e.Healthy = true
	}
	if err := d.address(ea.in("address"), p.GetEndpoint().GetAddress(), &e); err != nil {
		return e, err
	}

	meta := p.GetMetadata().GetFilterMetadata()
	m, err := stringMap(a.in("metadata.filter_metadata[envoy.transport_socket_match]"), meta["envoy.transport_socket_match"])
	if err != nil {
		return e, err
	}
	// Mostly all endpoints of a service have the same: one map for thousands.
	if d.last == nil || !maps.Equal(d.last, m) {
		d.last = m
	}

	e.TransportMatch = d.last
	e.Workload = decodeWorkload(meta["istio"].GetFields()["workload"].GetStringValue())
	e.Network = meta["istio"].GetFields()["network"].GetStringValue()
	e.Gateway = e.Network != ""
	return e, nil
}

// address reads an IP address, or a host name where those are allowed.
func (d *assignmentDecoder) address(a at, p *corev3.Address, e *Endpoint) error {
	s := p.GetSocketAddress()
	if s == nil {
		return a.errorf("is not a socket address")
	}

	sa := a.in("socket_address")
	if err := sa.only(s, "protocol", "address", "port_value"); err != nil {
		return err
	}
	if s.GetProtocol() != corev3.SocketAddress_TCP {
		return sa.in("protocol").errorf("%v is not supported by this proxy", s.GetProtocol())
	}
	if s.GetPortValue() == 0 || s.GetPortValue() > 65535 {
		return sa.in("port_value").errorf("%d is not a port", s.GetPortValue())
	}

	e.Port = uint16(s.GetPortValue())
	ip, err := netip.ParseAddr(s.GetAddress())
	switch {
	case err == nil && ip.Zone() == "":
		e.Addr = ip.Unmap()
	case d.names && s.GetAddress() != "":
		e.Host = s.GetAddress()
	default:
		return sa.in("address").errorf("%q is not an IP address", s.GetAddress())
	}
	return nil
}

// stringMap reads a struct whose values are strings.
func stringMap(a at, p *structpb.Struct) (map[string]string, error) {
	if len(p.GetFields()) == 0 {
		return nil, nil
	}

	m := make(map[string]string, len(p.GetFields()))
	for k, v := range inOrder(p.GetFields()) {
		s, ok := v.GetKind().(*structpb.Value_StringValue)
		if !ok {
			return nil, a.in(k).errorf("is not a string")
		}
		m[k] = s.StringValue
	}
	return m, nil
}

// decodeWorkload reads "name;namespace;canonical name;revision;cluster". What
// is missing stays empty: it is for telemetry only.
func decodeWorkload(s string) Workload {
	var f [5]string
	copy(f[:], strings.SplitN(s, ";", 5))
	return Workload{Name: f[0], Namespace: f[1], App: f[2], Version: f[3], Cluster: f[4]}
}
