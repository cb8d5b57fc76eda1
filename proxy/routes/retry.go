package routes

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
)

const (
	// maxTries bounds the endpoints that are tried for one request where no retry policy says otherwise.
	maxTries = 3
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
}

func compileRetries(p *config.RetryPolicy) *Retries {
	if p == nil {
		return nil
	}
	r := &Retries{tries: int(min(p.Attempts, 10)) + 1, perTry: p.PerTryTimeout}
	for _, on := range p.On {
		switch on {
		case "5xx":
			r.server, r.reset = true, true
		case "gateway-error":
			r.statuses = append(r.statuses, 502, 503, 504)
			r.reset = true
		case "retriable-status-codes":
			r.statuses = append(r.statuses, p.Statuses...)
		case "reset", "reset-before-request":
			r.reset = true
		case "unavailable":
			r.grpc = append(r.grpc, 14)
		case "cancelled":
			r.grpc = append(r.grpc, 1)
		}
	}
	return r
}

// Limit returns how many endpoints may be tried.
func (r *Retries) Limit() int {
	if r == nil {
		return maxTries
	}
	return r.tries
}

// Answers reports whether an answer is one to try again. grpc is NoGRPCStatus where there is none.
func (r *Retries) Answers(status, grpc int) bool {
	if r == nil {
		return false
	}
	return r.server && status >= 500 || slices.Contains(r.statuses, status) ||
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
