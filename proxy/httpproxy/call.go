package httpproxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/access"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
	"github.com/isthmus-mesh/isthmus/proxy/jwt"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// call is a request on its way through this proxy, whatever the versions on both sides: the exchange that decides,
// and the endpoint, log and counters that it decides about.
type call struct {
	exchange.Exchange
	start    time.Time
	onward   time.Time // when it could go on: start, but for requests that a fault held up
	cluster  *upstream.Cluster
	ep       *upstream.Endpoint // the last one that was picked
	pool     *endpointPool      // its connections
	tried    []*upstream.Endpoint
	again    bool             // the last of tried answered
	leave    bool             // the priorities of tried are to be left
	retries  int              // that were taken from the cluster's budget
	headOnly bool             // a HEAD request
	entry    *telemetry.Entry // nil when nothing is logged
}

// asking is where a request comes from.
type asking struct {
	h      *Handler
	info   *downstream.Info
	caller *access.Caller
	tokens *jwt.Verifier   // nil where nobody looks at tokens
	edit   exchange.Fields // the fields, to be changed; needed with tokens
	claims map[string]any  // of the token that was verified
	edge   *exchange.Edge
	fields access.Fields
	ending bool // the connection is to end
	// again says that the side that the request came by has begun it before, delayed that a fault held it up there
	again, delayed bool
}

// begin asks whether the request may pass, and routes it.
func (c *call) begin(from *asking, q *routes.Target) exchange.Verdict {
	in := from.incoming(c.onward)
	return c.routed(from.h, c.Begin(&in, q))
}

// delayed goes on with a request that a fault has held up.
func (c *call) delayed(from *asking, q *routes.Target) exchange.Verdict {
	from.h.server.cfg.Telemetry.FaultDelayed(false)
	c.onward = time.Now()
	in := from.incoming(c.onward)
	return c.routed(from.h, c.Delayed(&in, q))
}

func (from *asking) incoming(start time.Time) exchange.Incoming {
	h, info := from.h, from.info
	return exchange.Incoming{
		HCM: h.hcm, Table: h.routes.Load(), Start: start, Scheme: schemeOf(info),
		HandBack: info.Direction == config.DirectionInbound && info.MTLS(), Ending: from.ending,
		Caller: from.caller, Fields: from.fields, Edge: from.edge, Claims: from.claims,
		Again: from.again, Delayed: from.delayed,
	}
}

// routed finds the cluster to which a route leads, and counts faults.
func (c *call) routed(h *Handler, v exchange.Verdict) exchange.Verdict {
	switch v.Do {
	case exchange.Pick:
	case exchange.Delay:
		h.server.cfg.Telemetry.FaultDelayed(true)
		return v
	default:
		if v.Answer.Flag == outcome.FaultInjected {
			h.server.cfg.Telemetry.FaultAborted()
		}
		return v
	}
	if c.cluster = c.Cluster.Load(); c.cluster == nil {
		return c.NoCluster()
	}
	return v
}

// pick chooses an endpoint, and waits for the first endpoints of a cluster that has just come.
func (c *call) pick(info *downstream.Info) (*upstream.Endpoint, error) {
	hint := upstream.Hint{OriginalDst: info.Local, Tried: c.tried, Again: c.again, Leave: c.leave, Try: c.MayTry(), Hash: c.Hash}
	ep, err := c.cluster.Pick(hint)
	if err == nil {
		return ep, nil
	}
	select {
	case <-c.cluster.Ready():
		return nil, err
	default:
	}
	if !c.cluster.WaitReady(context.Background()) {
		return nil, err
	}
	return c.cluster.Pick(hint)
}

// another asks whether the request, of which h is the answer, is to go to another endpoint, as v wants it: there must
// be one beside this one and those that failed, and the budget for it.
func (c *call) another(v exchange.Verdict, h *exchange.Head, info *downstream.Info) exchange.Verdict {
	tried := append(c.tried[:len(c.tried):len(c.tried)], c.ep)
	hint := upstream.Hint{OriginalDst: info.Local, Tried: tried, Again: v.Again, Leave: v.Leave, Healthy: true, Hash: c.Hash}
	if _, err := c.cluster.Pick(hint); err != nil {
		return c.NoOther(h)
	}
	if v.Budget && !c.beginRetry() {
		return c.NoBudget(h)
	}
	v.Do, v.Budget = exchange.Pick, false
	return v
}

// move has a request that has begun at an endpoint go to another one.
func (c *call) move(ep *upstream.Endpoint, pool *endpointPool) {
	c.ep.Pass(ep)
	c.ep, c.pool = ep, pool
}

// beginRetry takes a retry from the cluster's budget.
func (c *call) beginRetry() bool {
	if !c.cluster.BeginRetry() {
		return false
	}
	c.retries++
	return true
}

// heed does what a verdict says to the endpoint of the last try, and takes the next one from the budget.
func (c *call) heed(v exchange.Verdict) exchange.Verdict {
	if v.Avoid {
		c.tried = append(c.tried, c.ep)
	}
	if v.Blame {
		c.ep.Report(upstream.OutcomeReset)
	}
	c.again, c.leave = v.Again, v.Leave
	if v.Do == exchange.Pick && v.Budget && !c.beginRetry() {
		return c.Overdrawn()
	}
	return v
}

// lost notes that a connection is dead, and that others of the endpoint are likely to be.
func (c *call) lost() {
	c.ep.Report(upstream.OutcomeLost)
	c.pool.dropIdle()
}

// answerHead is what the core is told of the head of an answer. failed is its field x-isthmus-failed, which is
// believed of an endpoint that proved who it is.
func (c *call) answerHead(status, grpc int, failed string, bodyAtHand bool) exchange.Head {
	if failed != "" {
		if id := c.pool.principal.Load(); id == nil || *id == "" {
			failed = ""
		}
	}
	return exchange.Head{Status: status, GRPC: grpc, Failed: failed, BodyAtHand: bodyAtHand}
}

// pause waits as long as a verdict with Wait asks for.
func pause(most time.Duration) {
	if most > 0 {
		time.Sleep(rand.N(most))
	}
}

// idleLimit is how long nothing may move on a request, 0 for no bound.
func (c *call) idleLimit(h *Handler) time.Duration {
	if r := c.Route; r != nil && r.Action != nil && r.Action.IdleSet {
		return r.Action.IdleTimeout
	}
	return h.hcm.StreamIdleTimeout
}

// finish counts the request and logs it.
func (c *call) finish(h *Handler, handles *telemetry.HTTP, now time.Time) {
	c.Outcome.Duration = now.Sub(c.start)
	if c.cluster != nil {
		c.settle(now)
	}
	handles.Record(&c.Outcome)
	e := c.entry
	if e == nil {
		return
	}
	e.Code, e.GRPC, e.Flags = c.Outcome.Code, c.Outcome.GRPC, c.Outcome.Flag.String()
	e.Received, e.Sent, e.Details = c.Outcome.Received, c.Outcome.Sent, c.Outcome.Details
	if c.ep != nil {
		e.Upstream = c.ep.Addr()
	}
	if c.cluster != nil {
		e.Cluster = c.cluster.Name()
	}
	if c.Route != nil {
		e.Route = c.Route.Name
	}
	h.log.Write(e)
}

// settle tells the cluster that the request is over.
func (c *call) settle(now time.Time) {
	for ; c.retries > 0; c.retries-- {
		c.cluster.EndRetry()
	}
	// Of a request that was tried several times, the last endpoint took but a part of the time.
	if c.cluster.PeakEWMA() && c.ep != nil && c.Outcome.Code != 0 && c.Tries() == 1 {
		c.ep.Took(now.Sub(c.onward))
	}
}

// counters returns the telemetry handles of the call; counted are those of the connection that it came by.
func (c *call) counters(h *Handler, info *downstream.Info, counted *countedCluster) *telemetry.HTTP {
	t := h.server.cfg.Telemetry
	switch {
	case info.Direction == config.DirectionInbound:
		return counted.get(t, info, c)
	case c.pool != nil:
		return c.pool.count(t, info, c.GRPC)
	}
	return t.HTTPFor(info, c.cluster, nil, "", c.GRPC)
}

// outcomeOf is what an answer says of its endpoint.
func outcomeOf(h *exchange.Head) upstream.Outcome {
	status := h.Status
	switch {
	case h.Failed != "":
		return upstream.OutcomeHandedBack
	case status == 502 || status == 503 || status == 504:
		return upstream.OutcomeGatewayError
	case status >= 500:
		return upstream.OutcomeServerError
	}
	return upstream.OutcomeOK
}

var (
	// errTimeout ends a try or a request whose time is over.
	errTimeout = errors.New("the time for the request is over")
	// errStill ends a request on which nothing has moved for as long as the configuration allows.
	errStill = errors.New("nothing has moved on the request for too long")
	// errNotSent is a connection that took nothing of the request.
	errNotSent = errors.New("the endpoint ended the connection before it was asked")
	// errNotQuiet is a connection that was not written to, because the endpoint had spoken or hung up.
	errNotQuiet = errors.New("the endpoint sent something, or hung up, before it was asked")
)

// causeOf says what err means for the request. first says that not a byte of an answer came.
func causeOf(err error, first bool) exchange.Cause {
	switch {
	case errors.Is(err, errNotQuiet), errors.Is(err, errNotSent), errors.Is(err, http2.ErrNoStreams):
		return exchange.NotSent
	case isBreach(err):
		return exchange.Malformed
	case errors.Is(err, errTimeout):
		return exchange.Silent
	case errors.Is(err, errStill):
		return exchange.Idle
	case first && isLost(err):
		return exchange.Lost
	case first:
		return exchange.Ended
	}
	return exchange.BrokeOff
}

// isLost reports whether a connection ended because its other end gives no sign of life: it does not acknowledge what
// it was sent (TCP_USER_TIMEOUT, keepalives), or does not answer a PING, or its host is said to be unreachable.
func isLost(err error) bool {
	return errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH) ||
		errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, http2.ErrSilent)
}

func schemeOf(info *downstream.Info) string {
	if info.TLS != nil {
		return "https"
	}
	return "http"
}
