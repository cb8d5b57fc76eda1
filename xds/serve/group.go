package serve

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/xds"
)

// group is all streams that have one View, and what was built for them. Its
// feeds' watchers mark changes; its one publisher collects them, asks the View
// anew, and wakes all streams at once.
type group struct {
	srv  *Server
	view View
	key  string
	refs int // streams; under Server.mu

	mu     sync.Mutex
	feeds  map[feedKey]*feed
	dirty  map[*feed]time.Time // and when the first change was noticed
	round  chan struct{}       // closed when new snapshots are out
	wakeUp chan struct{}       // capacity 1: dirty is not empty
	gone   chan struct{}       // closed when the last stream has left
}

type feedKey struct {
	typeURL string
	names   nameKey
}

// feed is one type and set of names of a View. Streams that subscribe alike
// share it.
type feed struct {
	key   feedKey
	names *nameSet
	refs  int // under group.mu

	ready chan struct{} // closed when the first snapshot is there, or err
	err   error

	cur     *snapshot              // under group.mu
	renewed chan (<-chan struct{}) // capacity 1: the next channel to watch
	gone    chan struct{}          // closed when the last stream has left
}

func newGroup(srv *Server, v View) *group {
	g := &group{
		srv: srv, view: v, key: v.Key(),
		feeds: make(map[feedKey]*feed), dirty: make(map[*feed]time.Time),
		round: make(chan struct{}), wakeUp: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	srv.spawn(g.publish)
	return g
}

// next is closed when streams should look for new snapshots.
func (g *group) next() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.round
}

// current is a feed's snapshot.
func (g *group) current(f *feed) *snapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	return f.cur
}

// take gives the feed for a type and set of names, known by key and built by
// names when it is new. Each take wants a release.
func (g *group) take(typeURL string, key nameKey, names func() *nameSet) (*feed, error) {
	k := feedKey{typeURL, key}
	g.mu.Lock()
	f := g.feeds[k]
	if f != nil {
		f.refs++
		g.mu.Unlock()
		<-f.ready
		if f.err != nil {
			g.release(f)
			return nil, f.err
		}
		return f, nil
	}
	f = &feed{key: k, refs: 1, ready: make(chan struct{}), gone: make(chan struct{}), renewed: make(chan (<-chan struct{}), 1)}
	g.feeds[k] = f
	g.mu.Unlock()

	f.names = names()
	res, changed, err := g.view.Resources(typeURL, f.names.sorted)
	if err != nil {
		f.err = fmt.Errorf("build %s for view %s: %w", xds.Short(typeURL), g.key, err)
		g.mu.Lock()
		delete(g.feeds, k) // the next stream tries again
		g.mu.Unlock()
		close(f.ready)
		return nil, f.err
	}
	g.mu.Lock()
	f.cur = g.srv.newSnapshot(f.names, res, time.Now())
	g.mu.Unlock()
	g.srv.spawn(func() { g.watch(f, changed) })
	close(f.ready)
	return f, nil
}

// release gives a feed back. The last one ends its watcher.
func (g *group) release(f *feed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.refs--
	if f.refs > 0 || f.err != nil {
		return
	}
	if g.feeds[f.key] == f {
		delete(g.feeds, f.key)
	}
	delete(g.dirty, f)
	close(f.gone)
}

// watch marks the feed at each change, until it is gone.
func (g *group) watch(f *feed, changed <-chan struct{}) {
	for {
		select {
		case <-changed:
		case <-f.gone:
			return
		case <-g.srv.stop:
			return
		}
		g.mark(f)
		select {
		case changed = <-f.renewed:
		case <-f.gone:
			return
		case <-g.srv.stop:
			return
		}
	}
}

func (g *group) mark(f *feed) {
	g.mu.Lock()
	if _, ok := g.dirty[f]; !ok {
		g.dirty[f] = time.Now()
	}
	g.mu.Unlock()
	select {
	case g.wakeUp <- struct{}{}:
	default:
	}
}

// publish renews marked feeds, round by round. A first change waits for
// Quiet; rounds that follow each other closely wait longer and longer, up to
// MaxWait, so that a rolling restart is not pushed pod by pod.
func (g *group) publish() {
	wait := g.srv.cfg.Quiet
	var last time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-g.wakeUp:
		case <-g.gone:
			return
		case <-g.srv.stop:
			return
		}

		if time.Since(last) < 2*wait {
			wait = min(2*wait, g.srv.cfg.MaxWait)
		} else {
			wait = g.srv.cfg.Quiet
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-g.gone:
			return
		case <-g.srv.stop:
			return
		}

		if g.renewAll() {
			last = time.Now()
		}
	}
}

// renewAll asks the View for each marked feed, and wakes the streams if any
// answer is another one. What is pushed last is asked first: a cluster list is
// then never older than a listener that names one of its clusters. It tells
// whether there was anything to do.
func (g *group) renewAll() bool {
	g.mu.Lock()
	work := make([]*feed, 0, len(g.dirty))
	since := make(map[*feed]time.Time, len(g.dirty))
	for f, at := range g.dirty {
		work = append(work, f)
		since[f] = at
	}
	clear(g.dirty)
	g.mu.Unlock()
	if len(work) == 0 {
		// The feeds that were marked have been given back since.
		return false
	}

	slices.SortFunc(work, func(a, b *feed) int { return xds.Rank(b.key.typeURL) - xds.Rank(a.key.typeURL) })

	// Without the lock: the View may take its time, and streams go on with
	// what they have meanwhile.
	fresh := make(map[*feed]*snapshot, len(work))
	for _, f := range work {
		if s := g.renew(f, since[f]); s != nil {
			fresh[f] = s
		}
	}
	if len(fresh) == 0 {
		return true
	}

	// All at once, so that a stream that wakes sees all types at one state.
	g.mu.Lock()
	for f, s := range fresh {
		f.cur = s
	}
	close(g.round)
	g.round = make(chan struct{})
	g.mu.Unlock()
	return true
}

// renew asks the View for one feed. It gives nil when nothing is different. On
// an error the old state stays, and the View is asked again a second later.
func (g *group) renew(f *feed, since time.Time) *snapshot {
	res, changed, err := g.view.Resources(f.key.typeURL, f.names.sorted)
	if err != nil {
		g.srv.cfg.Logger.Error("cannot build resources; proxies keep what they have",
			"type", xds.Short(f.key.typeURL), "view", g.key, "error", err)
		retry := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(retry) })
		f.renewed <- retry
		return nil
	}

	f.renewed <- changed
	old := g.current(f)
	news, gone := res.since(old.res)
	if len(news)+len(gone) == 0 {
		return nil
	}
	next := g.srv.newSnapshot(f.names, res, since)
	next.step = &step{from: old.id, changed: news, removed: gone}
	return next
}
