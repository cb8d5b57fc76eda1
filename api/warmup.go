package api

import (
	"math"
	"time"

	networking "istio.io/api/networking/v1alpha3"
)

// warmupFields are those of a loadBalancer's warmup.
var warmupFields = fieldSet{"duration": nil, "minimumPercent": nil, "aggression": nil}

// validateWarmup checks how an endpoint that is new is brought up to its share, in
// either of the two ways to write it.
func validateWarmup(p *problems, path string, lb *networking.LoadBalancerSettings) {
	//lint:ignore SA1019 older manifests say warmupDurationSecs
	old, w := lb.WarmupDurationSecs, lb.Warmup
	if old == nil && w == nil {
		return
	}
	if old != nil && w != nil {
		p.addf(path+".warmupDurationSecs", "cannot stand beside warmup; keep warmup.duration")
	}
	p.checkDuration(path+".warmupDurationSecs", old, time.Millisecond)

	// Envoy has slow start in these two alone.
	if lb.GetSimple() == networking.LoadBalancerSettings_RANDOM {
		p.addf(path+".warmup", "cannot stand with simple: RANDOM; set LEAST_REQUEST or ROUND_ROBIN")
	}
	if w == nil {
		return
	}
	if w.Duration == nil {
		p.addf(path+".warmup.duration", "is missing; set the time in which an endpoint comes to its full share, as 60s")
	}
	p.checkDuration(path+".warmup.duration", w.Duration, time.Millisecond)
	if w.MinimumPercent != nil {
		p.checkPercent(path+".warmup.minimumPercent", w.MinimumPercent.Value)
	}
	if a := w.Aggression; a != nil && !(a.Value > 0 && a.Value <= math.MaxFloat32) {
		p.addf(path+".warmup.aggression", "%v: set a number above 0; 1 is linear, more brings traffic sooner", a.Value)
	}
}
