package api

import (
	"time"

	networking "istio.io/api/networking/v1alpha3"
)

// outlierFields are those of an outlierDetection.
var outlierFields = fieldSet{
	"consecutive5xxErrors": nil, "consecutiveGatewayErrors": nil, "consecutiveErrors": nil,
	"splitExternalLocalOriginErrors": nil, "consecutiveLocalOriginFailures": nil,
	"interval": nil, "baseEjectionTime": nil, "maxEjectionPercent": nil, "minHealthPercent": nil,
}

func validateOutlierDetection(p *problems, path string, o *networking.OutlierDetection) {
	if o == nil {
		return
	}
	p.checkDuration(path+".interval", o.Interval, time.Millisecond)
	p.checkDuration(path+".baseEjectionTime", o.BaseEjectionTime, time.Millisecond)
	p.checkPercent(path+".maxEjectionPercent", float64(o.MaxEjectionPercent))
	p.checkPercent(path+".minHealthPercent", float64(o.MinHealthPercent))

	//lint:ignore SA1019 manifests of Istio 1.6 say consecutiveErrors
	if n := o.ConsecutiveErrors; n < 0 {
		p.addf(path+".consecutiveErrors", "%d is no count; set consecutiveGatewayErrors, which takes its place", n)
	}
	// As in Istio: whoever counts these failures by themselves must have said
	// that they are not counted among the others.
	if o.ConsecutiveLocalOriginFailures != nil && !o.SplitExternalLocalOriginErrors {
		p.addf(path+".consecutiveLocalOriginFailures", "counts only with splitExternalLocalOriginErrors: true; set it, or remove this")
	}
}

// warnOutlierDetection notes what of an outlierDetection is there in an older form.
func warnOutlierDetection(w *problems, path string, o *networking.OutlierDetection) {
	//lint:ignore SA1019 manifests of Istio 1.6 say consecutiveErrors
	switch n := o.GetConsecutiveErrors(); {
	case n == 0:
	case o.ConsecutiveGatewayErrors != nil || o.Consecutive_5XxErrors != nil:
		w.addf(path+".consecutiveErrors", "changes nothing beside consecutiveGatewayErrors or consecutive5xxErrors, which take its place; remove it")
	default:
		w.addf(path+".consecutiveErrors", "is the old name: it counts as consecutiveGatewayErrors: %d with consecutive5xxErrors: 0, as in Istio 1.6; write these", n)
	}
}
