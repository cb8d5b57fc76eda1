package httpproxy

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
)

// requestError is what is wrong with a message as far as this package judges it; status is the answer to a request.
type requestError struct {
	status int
	reason string
}

func (e *requestError) Error() string { return e.reason }

func unfit(format string, args ...any) error {
	return &requestError{status: 400, reason: fmt.Sprintf(format, args...)}
}

// breach finds in err what a peer did against the protocol, whoever of us found it out: status is the answer to a
// caller that did.
func breach(err error) (status int, reason string, is bool) {
	var own *requestError
	var syntax *http1.SyntaxError
	var fault *http2.Breach
	switch {
	case errors.As(err, &own):
		return own.status, own.reason, true
	case errors.As(err, &syntax):
		return syntax.Status, syntax.Reason, true
	case errors.As(err, &fault):
		return 400, fault.Reason, true
	}
	return 0, "", false
}

// isBreach reports whether err is what a peer did against the protocol.
func isBreach(err error) bool {
	_, _, is := breach(err)
	return is
}

// statusOf returns the status to answer a request with that is refused because of err.
func statusOf(err error) int {
	if status, _, is := breach(err); is {
		return status
	}
	return 400
}
