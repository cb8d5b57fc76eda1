package upstream

import "sync/atomic"

// stats counts what became of a cluster's endpoints and of retries.
type stats struct {
	ejections atomic.Int64 // so far
	retries   atomic.Int64 // so far
	overflows atomic.Int64 // retries that the budget refused
	refused   atomic.Int64 // requests that a limit refused
}

// Stats are what metrics say of a cluster.
type Stats struct {
	Ejected   int   // now
	Ejections int64 // so far
	Retries   int64 // so far
	Overflows int64 // retries that the budget refused
	Refused   int64 // requests that a limit refused
	Panic     bool  // a priority is used whole, although too little of it is healthy
}

// Stats returns what happened so far.
func (c *Cluster) Stats() Stats {
	s := Stats{
		Ejections: c.stats.ejections.Load(), Retries: c.stats.retries.Load(), Overflows: c.stats.overflows.Load(),
		Refused: c.stats.refused.Load(),
		Panic:   c.table.Load().panic,
	}
	if s.Ejections == 0 {
		return s // most clusters, most of the time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.known {
		if e.health.ejected.Load() {
			s.Ejected++
		}
	}
	return s
}
