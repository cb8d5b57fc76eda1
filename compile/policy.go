package compile

import (
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// DestinationRule makes the row of a valid DestinationRule. A host without a
// dot is a service of the rule's own namespace.
func DestinationRule(c model.ClusterID, obj *api.Object, clusterDomain string) *model.DestinationRule {
	dr := obj.Spec.(*networking.DestinationRule)
	host := api.PlainHost(dr.Host)
	if !strings.Contains(host, ".") && host != "*" {
		host = Host(obj.Namespace, host, clusterDomain)
	}

	row := &model.DestinationRule{
		Cluster:   c,
		Namespace: obj.Namespace,
		Name:      obj.Name,
		Created:   obj.Created,
		Host:      host,
		ExportTo:  exportTo(dr.ExportTo, obj.Namespace),

		ExportByDefault: len(dr.ExportTo) == 0,
	}

	row.Policy, row.Ports = trafficPolicy(dr.TrafficPolicy)
	for _, s := range dr.Subsets {
		subset := model.Subset{Name: s.Name, Labels: s.Labels}
		subset.Policy, subset.Ports = trafficPolicy(s.TrafficPolicy)
		row.Subsets = append(row.Subsets, subset)
	}
	if obj.Annotations[api.AnnotationLoadBalancer] == api.PeakEWMA {
		balanceByLatency(row)
	}
	return row
}

// balanceByLatency makes every level of a rule say so, but for those that take their
// loadBalancer from the level above: subsets that have none.
func balanceByLatency(row *model.DestinationRule) {
	ofPorts := func(ports map[uint16]model.TrafficPolicy) {
		for number, port := range ports {
			port.LoadBalancing = model.LBPeakEWMA
			ports[number] = port
		}
	}

	row.Policy.LoadBalancing = model.LBPeakEWMA
	ofPorts(row.Ports)
	for i := range row.Subsets {
		s := &row.Subsets[i]
		if s.Policy.LoadBalancing != model.LBUnset || s.Policy.Warmup != nil {
			s.Policy.LoadBalancing = model.LBPeakEWMA
		}
		ofPorts(s.Ports)
	}
}

func trafficPolicy(t *networking.TrafficPolicy) (model.TrafficPolicy, map[uint16]model.TrafficPolicy) {
	if t == nil {
		return model.TrafficPolicy{}, nil
	}

	var ports map[uint16]model.TrafficPolicy
	for _, p := range t.PortLevelSettings {
		if ports == nil {
			ports = map[uint16]model.TrafficPolicy{}
		}
		row := policy(p)
		// There is one for all ports: those of a port have no such field.
		row.RetryBudget = retryBudget(t.RetryBudget)
		ports[uint16(p.GetPort().GetNumber())] = row
	}

	row := policy(t)
	row.RetryBudget = retryBudget(t.RetryBudget)
	return row, ports
}

// policy makes the row of what a policy says, be it for a host, a subset or a
// port.
func policy(s api.Policy) model.TrafficPolicy {
	return model.TrafficPolicy{
		LoadBalancing:  loadBalancing(s.GetLoadBalancer()),
		Hash:           consistentHash(s.GetLoadBalancer().GetConsistentHash()),
		Locality:       localitySetting(s.GetLoadBalancer().GetLocalityLbSetting()),
		Warmup:         warmup(s.GetLoadBalancer()),
		TLS:            clientTLS(s.GetTls()),
		Outlier:        outlier(s.GetOutlierDetection()),
		ConnectionPool: connectionPool(s.GetConnectionPool()),
	}
}

func outlier(o *networking.OutlierDetection) *model.OutlierDetection {
	if o == nil {
		return nil
	}
	out := &model.OutlierDetection{
		Consecutive5xx:     count(o.Consecutive_5XxErrors),
		ConsecutiveGateway: count(o.ConsecutiveGatewayErrors),
		SplitLocal:         o.SplitExternalLocalOriginErrors,
		ConsecutiveLocal:   count(o.ConsecutiveLocalOriginFailures),
		Interval:           o.Interval.AsDuration(),
		BaseEjection:       o.BaseEjectionTime.AsDuration(),
		MaxPercent:         uint32(o.MaxEjectionPercent),
		MinHealthPercent:   uint32(o.MinHealthPercent),
	}

	// The old field counted answers of gateways alone (Istio 1.6).
	//lint:ignore SA1019 manifests of Istio 1.6 say consecutiveErrors
	if n := o.ConsecutiveErrors; n > 0 && out.Consecutive5xx == nil && out.ConsecutiveGateway == nil {
		gateway, never := uint32(n), uint32(0)
		out.ConsecutiveGateway, out.Consecutive5xx = &gateway, &never
	}
	return out
}

// count is a number that may not be given: nil then.
func count(v *wrapperspb.UInt32Value) *uint32 {
	if v == nil {
		return nil
	}
	n := v.Value
	return &n
}

func loadBalancing(lb *networking.LoadBalancerSettings) model.LoadBalancing {
	switch lb.GetSimple() {
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		return model.LBRoundRobin
	case networking.LoadBalancerSettings_LEAST_REQUEST,
		//lint:ignore SA1019 people's manifests still say LEAST_CONN
		networking.LoadBalancerSettings_LEAST_CONN:
		return model.LBLeastRequest
	case networking.LoadBalancerSettings_RANDOM:
		return model.LBRandom
	}
	return model.LBUnset
}

func warmup(lb *networking.LoadBalancerSettings) *model.Warmup {
	if w := lb.GetWarmup(); w != nil {
		return &model.Warmup{Window: w.Duration.AsDuration(), MinPercent: number(w.MinimumPercent), Aggression: number(w.Aggression)}
	}
	if window := lb.GetWarmupDurationSecs(); window != nil {
		return &model.Warmup{Window: window.AsDuration()}
	}
	return nil
}

// number is one that may not be given: nil then.
func number(v *wrapperspb.DoubleValue) *float64 {
	if v == nil {
		return nil
	}
	n := v.Value
	return &n
}

func clientTLS(tls *networking.ClientTLSSettings) *model.ClientTLS {
	if tls == nil {
		return nil
	}
	out := &model.ClientTLS{SNI: tls.Sni, SubjectAltNames: tls.SubjectAltNames}
	switch tls.Mode {
	case networking.ClientTLSSettings_ISTIO_MUTUAL:
		out.Mode = model.ClientTLSMutualMesh
	case networking.ClientTLSSettings_SIMPLE, networking.ClientTLSSettings_MUTUAL:
		out.Mode = model.ClientTLSOwn
		out.SkipVerify, out.Roots = tls.InsecureSkipVerify.GetValue(), tls.CaCertificates
		out.Certificate, out.KeyFile = tls.ClientCertificate, tls.PrivateKey
	default:
		out.Mode = model.ClientTLSDisable
	}
	return out
}

// PeerAuthentication makes the row of a valid PeerAuthentication.
func PeerAuthentication(c model.ClusterID, obj *api.Object) *model.PeerAuthentication {
	pa := obj.Spec.(*security.PeerAuthentication)
	row := &model.PeerAuthentication{
		Cluster:   c,
		Namespace: obj.Namespace,
		Name:      obj.Name,
		Created:   obj.Created,
		Mode:      mtlsMode(pa.Mtls),
	}
	if labels := pa.GetSelector().GetMatchLabels(); len(labels) > 0 {
		row.Selector = labels
	}

	for port, m := range pa.PortLevelMtls {
		if row.Ports == nil {
			row.Ports = map[uint16]model.MTLSMode{}
		}
		row.Ports[uint16(port)] = mtlsMode(m)
	}
	return row
}

func mtlsMode(m *security.PeerAuthentication_MutualTLS) model.MTLSMode {
	switch m.GetMode() {
	case security.PeerAuthentication_MutualTLS_DISABLE:
		return model.MTLSDisable
	case security.PeerAuthentication_MutualTLS_PERMISSIVE:
		return model.MTLSPermissive
	case security.PeerAuthentication_MutualTLS_STRICT:
		return model.MTLSStrict
	}
	return model.MTLSUnset
}
