package compile

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// fault is nil where no request would suffer.
func fault(f *networking.HTTPFaultInjection) *model.HTTPFault {
	out := model.HTTPFault{}
	if d := f.GetDelay(); d != nil {
		out.Delay = d.GetFixedDelay().AsDuration()
		//lint:ignore SA1019 people's manifests still say percent
		out.DelayShare = model.PercentShare(float64(d.GetPercent()))
		if d.Percentage != nil {
			out.DelayShare = model.PercentShare(d.Percentage.Value)
		}
	}
	if a := f.GetAbort(); a != nil {
		out.AbortShare = model.PercentShare(a.GetPercentage().GetValue())
		out.Status = uint32(a.GetHttpStatus())
		if name := a.GetGrpcStatus(); name != "" {
			out.GRPCStatus, out.ByGRPC = api.GRPCStatus(name)
		}
	}
	if out.DelayShare == 0 && out.AbortShare == 0 {
		return nil
	}
	return &out
}
