package model

import "time"

// ConnectionPool bounds what a client's proxy opens towards a host. It is the
// connectionPool of a TrafficPolicy; whatever is zero or nil is left to the mesh
// and to the proxy.
type ConnectionPool struct {
	ConnectTimeout time.Duration
	Keepalive      *TCPKeepalive

	// MaxConnections, MaxPending (requests that wait for a connection),
	// MaxRequests and MaxRetries are how many there may be at a time.
	MaxConnections, MaxPending, MaxRequests, MaxRetries uint32

	// MaxRequestsPerConnection is how many a connection serves in its life,
	// MaxStreams how many at a time (HTTP/2).
	MaxRequestsPerConnection, MaxStreams uint32
	// MaxAge is how long a connection lives.
	MaxAge time.Duration
	// TCPIdle and HTTPIdle are how long a connection stays on which nothing moves,
	// and one without requests. A TCPIdle of 0 is for ever.
	TCPIdle, HTTPIdle *time.Duration

	// HTTP2Ping asks the other end whether it is there.
	HTTP2Ping *HTTP2Ping
	// ClientProtocol speaks the HTTP version of the client to endpoints that are
	// declared to speak HTTP/2.
	ClientProtocol bool
}

// TCPKeepalive is when the kernel asks whether the other end of a silent
// connection is there. Zero leaves a value to the kernel.
type TCPKeepalive struct {
	// Probes without an answer end the connection.
	Probes uint32
	// Time of silence before the first, and Interval between them: whole seconds.
	Time, Interval time.Duration
}

// HTTP2Ping is when a PING frame is sent, and how long its answer may take.
type HTTP2Ping struct {
	Interval, Timeout time.Duration
}

// RetryBudget is how many retries there may be beside other requests. nil leaves a
// value to Envoy's default: 20 %, and 3 in any case.
type RetryBudget struct {
	Percent        *float64
	MinConcurrency *uint32
}

// Warmup brings an endpoint that is new up to its share of requests.
type Warmup struct {
	Window time.Duration
	// MinPercent is the share that it begins with, of its whole one: 10 by default.
	MinPercent *float64
	// Aggression bends the way up: 1, the default, is linear, more is sooner.
	Aggression *float64
}
