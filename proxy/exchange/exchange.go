package exchange

import (
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/access"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// Exchange is one request on its way. The zero value is ready for Begin.
type Exchange struct {
	// Route and Cluster are set by Begin, nil when there is none.
	Route   *routes.Route
	Cluster *upstream.Ref
	// Outcome is what became of it; the engine adds what it moved, and how long it took.
	Outcome outcome.Request
	// GRPC says that the caller speaks gRPC.
	GRPC bool
	// Hash has the request meet those with the same one at one endpoint; 0: it has none.
	Hash uint64
	// Deadline ends the whole request, TryEnd the current try; zero where nothing does.
	Deadline, TryEnd time.Time

	cookies    []string // for the answer, by which the caller's next request has the same Hash
	idempotent bool     // RFC 9110 section 9.2.2
	reads      bool     // it is GET or HEAD, which change nothing and have no body, as a rule
	handBack   bool     // the caller understands x-isthmus-failed
	tries      int      // endpoints that were asked, those that could not be reached included
	last       Failure
	sent       bool   // an endpoint may have got a request that failed
	answered   bool   // and may have answered it
	spent      bool   // there would have been another try, but for the limit
	abort      bool   // a fault of the route answers it
	origin     string // of the page that sends it, if its route allows that; else empty
}

// Incoming is a request as it came.
type Incoming struct {
	HCM    *config.HCM
	Table  *routes.Table // nil before the first configuration
	Start  time.Time
	Scheme string // of the caller's connection
	// HandBack says that the caller is a sidecar of the mesh, which proved it: it may be told that another endpoint
	// can still be asked.
	HandBack bool
	// Again says that the request was begun before, by the HTTP version that it came by: faults have had their turn.
	// Delayed says that one held it up.
	Again, Delayed bool
	// Ending says that this proxy is about to end, and with it, most likely, the application of its pod.
	Ending bool
	// Caller says what the one who sent the request may do; nil: everything. Fields are the request's, and Edge is of
	// its connection; both are read only if Caller is set, or the route hashes requests.
	Caller *access.Caller
	Fields access.Fields
	Edge   *Edge
	// Claims are those of the request's token, if one was verified.
	Claims map[string]any
}

// Begin routes the request. It brings the path and the authority of q into the form in which they are routed and sent
// on.
func (x *Exchange) Begin(in *Incoming, q *routes.Target) Verdict {
	*x = Exchange{} // in place: a literal would be made first and copied then
	x.Outcome.GRPC, x.GRPC, x.handBack = outcome.NoGRPCStatus, q.GRPC, in.HandBack
	x.reads = q.Method == "GET" || q.Method == "HEAD"
	x.idempotent = x.reads || isIdempotent(q.Method)
	q.Path = routes.NormalizePath(in.HCM, q.Path)
	if in.HCM.StripAnyHostPort {
		q.Authority = routes.WithoutPort(q.Authority)
	}

	if in.Delayed {
		x.Outcome.Flag = outcome.DelayInjected
	}

	q.Scheme = in.Scheme
	if in.Caller != nil && !x.allowed(in, q) {
		return reply(&Answer{Status: 403, Body: accessDenied})
	}
	if in.Table == nil {
		return reply(notReady())
	}
	if x.Route = in.Table.Find(q); x.Route == nil {
		return reply(noRoute(in.Table.Name(), q))
	}
	if c := x.Route.CORS; c != nil {
		if v, answered := x.crossOrigin(c, q); answered {
			return v
		}
	}
	if f := x.Route.Fault; f != nil && !in.Again {
		return x.suffer(f, in, q)
	}
	return x.onward(in, q)
}

// onward goes on with a request whose route is known.
func (x *Exchange) onward(in *Incoming, q *routes.Target) Verdict {
	switch r := x.Route; {
	case r.Direct != nil:
		return reply(&Answer{Status: r.Direct.Status, Body: r.Direct.Body})
	case r.Redirect != nil:
		return reply(&Answer{Status: r.Redirect.Status, Location: r.RedirectTo(q, in.Scheme)})
	}

	x.Route = x.Route.Choose()
	x.Cluster = x.Route.Cluster()
	if len(x.Route.Action.Hash) > 0 {
		x.hash(in, q)
	}
	if x.Route.Timeout > 0 {
		x.Deadline = in.Start.Add(x.Route.Timeout)
	}

	// An application that ends closes its idle connections. A request that arrives on one at that moment may have had
	// its effect or not; where that matters, it does not go there. A connection that is refused leaves no doubt.
	return Verdict{Do: Pick, Fresh: in.Ending && !x.idempotent}
}

// hash finds out which requests this one is to meet at one endpoint.
func (x *Exchange) hash(in *Incoming, q *routes.Target) {
	x.Hash, x.cookies = x.Route.Hash(q, &routes.Caller{
		Peer: in.Edge.Peer,
		Cookie: func(name string) (string, bool) {
			for i := 0; ; i++ {
				field, value, more := in.Fields.Field(i)
				if !more {
					return "", false
				}
				if !strings.EqualFold(field, "cookie") {
					continue
				}
				if found, has := routes.FindCookie(value, name); has {
					return found, true
				}
			}
		},
	})
}

// accessDenied is what Envoy's rbac filter says to those whom it refuses.
const accessDenied = "RBAC: access denied"

// allowed asks whether the caller may send the request, as it will be sent on. Nothing else is told to one who may not:
// neither which routes there are, nor whether there is anybody behind them.
func (x *Exchange) allowed(in *Incoming, q *routes.Target) bool {
	details, allowed := in.Caller.Decide(&access.Request{
		Method: q.Method, Scheme: q.Scheme, Authority: q.Authority, Path: q.Path, Fields: in.Fields,
		ClientCert: in.Edge.Cert.Element, KeepCert: in.Edge.Cert.Keep, TrustPeer: in.HCM.UseRemoteAddress,
		Claims: in.Claims,
	})
	x.Outcome.Details = details
	return allowed
}

// Refuse answers a request that is malformed or cannot be served as it is; it may stand in Begin's place.
func (x *Exchange) Refuse(status int, flag outcome.Flag, why string) Verdict {
	return reply(&Answer{Status: status, Flag: flag, Body: why})
}

// Unauthenticated answers a request whose tokens do not do (RFC 6750 section 3); it may stand in Begin's place. realm is
// what the request asked for, missing says that it had no token.
func (x *Exchange) Unauthenticated(why string, missing bool, realm string) Verdict {
	a := &Answer{Status: 401, Body: why, Challenge: `Bearer realm="` + quotable(realm) + `"`}
	if !missing {
		a.Challenge += `, error="invalid_token"`
	}
	x.Outcome.Details = "jwt_authn_access_denied{" + strings.ReplaceAll(why, " ", "_") + "}"
	return reply(a)
}

// maxRealm bounds what is repeated of a request.
const maxRealm = 256

// quotable leaves out of a text what would end the quotes around it.
func quotable(s string) string {
	s = strings.NewReplacer(`"`, "", `\`, "").Replace(s)
	return s[:min(len(s), maxRealm)]
}

// NoCluster answers for a route whose cluster does not exist.
func (x *Exchange) NoCluster() Verdict { return reply(noCluster(x.Route, x.Cluster.Name())) }

// Connected says that a connection takes the request. Every endpoint that is asked counts as a try.
func (x *Exchange) Connected(now time.Time) Verdict {
	x.tries++
	x.TryEnd = x.Deadline
	if limit := x.Route.Retries.TryTimeout(); limit > 0 {
		if end := now.Add(limit); x.TryEnd.IsZero() || end.Before(x.TryEnd) {
			x.TryEnd = end
		}
	}
	return Verdict{Do: Send}
}

// Stale says that a pooled connection, or one that had no room for another stream, did not take the request after
// all: that was a look at the pool, not a try.
func (x *Exchange) Stale() Verdict {
	x.tries--
	return Verdict{Do: Pick}
}

// NoEndpoint says that there is none left to pick. When others failed before, the reason of the last one is what the
// caller has to know.
func (x *Exchange) NoEndpoint(err error) Verdict {
	if x.last.Cause == 0 {
		x.last = Failure{Err: err}
	}
	return reply(x.failed())
}

// Failed says that a try brought no answer.
func (x *Exchange) Failed(f *Failure, now time.Time) Verdict {
	if f.Cause == Unreachable {
		x.tries++
	}
	if f.Cause == Silent && !x.Deadline.IsZero() && !now.Before(x.Deadline) {
		f.Cause = Late
	}
	x.note(f.Cause)
	x.last = *f

	// That a pooled connection is over says nothing of its endpoint, nor does a refused stream; silence does. Other
	// connections of a place that is silent, or has ended several, are likely to be over, too.
	v := Verdict{Do: Pick, Fresh: x.fresh(f.Cause == Lost || f.Reused && x.tries > 1), Anew: true, Leave: x.Route.Retries.Leave(x.tries), Budget: true}
	switch f.Cause {
	case Unreachable: // counted where it was dialled
		v.Avoid, v.Budget = true, false
	case NotSent:
		v.Avoid, v.Budget = !f.Reused, false
	case Lost:
		v.Avoid, v.Blame = true, true
	case Malformed:
		v.Blame = true
	case Silent: // another one that is as silent takes as long: better ask elsewhere
		v.Avoid, v.Blame, v.Leave = true, true, true
	case Late, Idle: // the time may have gone elsewhere
	default:
		v.Avoid, v.Blame = !f.Reused, !f.Reused
	}
	if x.again(f) {
		return v
	}

	v.Do, v.Fresh, v.Anew, v.Leave, v.Budget, v.Answer = Reply, false, false, false, false, x.failed()
	if f.Cause == Cancelled {
		v.Do, v.Answer = Break, nil
		x.flagged(outcome.UpstreamReset)
	}
	return v
}

// fresh reports whether a request that is made again goes by a connection of its own, to whatever endpoint: where it must
// not meet another one that is about to end, as it could not be made a third time, and where others are likely to be
// over. Any other request goes by what there is: the requests of a place that goes away would else all dial at once.
func (x *Exchange) fresh(over bool) bool { return over || !x.idempotent }

// again reports whether another endpoint is to be asked.
func (x *Exchange) again(f *Failure) bool {
	if !f.BodyAtHand || !x.mayAgain(f) {
		return false
	}
	return x.left(f.Cause == Unreachable || f.Cause == NotSent)
}

// mayAgain reports whether a failure is of a kind after which another endpoint may be asked.
func (x *Exchange) mayAgain(f *Failure) bool {
	policy := x.Route.Retries
	switch f.Cause {
	case Unreachable, NotSent: // nothing has happened yet
		return true
	case Malformed, Late, Idle:
		return false
	case Silent:
		return policy.TryTimeout() > 0 && (x.idempotent || policy.HungUp())
	case Ended, Lost:
		return x.idempotent || policy.HungUp()
	}
	return policy.HungUp()
}

// freeTries is how many endpoints may be asked as long as none has got the request. While a whole place goes away, all
// endpoints that a request meets there may be on their way out, and so may be the next.
const freeTries = 6

// limit is how many endpoints may be asked; free says that the last one has certainly not worked on the request. Who
// configures that there are no retries gets none.
func (x *Exchange) limit(free bool) int {
	n := x.Route.Retries.Limit()
	if free && n > 1 {
		return max(n, freeTries)
	}
	return n
}

// left reports whether one more endpoint may be asked; free is as for limit. If not, and several were, the outcome says
// that there would have been another try.
func (x *Exchange) left(free bool) bool {
	if x.tries < x.limit(free) {
		return true
	}
	x.spent = x.tries > 1
	return false
}

// flagged sets what went wrong.
func (x *Exchange) flagged(f outcome.Flag) {
	if x.spent {
		f |= outcome.RetryLimit
	}
	x.Outcome.Flag = f | x.Outcome.Flag&outcome.DelayInjected
}

// BodyLost takes a Pick back: the rest of the request that was to be sent again did not come.
func (x *Exchange) BodyLost() Verdict { return reply(x.failed()) }

// Answered says that the head of a final answer has come.
func (x *Exchange) Answered(h *Head) Verdict {
	policy := x.Route.Retries
	if h.BodyAtHand && x.unwelcome(h) && x.left(h.Failed == notProcessed) {
		x.note(unwanted)
		x.last = Failure{Cause: unwanted, Err: fmt.Errorf("status %d", h.Status)}
		v := Verdict{
			Do: Another, Avoid: true, Fresh: x.fresh(false), Anew: true, Wait: policy.Pause(x.tries), Again: true, Leave: policy.Leave(x.tries),
			Budget: true,
		}
		if h.Failed == notProcessed { // no application has seen it, nor is one busy
			v.Wait, v.Budget = 0, false
		}
		return v
	}
	return x.pass(h)
}

// unwelcome reports whether an answer is one in whose place another endpoint may be asked.
func (x *Exchange) unwelcome(h *Head) bool {
	policy := x.Route.Retries
	return policy.Answers(h.Status, h.GRPC, x.idempotent) || x.handedBack(h.Failed, policy)
}

// NoOther says that no other endpoint is there to answer in this one's place.
func (x *Exchange) NoOther(h *Head) Verdict { return x.pass(h) }

// NoBudget says that the cluster may not be given the request again; the answer at hand is passed on.
func (x *Exchange) NoBudget(h *Head) Verdict {
	x.Outcome.Flag = outcome.UpstreamOverflow | x.Outcome.Flag&outcome.DelayInjected
	return x.pass(h)
}

// Overdrawn takes a Pick back: the cluster may not be given the request again.
func (x *Exchange) Overdrawn() Verdict { return reply(x.failed()) }

// Overflow says that a limit of the cluster is reached.
func (x *Exchange) Overflow(err error) Verdict {
	return reply(&Answer{Status: 503, Flag: outcome.UpstreamOverflow, Body: fmt.Sprintf("upstream overflow: %v", err), Mark: x.mark()})
}

func (x *Exchange) pass(h *Head) Verdict {
	x.Outcome.Code = h.Status
	if x.spent {
		x.Outcome.Flag |= outcome.RetryLimit
	}
	if x.GRPC {
		x.Outcome.GRPC = h.GRPC
	}
	return Verdict{Do: Pass}
}

// Broke notes that an answer that was being passed on came to no good end.
func (x *Exchange) Broke(c Cause) {
	switch c {
	case Silent, Late:
		x.flagged(outcome.UpstreamTimeout)
	case Idle:
		x.flagged(outcome.StreamIdle)
	case Malformed:
		x.flagged(outcome.UpstreamProtocol)
	case Reset, Cancelled:
		x.flagged(outcome.UpstreamReset)
	default:
		x.flagged(outcome.UpstreamTerminated)
	}
}

// CallerGone notes that the caller gave up.
func (x *Exchange) CallerGone() { x.flagged(outcome.DownstreamClosed) }

// Tries returns how many endpoints were asked.
func (x *Exchange) Tries() int { return x.tries }

// MayTry reports whether the request can find out about an endpoint that fails: nobody was asked yet, it changes
// nothing, and the answer 503 is no end of it.
func (x *Exchange) MayTry() bool {
	return x.reads && x.tries == 0 && x.last.Cause == 0 && x.limit(false) > 1 &&
		x.Route.Retries.Answers(503, outcome.NoGRPCStatus, true)
}

func isIdempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE":
		return true
	}
	return false
}
