package model

// Share is a part of all requests, in millionths, the finest that Envoy draws
// (FractionalPercent).
type Share uint32

// Whole is the share of all requests.
const Whole Share = 1_000_000

// PercentShare is a percentage as a share, without what is finer.
func PercentShare(percent float64) Share { return Share(percent * float64(Whole) / 100) }
