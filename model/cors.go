package model

import "time"

// CORSPolicy is which pages of other origins browsers let call a service
// (https://fetch.spec.whatwg.org/#http-cors-protocol).
type CORSPolicy struct {
	Origins []StringMatch
	// Methods, Headers and Exposed are lists for header fields.
	Methods, Headers, Exposed string
	// MaxAge is for how long browsers may remember a preflight; negative: not said.
	MaxAge time.Duration
	// Credentials is whether calls may carry some; nil: not said.
	Credentials *bool
	// KeepPreflights answers preflights of other origins here; they are not forwarded.
	KeepPreflights bool
}
