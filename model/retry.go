package model

import "time"

// RetryPolicy is when a request is tried again at another endpoint.
type RetryPolicy struct {
	// Attempts are those after the first; 0: none, whatever else is said.
	Attempts uint32
	// On are Envoy's conditions (x-envoy-retry-on, x-envoy-retry-grpc-on), and
	// Statuses the answers that count for retriable-status-codes. No conditions:
	// those that hold where nothing is configured.
	On       []string
	Statuses []uint32
	// PerTry bounds the time of one attempt; 0: the request's own.
	PerTry time.Duration
	// Backoff is the least pause between attempts; 0: Envoy's, 25 ms.
	Backoff time.Duration
	// OtherPlaces leaves the priorities that were tried, OtherEndpoints the
	// endpoints, where a proxy does not do so by itself.
	OtherPlaces, OtherEndpoints bool
}
