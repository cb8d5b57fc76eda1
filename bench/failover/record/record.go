// Package record is what a client of the failover bench notes of its requests,
// and how it hands that to the bench. It judges nothing.
package record

import (
	"encoding/gob"
	"io"
	"time"
)

// Request is one request, as its caller saw it.
type Request struct {
	// Due is when it had to be sent by the rate of the run, whether or not the
	// client was on time; Took counts from there.
	Due  time.Time
	Took time.Duration
	// Status is that of the answer, 0 where none came.
	Status int
	// By is who answered, "CLUSTER/POD"; empty where the application did not.
	By string
	// Why is how an answer that is no 200 begins, or the error where none came.
	Why string
}

// OK reports whether the request got the answer that it asked for.
func (r *Request) OK() bool { return r.Status == 200 }

// End is when the answer was there, or given up.
func (r *Request) End() time.Time { return r.Due.Add(r.Took) }

// Run is what a client sent in one run, by method.
type Run map[string][]Request

// Write hands a run over.
func (r Run) Write(w io.Writer) error { return gob.NewEncoder(w).Encode(r) }

// Read takes a run that Write wrote.
func Read(from io.Reader) (Run, error) {
	var r Run
	err := gob.NewDecoder(from).Decode(&r)
	return r, err
}

// Load is what a client is told to send.
type Load struct {
	// URL is what is asked; a POST has a body that no other has.
	URL string
	// Rates are requests per second, by method.
	Rates map[string]float64
	// Timeout is when the client gives a request up.
	Timeout time.Duration
}

// Recent is what the last answers of a running client looked like.
type Recent struct {
	Sent, Failed int
	// By counts the good answers by cluster.
	By map[string]int
}

// The ports of the program in the pods. What is under test goes to PortWork;
// PortControl is for the bench alone, past the sidecar.
const (
	PortWork    = 8080
	PortControl = 9000
)

// What a server does with the requests that it gets.
const (
	ModeAnswer = "answer"
	// ModeUnavailable answers every request with 503, and is as ready as before.
	ModeUnavailable = "unavailable"
)

// CountsDir is where servers note the bodies of POSTs that they have acted on:
// a directory of the node, which outlives every pod.
const CountsDir = "/var/lib/isthmus-bench-failover"

// Counts is how many requests a server has been given, since it started.
type Counts struct{ Get, Post int64 }
