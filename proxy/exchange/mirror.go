package exchange

import (
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

// Mirror begins the copy of a request, by the route that its mirror gives; it stands in Begin's place. Who may send the
// request, and what becomes of it, was decided with the request itself, and so was how it looks.
func (x *Exchange) Mirror(r *routes.Route, start time.Time) Verdict {
	*x = Exchange{
		Route: r, Cluster: r.Cluster(), GRPC: x.GRPC,
		Outcome: outcome.Request{GRPC: outcome.NoGRPCStatus},
	}
	if r.Timeout > 0 {
		x.Deadline = start.Add(r.Timeout)
	}
	return Verdict{Do: Pick}
}
