package config

import (
	"math"
	"time"
)

// NoLimit stands for a limit that was not given. Istio's discovery sends it, too,
// because Envoy has limits of its own where none is given.
const NoLimit = math.MaxUint32

// Limits is envoy.config.cluster.v3.CircuitBreakers.Thresholds of the default
// priority. 0 lets nothing through, NoLimit everything.
type Limits struct {
	Connections uint32 // to all endpoints of the cluster together
	Pending     uint32 // requests that wait for a connection
	Requests    uint32 // under way
	Retries     uint32 // under way; where Budget is given, that counts in its place
	Budget      *RetryBudget
}

// RetryBudget is CircuitBreakers.Thresholds.RetryBudget: so many retries may be
// under way as are Percent of the requests that are, and MinConcurrency in any
// case.
type RetryBudget struct {
	Percent        float64
	MinConcurrency uint32
}

// Balance is how load is shared between endpoints, beside Cluster.LB.
type Balance struct {
	// PanicPercent is the share of healthy endpoints below which a priority is
	// used whole, those that are left out included; 0: never.
	PanicPercent float64
	// LocalityWeights says that the weights of localities decide how much each
	// gets (locality_weighted_lb_config), and not the number of its endpoints.
	LocalityWeights bool
	// SlowStart lets endpoints that are new, or are back, begin with a part of
	// their share; nil: they get all of it at once.
	SlowStart *SlowStart
	// PeakEWMA prefers endpoints by how quickly they answered of late (metadata
	// isthmus: {peak_ewma: true}); without it, Envoy takes Cluster.LB.
	PeakEWMA bool
	// Hash counts for LBRingHash and LBMaglev.
	Hash HashTable
}

// SlowStart is envoy.config.cluster.v3.Cluster.SlowStartConfig: in Window an
// endpoint's share grows from MinPercent to the whole, by the elapsed part of
// Window to the power of 1/Aggression.
type SlowStart struct {
	Window     time.Duration
	Aggression float64 // above 0; 1: in a straight line
	MinPercent float64
}
