package config

import "sync/atomic"

// RouteSlot holds the route configuration of one name as it changes over
// time. It is stable: who wants routes keeps the slot and loads from it per
// request. It is safe for concurrent use.
type RouteSlot struct {
	p atomic.Pointer[RouteConfig]
}

// Load returns the current configuration, nil until the first one came.
func (s *RouteSlot) Load() *RouteConfig { return s.p.Load() }

// Store replaces the configuration.
func (s *RouteSlot) Store(r *RouteConfig) { s.p.Store(r) }
