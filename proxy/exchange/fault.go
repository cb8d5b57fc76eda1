package exchange

import (
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

// faultAbort is what Envoy's fault filter says, to callers and in details.
const faultAbort, faultDetails = "fault filter abort", "fault_filter_abort"

// suffer draws what a fault does to the request. As in Envoy it is held up first, and whether it is answered with an
// error does not depend on that.
func (x *Exchange) suffer(f *config.Fault, in *Incoming, q *routes.Target) Verdict {
	x.abort = routes.Draw(f.AbortShare)
	if routes.Draw(f.DelayShare) {
		x.Outcome.Flag = outcome.DelayInjected
		return Verdict{Do: Delay, For: f.Delay}
	}
	return x.Delayed(in, q)
}

// Delayed says that the time of a Delay is over. in and q are those of Begin, but for in.Start, which is now: the time
// for the request begins anew, so that a delay is never taken for an endpoint that does not answer.
func (x *Exchange) Delayed(in *Incoming, q *routes.Target) Verdict {
	if !x.abort {
		return x.onward(in, q)
	}

	f := x.Route.Fault
	a := &Answer{Status: f.Status, Flag: outcome.FaultInjected, Body: faultAbort}
	if f.ByGRPC {
		a.Status, a.ByGRPC, a.GRPC = 200, true, f.GRPCStatus
	}
	x.Outcome.Details = faultDetails
	return reply(a)
}
