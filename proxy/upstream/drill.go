package upstream

import "errors"

// ErrDrill is why an endpoint is not reached that is failed on purpose.
var ErrDrill = errors.New("the endpoint is failed on purpose, by a drill")

// Fail makes endpoints unreachable that a test holds for, as if their hosts had gone:
// connections to them are refused from now on, those of users and those that find out
// whether an endpoint is back, and pooled ones end as soon as nothing uses them. What
// is under way goes on. Nil makes all of them reachable again. The test is called from
// many goroutines, for each connection that is opened.
func (s *Set) Fail(which func(*Endpoint) bool) {
	if which == nil {
		s.failed.Store(nil)
		return
	}
	s.failed.Store(&which)
	s.All(func(c *Cluster) {
		for _, e := range c.Endpoints() {
			if which(e) {
				e.hangUp()
			}
		}
	})
}

// Survives tells of each cluster with endpoints that a test holds for whether another
// one is left there that is in use.
func (s *Set) Survives(which func(*Endpoint) bool) map[string]bool {
	out := map[string]bool{}
	s.All(func(c *Cluster) {
		hit, left := false, false
		for _, e := range c.States() {
			if which(e.Endpoint) {
				hit = true
			} else if !e.Ejected() && !e.Unhealthy && !e.Doubted {
				left = true
			}
		}
		if hit {
			out[c.name] = left
		}
	})
	return out
}

// hangUp ends the connections of an endpoint that are kept for later; those that come
// are other ones.
func (e *Endpoint) hangUp() {
	e.mu.Lock()
	p := e.attach.Swap(nil)
	gone := e.retired.Load()
	e.mu.Unlock()
	if p != nil && !gone {
		(*p).Retire()
	}
}

// drilled tells whether the endpoint is failed on purpose.
func (e *Endpoint) drilled() bool {
	which := e.cluster.set.failed.Load()
	return which != nil && (*which)(e)
}
