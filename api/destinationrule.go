package api

import (
	networking "istio.io/api/networking/v1alpha3"

	"google.golang.org/protobuf/proto"
)

var (
	// policyFields are those of a policy, be it for a host, a subset or a port.
	policyFields = fieldSet{
		"loadBalancer": {
			"simple": nil, "consistentHash": hashFields, "localityLbSetting": localityFields,
			"warmup": warmupFields, "warmupDurationSecs": nil,
		},
		"connectionPool":   connectionPoolFields,
		"tls":              clientTLSFields,
		"outlierDetection": outlierFields,
	}
	portPolicyFields      = policyFields.and("port", fieldSet{"number": nil})
	trafficFields         = policyFields.and("portLevelSettings", portPolicyFields).and("retryBudget", retryBudgetFields)
	destinationRuleFields = fieldSet{
		"host":          nil,
		"exportTo":      nil,
		"trafficPolicy": trafficFields,
		"subsets":       {"name": nil, "labels": nil, "trafficPolicy": trafficFields},
	}
)

func validateDestinationRule(p *problems, dr *networking.DestinationRule) {
	p.checkHost("spec.host", dr.Host, true)
	p.checkExportTo("spec.exportTo", dr.ExportTo, false)
	validateTrafficPolicy(p, "spec.trafficPolicy", dr.TrafficPolicy)
	names := map[string]bool{}
	for i, s := range dr.Subsets {
		path := indexed("spec.subsets", i)
		switch {
		case s.Name == "":
			p.addf(path+".name", "is empty; name the subset")
		case names[s.Name]:
			p.addf(path+".name", "%q is listed twice", s.Name)
		default:
			p.checkSubsetName(path+".name", s.Name)
		}
		names[s.Name] = true
		p.checkLabels(path+".labels", s.Labels)
		validateTrafficPolicy(p, path+".trafficPolicy", s.TrafficPolicy)
	}
}

// Policy is what Istio's TrafficPolicy and its PortTrafficPolicy have in common.
type Policy interface {
	GetLoadBalancer() *networking.LoadBalancerSettings
	GetTls() *networking.ClientTLSSettings
	GetOutlierDetection() *networking.OutlierDetection
	GetConnectionPool() *networking.ConnectionPoolSettings
}

func validatePolicy(p *problems, path string, s Policy) {
	validateLoadBalancer(p, path+".loadBalancer", s.GetLoadBalancer())
	validateClientTLS(p, path+".tls", s.GetTls())
	validateOutlierDetection(p, path+".outlierDetection", s.GetOutlierDetection())
	validateConnectionPool(p, path+".connectionPool", s.GetConnectionPool())
}

func validateTrafficPolicy(p *problems, path string, t *networking.TrafficPolicy) {
	if t == nil {
		return
	}
	if proto.Size(t) == 0 {
		p.addf(path, "is empty; set something in it, or remove it")
	}
	validatePolicy(p, path, t)
	validateRetryBudget(p, path+".retryBudget", t.RetryBudget)

	for i, port := range t.PortLevelSettings {
		at := indexed(path+".portLevelSettings", i)
		if port.Port == nil {
			p.addf(at+".port", "is missing; give port: {number: N}")
		} else {
			p.checkPort(at+".port.number", port.Port.Number)
		}
		validatePolicy(p, at, port)
	}
}

func validateLoadBalancer(p *problems, path string, lb *networking.LoadBalancerSettings) {
	if lb == nil {
		return
	}
	validateLocalitySetting(p, path+".localityLbSetting", lb.LocalityLbSetting)
	validateWarmup(p, path, lb)
	validateConsistentHash(p, path, lb)
	switch lb.GetSimple() {
	case networking.LoadBalancerSettings_UNSPECIFIED, networking.LoadBalancerSettings_ROUND_ROBIN,
		networking.LoadBalancerSettings_LEAST_REQUEST, networking.LoadBalancerSettings_RANDOM,
		//lint:ignore SA1019 people's manifests still say LEAST_CONN
		networking.LoadBalancerSettings_LEAST_CONN:
	default:
		p.addf(path+".simple", "%s is not honoured yet; set ROUND_ROBIN, LEAST_REQUEST or RANDOM", lb.GetSimple())
	}
}
