package upstream

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// originalDst keeps the endpoints of an ORIGINAL_DST cluster: one per address
// that callers wanted to go to, for as long as it is used.
type originalDst struct {
	cluster *Cluster
	last    atomic.Pointer[Endpoint] // inbound clusters have only one
	mu      sync.RWMutex
	byAddr  map[netip.AddrPort]*Endpoint
	stopped bool
}

func newOriginalDst(c *Cluster) *originalDst {
	o := &originalDst{cluster: c, byAddr: map[netip.AddrPort]*Endpoint{}}
	c.set.sweeper.add(o)
	return o
}

func (o *originalDst) pick(h Hint) (*Endpoint, error) {
	if !h.OriginalDst.IsValid() {
		return nil, &PickError{Cluster: o.cluster.name, Msg: "the connection has no original destination"}
	}
	if len(h.Tried) > 0 {
		return nil, &PickError{Cluster: o.cluster.name, Msg: "the original destination was tried"}
	}

	dst := h.OriginalDst
	if p := o.cluster.Config().DestinationPort; p != 0 {
		dst = netip.AddrPortFrom(dst.Addr(), p)
	}

	// The time is in seconds, so that most picks only read it.
	e := o.find(dst)
	if now := o.cluster.set.sweeper.now(); e.used.Load() != now {
		e.used.Store(now)
	}
	return e, nil
}

func (o *originalDst) find(dst netip.AddrPort) *Endpoint {
	if e := o.last.Load(); e != nil && e.addr == dst && !e.Retired() {
		return e
	}

	o.mu.RLock()
	e := o.byAddr[dst]
	o.mu.RUnlock()

	if e == nil {
		e = o.make(dst)
	}
	o.last.Store(e)
	return e
}

func (o *originalDst) make(dst netip.AddrPort) *Endpoint {
	o.mu.Lock()
	defer o.mu.Unlock()

	if e := o.byAddr[dst]; e != nil {
		return e
	}

	e := newEndpoint(o.cluster, &config.Endpoint{Addr: dst.Addr(), Port: dst.Port(), Weight: 1, Healthy: true})
	e.used.Store(o.cluster.set.sweeper.now())
	if o.stopped {
		e.retire() // usable once, but nothing is kept at it
		return e
	}
	o.byAddr[dst] = e
	return e
}

func (o *originalDst) all() []*Endpoint {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return slices.Collect(maps.Values(o.byAddr))
}

// sweep drops endpoints that were not picked since before and are not in use.
func (o *originalDst) sweep(before int64) {
	o.drop(func(e *Endpoint) bool { return e.used.Load() < before && e.Active() == 0 })
}

func (o *originalDst) stop() {
	o.cluster.set.sweeper.remove(o)
	o.mu.Lock()
	o.stopped = true
	o.mu.Unlock()
	o.drop(func(*Endpoint) bool { return true })
}

func (o *originalDst) drop(which func(*Endpoint) bool) {
	var gone []*Endpoint
	o.mu.Lock()
	for k, e := range o.byAddr {
		if which(e) {
			delete(o.byAddr, k)
			gone = append(gone, e)
		}
	}
	o.mu.Unlock()

	for _, e := range gone {
		e.retire()
	}
}

// sweeper drops unused endpoints of ORIGINAL_DST clusters now and then.
type sweeper struct {
	idle  time.Duration // how long an endpoint may be unused
	start time.Time

	mu  sync.Mutex // guards all
	all map[*originalDst]bool

	done  chan struct{} // closed by stop
	ended chan struct{} // closed when the goroutine has ended
	once  sync.Once     // guards the close of done
}

func newSweeper(idle time.Duration) *sweeper {
	s := &sweeper{
		idle: idle, start: time.Now(), all: map[*originalDst]bool{},
		done: make(chan struct{}), ended: make(chan struct{}),
	}
	go s.run()
	return s
}

// now is in seconds since the sweeper started.
func (s *sweeper) now() int64 { return int64(time.Since(s.start) / time.Second) }

func (s *sweeper) run() {
	defer close(s.ended)
	t := time.NewTicker(s.idle / 2)
	defer t.Stop()

	for {
		select {
		case <-s.done:
			return
		case <-t.C:
			s.sweep()
		}
	}
}

// sweep drops what was not used of late. It does so without the lock: an
// endpoint that retires closes connections, and new clusters must not wait for
// that.
func (s *sweeper) sweep() {
	s.mu.Lock()
	list := slices.Collect(maps.Keys(s.all))
	s.mu.Unlock()

	before := s.now() - int64(s.idle/time.Second)
	for _, o := range list {
		o.sweep(before)
	}
}

func (s *sweeper) add(o *originalDst) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[o] = true
}

func (s *sweeper) remove(o *originalDst) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, o)
}

func (s *sweeper) stop() {
	s.once.Do(func() { close(s.done) })
	<-s.ended
}
