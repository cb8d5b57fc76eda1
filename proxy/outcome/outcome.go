// Package outcome names what became of a request or a connection: Envoy's response flags, which access logs and
// metrics carry, and the figures that go with them.
package outcome

import (
	"strings"
	"time"
)

// Flag says what went wrong with a request, under Envoy's response flags.
type Flag uint8

// The flags. None is logged as "-".
const (
	None               Flag = iota
	UpstreamFailure         // UF: the connection to the endpoint failed
	NoHealthyUpstream       // UH: the cluster has no endpoint to offer
	UpstreamTerminated      // UC: the endpoint ended the connection
	UpstreamReset           // UR: the endpoint reset the stream
	UpstreamProtocol        // UPE: the endpoint broke the protocol
	UpstreamTimeout         // UT: no response in time
	UpstreamOverflow        // UO: a limit of the cluster, or its retry budget, is used up
	NoRoute                 // NR: no route matches
	NoCluster               // NC: the route names a cluster that does not exist
	DownstreamClosed        // DC: the caller went away
	DownstreamProtocol      // DPE: the caller broke the protocol
	DurationTimeout         // DT: the connection was older than it may become
)

// FaultInjected (FI) stands with requests that a fault of their route answered.
const FaultInjected Flag = DurationTimeout + 1

// StreamIdle (SI) stands with requests on which nothing moved for as long as the configuration allows.
const StreamIdle Flag = FaultInjected + 1

// DelayInjected (DI) is set beside another flag, or alone: a fault of the route held the request up.
const DelayInjected Flag = 0x40

// RetryLimit (URX) is set beside another flag, or alone: another endpoint would have been asked, but as many were as
// may be.
const RetryLimit Flag = 0x80

// String returns Envoy's abbreviations, in Envoy's order and form: "UF,URX".
func (f Flag) String() string {
	limit, delay := f&RetryLimit != 0, f&DelayInjected != 0
	f &^= RetryLimit | DelayInjected
	if !limit && !delay {
		return f.name()
	}

	var list []string
	add := func(is bool, name string) {
		if is {
			list = append(list, name)
		}
	}
	late := f == StreamIdle || f == UpstreamProtocol || f == NoCluster || f == DurationTimeout || f == DownstreamProtocol
	beforeDelay := f != None && !late && f != FaultInjected && f != DownstreamClosed
	add(beforeDelay, f.name())
	add(delay, "DI")
	add(f == FaultInjected || f == DownstreamClosed, f.name())
	add(limit, "URX")
	add(late, f.name())
	return strings.Join(list, ",")
}

func (f Flag) name() string {
	switch f {
	case UpstreamFailure:
		return "UF"
	case NoHealthyUpstream:
		return "UH"
	case UpstreamTerminated:
		return "UC"
	case UpstreamReset:
		return "UR"
	case UpstreamProtocol:
		return "UPE"
	case UpstreamTimeout:
		return "UT"
	case UpstreamOverflow:
		return "UO"
	case NoRoute:
		return "NR"
	case NoCluster:
		return "NC"
	case DownstreamClosed:
		return "DC"
	case DownstreamProtocol:
		return "DPE"
	case DurationTimeout:
		return "DT"
	case FaultInjected:
		return "FI"
	case StreamIdle:
		return "SI"
	}
	return "-"
}

// NoGRPCStatus is the Request.GRPC of a request that is not gRPC or ended without a status.
const NoGRPCStatus = -1

// Request is what became of one HTTP request.
type Request struct {
	Code     int // HTTP status; 0 when no response was sent
	Flag     Flag
	Details  string // Envoy's response code details, where one of its filters refused the request; else empty
	GRPC     int    // grpc-status or NoGRPCStatus
	Duration time.Duration
	Received int64 // request body bytes
	Sent     int64 // response body bytes
}
