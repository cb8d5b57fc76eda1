package clusters

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/wake"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
)

// member is one cluster for as long as a Secret names it.
//
// At most two readings of it are under way: the serving one, whose rows are in
// the Store, and the next one, which takes over when it has read everything. The
// serving one ends when the API server falls silent, and the next one begins.
type member struct {
	id     model.ClusterID
	set    *Set
	log    *slog.Logger
	news   wake.Signal // the candidate is another, or a reading has ended
	cancel context.CancelFunc
	done   chan struct{}
	// reached closes when it is known what the start of the control plane may
	// go by: the cluster is read, or cannot be reached and its last known rows
	// are in the Store, if there were any.
	reached     chan struct{}
	reachedOnce sync.Once

	mu        sync.Mutex
	candidate candidate // by which the cluster is to be read
	current   *access   // by which next, or else serving, reads it
	serving   *reading
	next      *reading
	// read tells that this process has read the cluster once; sought, that it
	// was looked for a last state.
	read, sought bool
	since        time.Time // of the state that the member is in
	lastErr      error     // of the last attempt to reach the server
	told         string    // of which an Event was last made
	// rejected says why the Secret as it is now does not count. The cluster is
	// read as it said before.
	rejected   string
	notRenewed error // of the last attempt to renew the token
}

func newMember(s *Set, c candidate) *member {
	return &member{
		id: c.cluster, set: s, log: s.log.With("cluster", string(c.cluster)),
		news: wake.NewSignal(), done: make(chan struct{}), reached: make(chan struct{}),
		candidate: c, since: time.Now(),
	}
}

// start begins reading.
func (m *member) start(ctx context.Context) {
	ctx, m.cancel = context.WithCancel(ctx)
	go func() {
		defer close(m.done)
		m.run(ctx)
	}()
}

// stop ends all readings; the rows stay.
func (m *member) stop() {
	m.cancel()
	<-m.done
}

// use is told by which Secret the cluster is to be read from now on.
func (m *member) use(c candidate) {
	m.mu.Lock()
	m.candidate, m.rejected, m.told, m.notRenewed = c, "", "", nil
	m.mu.Unlock()
	m.news.Send()
}

func (m *member) run(ctx context.Context) {
	// Proxies of the cluster are served from now on, and what is told of it has
	// a place.
	m.set.store.ChangeCluster(m.id, func(*model.Cluster) {})
	for {
		if stopped := m.arrange(ctx); stopped != nil {
			stopped.stop()
		}
		select {
		case <-ctx.Done():
			m.mu.Lock()
			both := []*reading{m.serving, m.next}
			m.mu.Unlock()
			for _, g := range both {
				if g != nil {
					g.stop()
				}
			}
			return
		case <-m.news:
		}
	}
}

// arrange starts a reading when one is needed, and gives one that is to be
// stopped.
func (m *member) arrange(ctx context.Context) (stop *reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.buryLocked(ctx)

	want := m.candidate.access
	switch {
	case m.current != nil && want.sameButToken(m.current):
		if want.token != m.current.token {
			m.swapTokenLocked(want.token)
		}
		m.current = want
		if m.serving != nil || m.next != nil {
			return nil
		}
	default:
		stop, m.next = m.next, nil
	}

	m.current = want
	m.next = m.beginLocked(ctx, want)
	return stop
}

// buryLocked takes note of readings that have ended by themselves.
func (m *member) buryLocked(ctx context.Context) {
	if g := m.serving; g != nil && g.ended() && ctx.Err() == nil {
		m.serving = nil
		m.lostLocked(g.err)
	}
	if g := m.next; g != nil && g.ended() {
		m.next = nil
		m.lastErr = g.err
	}
}

// lostLocked marks the cluster's rows as the last that are known.
func (m *member) lostLocked(err error) {
	if err == nil {
		err = errors.New("its reader has ended")
	}
	m.lastErr, m.since = err, time.Now()
	if gone := (*silent)(nil); errors.As(err, &gone) {
		m.since = gone.since
	}
	m.log.Warn("the cluster cannot be followed; what was last read of it stays in force", "error", err)
	m.markStaleLocked()
	m.tellLocked(m.reasonLocked(err), err.Error()+"; what was last read of the cluster stays in force")
	m.set.changed.Send()
}

func (m *member) markStaleLocked() {
	m.set.store.ChangeCluster(m.id, func(c *model.Cluster) {
		if !c.Stale {
			c.Stale, c.Since = true, m.since
		}
	})
}

func (m *member) swapTokenLocked(token string) {
	for _, g := range []*reading{m.serving, m.next} {
		if g != nil {
			g.door.setToken(token)
			g.again.Send()
		}
	}
	m.log.Info("the token is replaced")
}

func (m *member) beginLocked(ctx context.Context, a *access) *reading {
	d, err := newDoor(a)
	if err != nil {
		// The kubeconfig was held to be good: it is the certificates in it.
		m.lastErr = err
		m.log.Warn("the kubeconfig cannot be used", "error", err)
		m.tellLocked("Refused", err.Error())
		m.reachedOnce.Do(func() { close(m.reached) })
		return nil
	}

	g := &reading{cluster: m.id, door: d, timing: m.set.timing, log: m.log, store: m.set.store}
	g.reader = kube.Config{
		Cluster:       m.id,
		Remote:        true,
		ClusterDomain: m.set.cfg.ClusterDomain,
		GlobalDomain:  m.set.cfg.GlobalDomain,
		Namespace:     m.set.cfg.Namespace,
		Revision:      m.set.cfg.Revision,
		Logger:        m.set.cfg.Logger,
	}
	g.takeOver = func() bool { return m.promote(g) }
	g.failed = func(err error) { m.vain(ctx, err) }
	g.begin(ctx)
	go func() {
		<-g.done
		m.news.Send()
	}()
	return g
}

// promote makes the reading the serving one, unless another is wanted meanwhile;
// the one before has stopped when it returns.
func (m *member) promote(g *reading) bool {
	m.mu.Lock()
	if m.next != g {
		m.mu.Unlock()
		return false
	}
	old := m.serving
	m.serving, m.next = g, nil
	m.read = true
	m.since, m.lastErr, m.told = time.Now(), nil, ""
	m.mu.Unlock()

	if old != nil {
		old.stop()
	}
	m.log.Info("the cluster is read and followed", "server", g.door.host)
	m.set.changed.Send()
	m.set.tokens.Send() // there is somebody to ask for another
	return true
}

// vain is told of an attempt to reach the server that failed.
func (m *member) vain(ctx context.Context, err error) {
	m.mu.Lock()
	m.lastErr = err
	restore := m.serving == nil && !m.read && !m.sought
	m.mu.Unlock()
	if restore {
		m.restore(ctx)
	}

	m.mu.Lock()
	if m.serving == nil {
		m.markStaleLocked()
	}
	m.tellLocked(m.reasonLocked(err), err.Error())
	m.mu.Unlock()
	m.reachedOnce.Do(func() { close(m.reached) })
}

// reasonLocked is an error of reaching the server in one word, for an Event.
func (m *member) reasonLocked(err error) string {
	if !errors.As(err, new(notTaken)) {
		return "Unreachable"
	}
	c, err := readClaims(m.candidate.access.token)
	if err == nil && !c.ends().IsZero() && time.Now().After(c.ends()) {
		return "TokenEnded"
	}
	return "Refused"
}

// tellLocked says by an Event on the Secret what is wrong, once for each reason.
func (m *member) tellLocked(reason, text string) {
	if m.told == reason {
		return
	}
	m.told = reason
	m.set.event(m.candidate.secret, reason, "cluster "+string(m.id)+": "+text)
}

// clients ask the cluster's API server; they are nil while there is no way to it.
func (m *member) clients() kube.Clients {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.serving != nil:
		return m.serving.door.clients
	case m.next != nil:
		return m.next.door.clients
	}
	return kube.Clients{}
}

// reject tells that the Secret does not count as it is now.
func (m *member) reject(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rejected = why
}

// settled tells whether there is nothing to wait for at the start of the control
// plane.
func (m *member) settled() bool {
	select {
	case <-m.reached:
		return true
	default:
	}
	return m.inStore()
}

// inStore tells whether all that the cluster holds has been written once.
func (m *member) inStore() bool {
	row, _, ok := m.set.store.Clusters.Get(m.set.store.Read(), m.set.store.Clusters.ByKey(string(m.id)))
	return ok && row.Synced
}
