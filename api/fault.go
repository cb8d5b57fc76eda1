package api

import (
	"time"

	"google.golang.org/grpc/codes"
	networking "istio.io/api/networking/v1alpha3"
)

var faultFields = fieldSet{
	"delay": {"fixedDelay": nil, "percentage": nil, "percent": nil},
	"abort": {"httpStatus": nil, "grpcStatus": nil, "percentage": nil},
}

// maxFaultDelay bounds a delay: who waits for an hour tests nothing more by waiting
// longer, and every request that waits is kept by its proxy.
const maxFaultDelay = time.Hour

// validateFault looks at HTTPFaultInjection
// (https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPFaultInjection).
func validateFault(p *problems, path string, r *networking.HTTPRoute) {
	f := r.Fault
	if f == nil {
		return
	}
	path += ".fault"
	if len(r.Route) == 0 && r.Delegate == nil {
		p.addf(path, "stands beside an answer that the proxy gives itself; remove it, or give route")
	}
	if f.Delay == nil && f.Abort == nil {
		p.addf(path, "is empty; set delay or abort, or remove it")
	}
	validateDelay(p, path+".delay", f.Delay)
	validateAbort(p, path+".abort", f.Abort)
}

func validateDelay(p *problems, path string, d *networking.HTTPFaultInjection_Delay) {
	if d == nil {
		return
	}
	p.checkDuration(path+".fixedDelay", d.GetFixedDelay(), time.Millisecond)
	switch length := d.GetFixedDelay(); {
	case length == nil:
		p.addf(path+".fixedDelay", "is missing; say how long requests are held up")
	case length.AsDuration() > maxFaultDelay:
		p.addf(path+".fixedDelay", "%v is too long; set %v or less", length.AsDuration(), maxFaultDelay)
	}

	//lint:ignore SA1019 people's manifests still say percent
	old := d.GetPercent()
	switch {
	case d.Percentage != nil:
		p.checkPercent(path+".percentage.value", d.Percentage.Value)
	case old < 0 || old > 100:
		p.addf(path+".percent", "%d is no percentage; set 0 to 100", old)
	case old == 0:
		p.addf(path+".percentage", "is missing, so that no request would be held up; set percentage.value")
	}
	if d.Percentage != nil && old != 0 {
		p.addf(path+".percent", "stands beside percentage, which counts; remove it")
	}
}

func validateAbort(p *problems, path string, a *networking.HTTPFaultInjection_Abort) {
	if a == nil {
		return
	}
	switch e := a.ErrorType.(type) {
	case *networking.HTTPFaultInjection_Abort_HttpStatus:
		if e.HttpStatus < 200 || e.HttpStatus > 599 {
			p.addf(path+".httpStatus", "%d is no status to answer with; set 200 to 599", e.HttpStatus)
		}
	case *networking.HTTPFaultInjection_Abort_GrpcStatus:
		if _, ok := GRPCStatus(e.GrpcStatus); !ok {
			p.addf(path+".grpcStatus", "%q is no status of gRPC; write it as UNAVAILABLE", e.GrpcStatus)
		}
	default:
		p.addf(path, "says no status; set httpStatus or grpcStatus")
	}
	if a.Percentage == nil {
		p.addf(path+".percentage", "is missing, so that no request would be aborted; set percentage.value")
		return
	}
	p.checkPercent(path+".percentage.value", a.Percentage.Value)
}

// GRPCStatus is the number of a status that is written as UNAVAILABLE
// (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
func GRPCStatus(name string) (uint32, bool) {
	var code codes.Code
	err := code.UnmarshalJSON([]byte(`"` + name + `"`))
	return uint32(code), err == nil
}
