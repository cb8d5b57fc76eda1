package model

import (
	"slices"
	"time"
)

// ConsistentHash is the consistentHash of a loadBalancer: requests that are alike in one
// thing go to the same endpoint, for as long as it is there.
type ConsistentHash struct {
	// One of these is set: what requests are told apart by.
	Header   string
	Query    string
	Cookie   *HashCookie
	SourceIP bool

	// Maglev asks for its table in place of a ring.
	Maglev bool
	// Size is how many places the table has, or the ring at least; 0: the default.
	Size uint64
}

// HashCookie is a cookie that requests are told apart by.
type HashCookie struct {
	Name, Path string
	// Generate has the proxy set the cookie where a request has none, for TTL; 0: until
	// the browser ends.
	Generate   bool
	TTL        time.Duration
	Attributes []CookieAttribute
}

// CookieAttribute is one more attribute of a cookie that the proxy sets; without a value
// it is a name alone, as Secure.
type CookieAttribute struct{ Name, Value string }

// SameKey tells whether both tell requests apart by the same thing.
func (h *ConsistentHash) SameKey(o *ConsistentHash) bool {
	if h.Header != o.Header || h.Query != o.Query || h.SourceIP != o.SourceIP {
		return false
	}
	if h.Cookie == nil || o.Cookie == nil {
		return h.Cookie == o.Cookie
	}
	a, b := h.Cookie, o.Cookie
	return a.Name == b.Name && a.Path == b.Path && a.Generate == b.Generate && a.TTL == b.TTL &&
		slices.Equal(a.Attributes, b.Attributes)
}
