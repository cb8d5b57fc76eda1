package upstream

// Event is what a cluster tells of itself, for metrics.
type Event uint8

// Events. All but EventEjected and EventPanic are counted.
const (
	EventEjection      Event = iota // an endpoint was left out
	EventEjected                    // so many are left out now
	EventPanic                      // 1: a priority is used whole, as too little of it is healthy; 0: none is
	EventRetry                      // a request is sent again that may have loaded an endpoint
	EventRetryOverflow              // the budget has refused that
	EventOverflow                   // a limit has refused a request or a connection
	EventGone                       // the cluster is not there any more
)

// tell passes an event on. It is called with and without the cluster's lock.
func (c *Cluster) tell(e Event, n int) { c.set.event(c.name, e, n) }
