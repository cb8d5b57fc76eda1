package httpproxy

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// A sidecar whose application could not be asked, as when the application of a pod ends before the sidecar does, tells
// its caller so in the field x-isthmus-failed, so that the caller's proxy can ask another endpoint. Without it a 503
// may mean that the request had its effect.
//
// The field is set on answers of the proxy itself, to callers that proved who they are; it is believed of endpoints
// that did; and it is dropped from every response that passes through, so that no application can set it.
const (
	// notProcessed: nothing of the request was given to the application; it can be sent again whatever it is.
	notProcessed = "unprocessed"
	// notAnswered: the application hung up before it answered; an idempotent request can be sent again
	// (RFC 9110 section 9.2.2).
	notAnswered = "unanswered"
)

// errNotSent is a connection that took nothing of the request.
var errNotSent = errors.New("the endpoint ended the connection before it was asked")

// neverSent reports whether err says that no endpoint has got anything of the request.
func neverSent(err error) bool {
	var none *upstream.PickError
	var dial *upstream.DialError
	return errors.Is(err, errNotQuiet) || errors.Is(err, errNotSent) || errors.Is(err, errNoStreams) ||
		errors.As(err, &none) || errors.As(err, &dial)
}

// note remembers what a failed try may have done. first says that not a byte of a response came.
func (c *call) note(err error, first bool) {
	var syntax *parseError
	switch {
	case neverSent(err):
	case first && !errors.Is(err, errTimeout) && !errors.As(err, &syntax):
		c.sent = true
	default:
		c.sent, c.answered = true, true
	}
}

// sign returns the value of x-isthmus-failed for the answer to a request that failed with err, or "".
func (c *call) sign(err error, info *downstream.Info) string {
	switch {
	case info.Direction != config.DirectionInbound || !info.MTLS() || c.answered:
		return ""
	case c.sent:
		return notAnswered
	case neverSent(err):
		return notProcessed
	}
	return ""
}

// handedBack reports whether a response, by its x-isthmus-failed, leaves the request to another endpoint.
func (c *call) handedBack(failed string, policy *retries) bool {
	if failed == "" || c.pool == nil {
		return false
	}
	if id := c.pool.principal.Load(); id == nil || *id == "" {
		return false
	}
	return failed == notProcessed || failed == notAnswered && (c.idempotent || policy.hungUp())
}
