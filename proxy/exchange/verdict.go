package exchange

import "time"

// Action is what an engine does next.
type Action uint8

const (
	// Pick an endpoint that was not avoided so far and connect to it; then say Connected, Failed or NoEndpoint.
	Pick Action = iota
	// Another endpoint is to answer instead, if there is one: give this answer up and go on as for Pick, else say
	// NoOther.
	Another
	// Send the request; then say Answered or Failed.
	Send
	// Pass the answer on.
	Pass
	// Reply with Verdict.Answer in the endpoint's place.
	Reply
	// Break off: the caller gets no answer, and needs none.
	Break
	// Delay the request by Verdict.For, unless the caller goes away; then say Delayed.
	Delay
)

// String names the action for transcripts.
func (a Action) String() string {
	return [...]string{"pick", "another", "send", "pass", "reply", "break", "delay"}[a]
}

// Verdict is what to do next, and what to remember of the try that led to it.
type Verdict struct {
	Do Action
	// For is how long a Delay takes.
	For time.Duration
	// Wait says that a pause of up to so long, at random, comes first: endpoints that refuse because they are busy
	// must not get all of it back at once.
	Wait time.Duration
	// Fresh asks for a connection that no request has used yet, Anew for such a one if the endpoint is again that of the
	// last try.
	Fresh, Anew bool
	// Avoid the endpoint of the last try from now on.
	Avoid bool
	// Blame says that the last try counts against its endpoint.
	Blame bool
	// Again says that the endpoint avoided did answer: if it stands for others, it may be asked once more when there
	// is nothing else.
	Again bool
	// Leave says that it is time to leave the priorities of the endpoints that were asked.
	Leave bool
	// Budget says that the retry may load endpoints with what they have had already, so that it is to be taken from
	// the budget of the cluster. When that is used up, say Overdrawn for Pick, NoBudget for Another.
	Budget bool
	// Answer is set with Reply.
	Answer *Answer
}

// Cause is why a try brought no answer.
type Cause uint8

const (
	// Unreachable: no connection came about.
	Unreachable Cause = iota + 1
	// NotSent: the endpoint took nothing of the request, and certainly did not work on it: its connection was over
	// before, or it refused the stream (RFC 9113 section 8.7).
	NotSent
	// Ended: the connection ended before a byte of an answer.
	Ended
	// Lost: the connection is dead; its other end gives no sign of life. It may have got the request or not.
	Lost
	// BrokeOff: the connection ended, or the stream was reset, within an answer's head.
	BrokeOff
	// Reset: the endpoint reset the stream before it answered.
	Reset
	// Cancelled: it did so with CANCEL, as when a deadline strikes there that the caller has set.
	Cancelled
	// Malformed: the endpoint broke the protocol; another try would bring the same.
	Malformed
	// Silent: the time for this try is over.
	Silent
	// Late: the time for the whole request is over.
	Late
	// Idle: nothing has moved on the request for as long as the configuration allows, whoever was to move it.
	Idle
	// unwanted: it answered, and the route's retry policy does not take the answer.
	unwanted
)

// Failure is a try that brought no answer.
type Failure struct {
	Cause Cause
	// Err is told to the caller.
	Err error
	// Endpoint is its address, for the caller too; empty when none was picked.
	Endpoint string
	// Reused says that the connection had served other requests: that it is over says nothing of the endpoint.
	Reused bool
	// BodyAtHand says that the whole request can be sent again.
	BodyAtHand bool
}

// Head is the head of a final answer, as far as it matters here.
type Head struct {
	Status int
	GRPC   int // grpc-status if the answer ends with its head, else outcome.NoGRPCStatus
	// Failed is the field x-isthmus-failed, "" unless the endpoint proved who it is.
	Failed     string
	BodyAtHand bool
}
