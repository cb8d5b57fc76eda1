package resources

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
)

// outlierDetection says when a client's proxy leaves an endpoint out that answers
// with errors; nil leaves it to the proxy. The statistical detectors of Envoy,
// which are on by default, are off in a mesh that asks for a count
// (OutlierDetection in Istio's DestinationRule).
func outlierDetection(o *model.OutlierDetection) *clusterv3.OutlierDetection {
	if o == nil {
		return nil
	}
	out := &clusterv3.OutlierDetection{
		EnforcingSuccessRate: wrapperspb.UInt32(0),
		Interval:             optional(durationpb.New(o.Interval), o.Interval > 0),
		BaseEjectionTime:     optional(durationpb.New(o.BaseEjection), o.BaseEjection > 0),
		MaxEjectionPercent:   optional(wrapperspb.UInt32(o.MaxPercent), o.MaxPercent > 0),
	}
	out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = counted(o.Consecutive5xx)
	out.ConsecutiveGatewayFailure, out.EnforcingConsecutiveGatewayFailure = counted(o.ConsecutiveGateway)
	if o.SplitLocal {
		out.SplitExternalLocalOriginErrors = true
		out.EnforcingLocalOriginSuccessRate = wrapperspb.UInt32(0)
		out.ConsecutiveLocalOriginFailure, out.EnforcingConsecutiveLocalOriginFailure = counted(o.ConsecutiveLocal)
	}
	return out
}

// panicThreshold is the share of healthy endpoints below which a client's proxy
// uses them all. Envoy's own is 50 %, which is wrong where a service has few
// endpoints: with two of three left out, the load would go to all three. It is
// written down wherever outlierDetection is, 0 too, as in Istio.
func panicThreshold(o *model.OutlierDetection) *typev3.Percent {
	if o == nil {
		return nil
	}
	return &typev3.Percent{Value: float64(o.MinHealthPercent)}
}

// counted returns how many errors in a row eject an endpoint, and how strictly: in
// percent. 0 errors means never.
func counted(n *uint32) (count, enforced *wrapperspb.UInt32Value) {
	switch {
	case n == nil:
		return nil, nil
	case *n == 0:
		return nil, wrapperspb.UInt32(0)
	}
	return wrapperspb.UInt32(*n), wrapperspb.UInt32(100)
}

func optional[T any](v *T, set bool) *T {
	if !set {
		return nil
	}
	return v
}
