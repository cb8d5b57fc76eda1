package routes

import (
	"math"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
)

const (
	// maxTries bounds the endpoints that are tried for one request where no retry policy says otherwise.
	maxTries = 3
	// backOff bounds the first pause before a retry, as in Envoy; it doubles, up to ten times as much.
	backOff, maxBackOff = 25 * time.Millisecond, 250 * time.Millisecond
	// leaveAfter is after how many tries their priorities are left: one more endpoint of the near one is asked, as
	// it may be only the first that fails; after that the fault is likely to be that of the whole place.
	leaveAfter = 2
)

// Retries is a compiled config.RetryPolicy. A request goes to another endpoint only as long as its body is still
// at hand. Failures to connect and refused streams are tried again without a policy too: nothing has happened yet.
type Retries struct {
	tries    int
	perTry   time.Duration
	reset    bool // the endpoint hung up before it answered
	statuses []int
	server   bool  // every 5xx
	grpc     []int // grpc-status of an answer without a body
	// unavailable is 503, the status that HTTP has for gRPC's 14
	// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md), to requests that may be sent twice.
	unavailable bool
	leave       int // tries after which their priorities are left
	// pauses before the first retry, and at most
	pause, maxPause time.Duration
}

func compileRetries(p *config.RetryPolicy) *Retries {
	if p == nil {
		return nil
	}

	r := &Retries{
		tries: int(min(p.Attempts, 10)) + 1, perTry: p.PerTryTimeout, leave: leaveAfter,
		pause: backOff, maxPause: maxBackOff,
	}
	if p.LeavePriorities > 0 {
		r.leave = int(min(p.LeavePriorities, math.MaxInt32))
	}
	if p.BackOff > 0 {
		r.pause, r.maxPause = p.BackOff, p.MaxBackOff
	}

	for _, on := range p.On {
		r.cover(on, p.Statuses)
	}
	return r
}

// cover adds one of Envoy's conditions (x-envoy-retry-on, x-envoy-retry-grpc-on). Those about connecting need no word:
// nothing has happened yet then.
func (r *Retries) cover(condition string, statuses []int) {
	switch condition {
	case "5xx":
		r.server, r.reset = true, true
	case "gateway-error":
		r.statuses = append(r.statuses, 502, 503, 504)
		r.reset = true
	case "retriable-status-codes":
		r.statuses = append(r.statuses, statuses...)
	case "retriable-4xx":
		r.statuses = append(r.statuses, 409)
	case "reset", "reset-before-request":
		r.reset = true
	case "cancelled":
		r.grpc = append(r.grpc, 1)
	case "deadline-exceeded":
		r.grpc = append(r.grpc, 4)
	case "resource-exhausted":
		r.grpc = append(r.grpc, 8)
	case "internal":
		r.grpc = append(r.grpc, 13)
	case "unavailable":
		r.grpc = append(r.grpc, 14)
		r.unavailable = true
	}
}

// Limit returns how many endpoints may be tried.
func (r *Retries) Limit() int {
	if r == nil {
		return maxTries
	}
	return r.tries
}

// Answers reports whether an answer is one to try again. grpc is NoGRPCStatus where there is none; idempotent says that
// the request may be sent twice (RFC 9110 section 9.2.2).
//
// "unavailable" is in the policy of every route that has none of its own, for gRPC alone. Here it holds for HTTP's word
// for it as well, where that can do no harm: a place whose pods all answer 503 is then left without a failed request,
// and without being configured. The budget bounds what it adds where everybody answers so.
func (r *Retries) Answers(status, grpc int, idempotent bool) bool {
	if r == nil {
		return false
	}
	return r.unavailable && idempotent && status == 503 ||
		r.server && status >= 500 || slices.Contains(r.statuses, status) ||
		grpc != outcome.NoGRPCStatus && slices.Contains(r.grpc, grpc)
}

// HungUp reports whether a request is to be tried again after the endpoint hung up on it.
func (r *Retries) HungUp() bool { return r != nil && r.reset }

// TryTimeout returns the bound of one try, 0 for none.
func (r *Retries) TryTimeout() time.Duration {
	if r == nil {
		return 0
	}
	return r.perTry
}

// Pause returns the bound of the pause after so many tries; the pause itself is drawn from 0 to there, so that
// callers who failed together do not come back together.
func (r *Retries) Pause(tries int) time.Duration {
	pause, most := backOff, maxBackOff
	if r != nil {
		pause, most = r.pause, r.maxPause
	}
	return min(pause*time.Duration(1<<min(max(tries, 1), 20)-1), most)
}

// Leave reports whether after so many tries the priorities of the endpoints that were asked are to be left.
func (r *Retries) Leave(tries int) bool {
	if r == nil {
		return tries >= leaveAfter
	}
	return tries >= r.leave
}
