// Package load sends requests over many connections from one thread, at a cost
// of a few microseconds each, so that the proxy under test and not the client is
// what the machine is busy with.
//
// A run is closed (each connection sends its next request when the last one is
// answered: saturation) or open (requests are due at a fixed rate, whatever
// became of the earlier ones; the time that a request waited for a free
// connection counts, so a stall is not hidden). It speaks HTTP/1.1, HTTP/2
// with prior knowledge, and unary gRPC; it sends one request over and over and
// checks every answer. It is no general client.
package load

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// The protocols that can be spoken.
const (
	HTTP1 = "http1"
	HTTP2 = "http2"
	GRPC  = "grpc"
)

// Spec says what to send, where to, and for how long.
type Spec struct {
	Protocol  string
	Target    netip.AddrPort
	Authority string
	// Path is the path of HTTP requests and the full method of gRPC calls.
	Path string
	// Body is the request's; a gRPC message without its five-byte prefix. An
	// HTTP request without one is a GET.
	Body []byte
	// WantBody is the exact size of the answer's body, gRPC prefixes included.
	WantBody int

	Conns int
	// Streams is the number of requests in flight on a connection; HTTP/1.1
	// has one.
	Streams int
	// Rate is requests per second; 0 is a closed run.
	Rate     float64
	Warmup   time.Duration
	Duration time.Duration
	// AtStart and AtEnd are called at the two ends of the measured time.
	AtStart, AtEnd func() error
}

// Result is what was seen in the measured time.
type Result struct {
	Requests int64
	// Total counts the warm-up too.
	Total   int64
	Elapsed time.Duration
	// Latencies are sorted. A closed run keeps none.
	Latencies []time.Duration
}

// Rate is answered requests per second.
func (r *Result) Rate() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Quantile gives the latency that the share q of requests did not exceed.
func (r *Result) Quantile(q float64) time.Duration {
	if len(r.Latencies) == 0 {
		return 0
	}
	i := min(int(q*float64(len(r.Latencies))), len(r.Latencies)-1)
	return r.Latencies[i]
}

// session speaks one protocol on one connection; it holds no socket.
type session interface {
	// hello is what is sent first, before any request.
	hello() []byte
	// free is how many more requests can be sent now.
	free() int
	// request appends a request to out. due is handed back by input.
	request(out []byte, due time.Duration) []byte
	// input takes bytes from the server, calls done with the due time of each
	// answered request, and returns out with what must be sent back appended.
	input(data, out []byte, done func(due time.Duration)) ([]byte, error)
}

// Run sends until the time is over. It uses the calling thread alone, so the
// sockets belong to that thread's network namespace. A wrong answer, or a
// connection that ends, is an error.
func Run(spec Spec) (*Result, error) {
	e, err := newEngine(spec)
	if err != nil {
		return nil, err
	}
	defer e.close()
	if err := e.connect(); err != nil {
		return nil, err
	}
	res, err := e.run()
	if err != nil {
		return nil, fmt.Errorf("%s to %s: %w", spec.Protocol, spec.Target, err)
	}
	slices.Sort(res.Latencies)
	return res, nil
}

func newSession(spec *Spec) (session, error) {
	switch spec.Protocol {
	case HTTP1:
		return newHTTP1(spec), nil
	case HTTP2, GRPC:
		return newHTTP2(spec)
	}
	return nil, fmt.Errorf("unknown protocol %q", spec.Protocol)
}

// Idle is a set of open connections, each of which has carried one request.
type Idle struct{ e *engine }

// Hold opens spec.Conns connections, sends one request on each, and leaves
// them open.
func Hold(spec Spec) (*Idle, error) {
	e, err := newEngine(spec)
	if err != nil {
		return nil, err
	}
	if err = e.connect(); err == nil {
		err = e.once()
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return &Idle{e}, nil
}

// Close closes the connections.
func (i *Idle) Close() { i.e.close() }

var errClosed = errors.New("the server closed a connection")
