package config

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// decodeOutlier reads passive ejection, which acts at once: interval, the time
// between Envoy's sweeps, has no meaning here. The statistical detectors are
// refused where they are asked for.
func (c *Cluster) decodeOutlier(a at, p *clusterv3.Cluster) error {
	o := p.GetOutlierDetection()
	if o == nil {
		return nil
	}

	oa := a.in("outlier_detection")
	if err := oa.only(o, "consecutive_5xx", "interval", "base_ejection_time", "max_ejection_percent",
		"enforcing_consecutive_5xx", "enforcing_success_rate", "consecutive_gateway_failure",
		"enforcing_consecutive_gateway_failure", "split_external_local_origin_errors",
		"consecutive_local_origin_failure", "enforcing_consecutive_local_origin_failure",
		"enforcing_local_origin_success_rate", "enforcing_failure_percentage",
		"enforcing_failure_percentage_local_origin", "max_ejection_time", "max_ejection_time_jitter"); err != nil {
		return err
	}
	if err := checkEnforcing(oa, o); err != nil {
		return err
	}

	c.Outlier = &OutlierDetection{
		Consecutive5xx:     enforced(o.GetConsecutive_5Xx(), 5, o.GetEnforcingConsecutive_5Xx(), 100),
		ConsecutiveGateway: enforced(o.GetConsecutiveGatewayFailure(), 5, o.GetEnforcingConsecutiveGatewayFailure(), 0),
		ConsecutiveLocal:   enforced(o.GetConsecutiveLocalOriginFailure(), 5, o.GetEnforcingConsecutiveLocalOriginFailure(), 100),
		Split:              o.GetSplitExternalLocalOriginErrors(),
		BaseEjection:       30 * time.Second, MaxEjection: 300 * time.Second,
		MaxPercent: orUint(o.GetMaxEjectionPercent(), 10), MaxPercentGiven: o.GetMaxEjectionPercent() != nil,
	}

	// Without the split, Envoy counts failures to connect among the gateway's.
	if !c.Outlier.Split {
		c.Outlier.ConsecutiveLocal = 0
	}
	if c.Outlier.MaxPercent > 100 {
		return oa.in("max_ejection_percent").errorf("%d is above 100", c.Outlier.MaxPercent)
	}
	return oa.durations(
		durationField{"base_ejection_time", o.GetBaseEjectionTime(), &c.Outlier.BaseEjection},
		durationField{"max_ejection_time", o.GetMaxEjectionTime(), &c.Outlier.MaxEjection})
}

// checkEnforcing refuses detectors by statistics, and those by count that are to
// act now and then only.
func checkEnforcing(a at, o *clusterv3.OutlierDetection) error {
	for field, v := range inOrder(map[string]*wrapperspb.UInt32Value{
		"enforcing_success_rate":                    o.GetEnforcingSuccessRate(),
		"enforcing_local_origin_success_rate":       o.GetEnforcingLocalOriginSuccessRate(),
		"enforcing_failure_percentage":              o.GetEnforcingFailurePercentage(),
		"enforcing_failure_percentage_local_origin": o.GetEnforcingFailurePercentageLocalOrigin(),
	}) {
		if v.GetValue() != 0 {
			return a.in(field).errorf("is not supported by this proxy")
		}
	}

	for field, v := range inOrder(map[string]*wrapperspb.UInt32Value{
		"enforcing_consecutive_5xx":                  o.GetEnforcingConsecutive_5Xx(),
		"enforcing_consecutive_gateway_failure":      o.GetEnforcingConsecutiveGatewayFailure(),
		"enforcing_consecutive_local_origin_failure": o.GetEnforcingConsecutiveLocalOriginFailure(),
	}) {
		if n := v.GetValue(); n != 0 && n != 100 {
			return a.in(field).errorf("%d: only 0 and 100 are supported by this proxy", n)
		}
	}
	return nil
}

// enforced returns the threshold of a detector, 0 when it is switched off.
func enforced(n *wrapperspb.UInt32Value, def uint32, percent *wrapperspb.UInt32Value, defPercent uint32) uint32 {
	if orUint(percent, defPercent) == 0 {
		return 0
	}
	return orUint(n, def)
}
