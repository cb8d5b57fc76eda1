package serve

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"
)

// A proxy is sent away shedTimes times within shedWithin at most. By chance it may
// come back to the same replica; where the way is not a matter of chance, as behind
// a load balancer that goes by addresses, it does so each time.
const (
	shedTimes  = 3
	shedWithin = 10 * time.Minute
)

// sheds tells how often a proxy was sent away.
type sheds struct {
	first time.Time
	times int
}

// Streams tells how many proxies are connected.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Shed ends up to n streams in good order, so that their proxies connect anew,
// perhaps to another replica: of those that were sent away the fewest times the
// oldest, and none of a proxy that was so three times within ten minutes. It tells
// how many those are. The proxies of the mesh open a connection for each stream; an
// Envoy opens another stream on the connection that it has, and so stays until that
// is old.
func (s *Server) Shed(n int) int {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, was := range s.shed {
		if now.Sub(was.first) >= shedWithin {
			delete(s.shed, id)
		}
	}

	chosen := s.nextLocked(n, shedTimes)
	for _, st := range chosen {
		was, before := s.shed[st.node.ID.String()]
		if !before {
			was.first = now
		}
		was.times++
		s.shed[st.node.ID.String()] = was
		st.leaveLocked()
	}
	s.metrics.shed.Add(float64(len(chosen)))
	return len(chosen)
}

// nextLocked gives up to n streams that are not asked to end yet, of proxies that
// were sent away less often than most.
func (s *Server) nextLocked(n, most int) []*stream {
	type candidate struct {
		*stream
		id    string
		times int
	}
	var all []candidate
	for st := range s.streams {
		id := st.node.ID.String()
		if times := s.shed[id].times; !st.leaving && times < most {
			all = append(all, candidate{st, id, times})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.times, b.times), a.connected.Compare(b.connected), cmp.Compare(a.id, b.id))
	})

	var out []*stream
	for _, c := range all[:min(n, len(all))] {
		out = append(out, c.stream)
	}
	return out
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
		left := s.nextLocked(len(s.streams), math.MaxInt)
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
