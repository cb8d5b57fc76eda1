package exchange

import "github.com/isthmus-mesh/isthmus/proxy/routes"

// FailedField is the field in which a sidecar whose application could not be asked, as when the application of a pod
// ends before the sidecar does, tells its caller so, and the caller's proxy asks another endpoint. Without it a 503
// may mean that the request had its effect.
//
// It is set on answers of the proxy itself, to callers that proved who they are; it is believed of endpoints that did;
// and it is dropped from every answer that passes through, so that no application can set it.
const FailedField = "x-isthmus-failed"

const (
	// notProcessed: nothing of the request was given to the application; it can be sent again whatever it is.
	notProcessed = "unprocessed"
	// notAnswered: the application hung up before it answered; an idempotent request can be sent again
	// (RFC 9110 section 9.2.2).
	notAnswered = "unanswered"
)

// note remembers what a failed try may have done.
func (x *Exchange) note(c Cause) {
	switch c {
	case Unreachable, NotSent:
	case Ended, Lost, Reset, Cancelled:
		x.sent = true
	default:
		x.sent, x.answered = true, true
	}
}

// mark returns the value of FailedField for the answer to a request whose last try failed, or "".
func (x *Exchange) mark() string {
	switch {
	case !x.handBack || x.answered:
		return ""
	case x.sent:
		return notAnswered
	}
	return notProcessed
}

// handedBack reports whether an answer, by its FailedField, leaves the request to another endpoint.
func (x *Exchange) handedBack(failed string, policy *routes.Retries) bool {
	return failed == notProcessed || failed == notAnswered && (x.idempotent || policy.HungUp())
}
