// Package exchange decides about a request: which route it takes, whether it goes to an endpoint, to another one, or
// is answered here, for how long, and what the proxy itself says in its header fields.
//
// It is written as a value that is stepped, in the manner of a consensus core: an engine reports what happened
// (Begin, Connected, Failed, Answered, ...) and is told what to do next (a Verdict). There are no sockets here, no
// goroutines and no clock; times are handed in. Two reasons chose the shape. The HTTP/1 engine is a goroutine that
// blocks, the HTTP/2 engine a set of callbacks: a function that calls back into either would fit only one of them,
// while both can ask what comes next. And a rule about retries is then tested as what it is, a sequence of events
// (testdata/*.txt), not as a race of connections.
//
// The engines keep bytes, flow control and pools, and do as they are told. An Exchange is used by one goroutine at a
// time.
package exchange
