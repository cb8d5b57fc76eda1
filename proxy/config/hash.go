package config

import "time"

// HashPolicy is envoy.config.route.v3.RouteAction.HashPolicy: one thing of a request that
// is hashed. One of the fields before Terminal is set.
type HashPolicy struct {
	Header   string // lower case
	Cookie   *HashCookie
	Query    string
	SourceIP bool
	// Terminal says that what comes after it counts only where this gave no hash.
	Terminal bool
}

// HashCookie is RouteAction.HashPolicy.Cookie.
type HashCookie struct {
	Name, Path string
	// Generate says that a cookie is set where there is none, for TTL; 0: until the
	// browser ends.
	Generate   bool
	TTL        time.Duration
	Attributes []CookieAttribute
}

// CookieAttribute is one that a cookie gets that is set; a name alone has no value.
type CookieAttribute struct{ Name, Value string }

// HashTable is how a hash finds an endpoint (ring_hash_lb_config, maglev_lb_config).
type HashTable struct {
	// MinRing and MaxRing bound the places of a ring, Maglev is how many a Maglev table
	// has.
	MinRing, MaxRing uint64
	Maglev           uint64
}
