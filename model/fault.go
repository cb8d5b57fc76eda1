package model

import "time"

// HTTPFault is what some requests of a route suffer, on purpose: they are held up, or
// answered with an error in the service's stead, or both.
type HTTPFault struct {
	// Delay is how long DelayShare of the requests are held up.
	Delay      time.Duration
	DelayShare Share
	// AbortShare of the requests are answered with Status or, if ByGRPC is set, with
	// GRPCStatus.
	AbortShare Share
	Status     uint32
	ByGRPC     bool
	GRPCStatus uint32
}
