package api

import (
	networking "istio.io/api/networking/v1alpha3"
)

// Istio's API has no word for peak EWMA, so an annotation of the DestinationRule
// says it for all that the rule covers.
const (
	// AnnotationLoadBalancer chooses how endpoints are picked, for the host of a
	// DestinationRule, its ports and its subsets.
	AnnotationLoadBalancer = "isthmus.io/load-balancer"
	// PeakEWMA is its one value: of two endpoints the one that answers sooner, by
	// what it took of late and how many requests it has.
	PeakEWMA = "peak-ewma"
)

// validateLoadBalancerAnnotation refuses a value that says nothing, and one that
// contradicts the rule.
func validateLoadBalancerAnnotation(p *problems, obj *Object, dr *networking.DestinationRule) {
	value, given := obj.Annotations[AnnotationLoadBalancer]
	if !given {
		return
	}
	const path = "metadata.annotations[" + AnnotationLoadBalancer + "]"
	if value != PeakEWMA {
		p.addf(path, "%q is not known; set %q, or remove it", value, PeakEWMA)
		return
	}

	eachPolicy(dr, func(at string, s Policy) {
		if s.GetLoadBalancer().GetConsistentHash() != nil {
			p.addf(path, "%s contradicts %s.loadBalancer.consistentHash; remove one of them", value, at)
		}
		switch simple := s.GetLoadBalancer().GetSimple(); simple {
		case networking.LoadBalancerSettings_UNSPECIFIED, networking.LoadBalancerSettings_LEAST_REQUEST,
			//lint:ignore SA1019 people's manifests still say LEAST_CONN
			networking.LoadBalancerSettings_LEAST_CONN:
		default:
			p.addf(path, "%s contradicts %s.loadBalancer.simple: %s; remove one of them", value, at, simple)
		}
	})
}

// eachPolicy calls do for each level of a rule, with its path.
func eachPolicy(dr *networking.DestinationRule, do func(path string, s Policy)) {
	level := func(path string, t *networking.TrafficPolicy) {
		if t == nil {
			return
		}
		do(path, t)
		for i, port := range t.PortLevelSettings {
			do(indexed(path+".portLevelSettings", i), port)
		}
	}

	level("spec.trafficPolicy", dr.TrafficPolicy)
	for i, s := range dr.Subsets {
		level(indexed("spec.subsets", i)+".trafficPolicy", s.TrafficPolicy)
	}
}
