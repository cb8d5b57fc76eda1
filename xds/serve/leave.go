package serve

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// shedAgain is how long a proxy that was sent away is not sent away again. Where
// the way to the replicas is not a matter of chance, as behind a load balancer that
// goes by addresses, it comes back to the same one each time.
const shedAgain = 10 * time.Minute

// Streams tells how many proxies are connected.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Shed ends up to n streams in good order, so that their proxies connect anew,
// perhaps to another replica: the oldest, and none of a proxy that was sent away
// within the last ten minutes. It tells how many those are. The proxies of the mesh
// open a connection for each stream; an Envoy opens another stream on the
// connection that it has, and so stays until that is old.
func (s *Server) Shed(n int) int {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, at := range s.shed {
		if now.Sub(at) >= shedAgain {
			delete(s.shed, id)
		}
	}

	chosen := s.oldestLocked(n, func(st *stream) bool {
		_, before := s.shed[st.node.ID.String()]
		return !before
	})
	for _, st := range chosen {
		s.shed[st.node.ID.String()] = now
		st.leaveLocked()
	}
	return len(chosen)
}

// oldestLocked gives up to n streams that are not asked to end yet.
func (s *Server) oldestLocked(n int, fits func(*stream) bool) []*stream {
	var all []*stream
	for st := range s.streams {
		if !st.leaving && fits(st) {
			all = append(all, st)
		}
	}
	slices.SortFunc(all, func(a, b *stream) int {
		return cmp.Or(a.connected.Compare(b.connected), cmp.Compare(a.node.ID.String(), b.node.ID.String()))
	})
	return all[:min(n, len(all))]
}

// leaveLocked asks a stream to end.
func (st *stream) leaveLocked() {
	st.leaving = true
	close(st.leave)
}

// farewellStep is the time between two steps of farewell.
const farewellStep = 50 * time.Millisecond

// farewell ends all streams, evenly over Config.Farewell: each costs another replica
// a TLS handshake, and a whole fleet that came at once would wait for its turn.
func (s *Server) farewell() {
	steps := int(s.cfg.Farewell / farewellStep)
	tick := time.NewTicker(farewellStep)
	defer tick.Stop()
	for ; steps > 0; steps-- {
		s.mu.Lock()
		left := s.oldestLocked(len(s.streams), func(*stream) bool { return true })
		for _, st := range left[:(len(left)+steps-1)/steps] {
			st.leaveLocked()
		}
		s.mu.Unlock()
		if len(left) == 0 {
			return
		}
		<-tick.C
	}
}

// Run serves until ctx ends. Then it takes no further streams, ends those that
// there are over Config.Farewell, and what is left with code Unavailable, so that
// proxies go to another replica; and waits for its own goroutines. It is called
// once; streams that come before it wait for nothing.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.stopping.Store(true)
	s.farewell()

	s.life.Lock()
	s.stopped = true
	s.life.Unlock()
	close(s.stop)
	s.wg.Wait()
	return nil
}
