// Package listen is the way into the proxy: sockets, the original destination
// of redirected connections, a look at the first bytes, the choice of a
// filter chain, TLS termination, and the forwarding of TCP. HTTP connections
// are handed to an [HTTP] implementation.
//
// A [Manager] holds the listeners. Updates replace snapshots. A connection whose
// filter chain is replaced goes on for as long as its peer would be let in: HTTP
// is asked to end after the current requests, so that the next ones are served
// by the new configuration, and those that come before that are decided about by
// the policies of it; a long stream is not broken. One that would be
// refused (mutual TLS has become strict, its root is not trusted any more, a policy
// says no) is
// cut off when the drain time is over.
//
// Nothing is waited for without an end, and no more connections are held than
// [Options.MaxConnections].
package listen

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/access"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// HTTP makes handlers of HTTP connections.
type HTTP interface {
	// Handler compiles the HTTP configuration of one filter chain. It is
	// called when configuration comes, never per connection.
	Handler(hcm *config.HCM) (HTTPHandler, error)
}

// HTTPHandler serves connections of one filter chain.
type HTTPHandler interface {
	// ServeConn serves a connection until it is done. conn is a
	// *net.TCPConn or a *tls.Conn that has shaken hands; nothing of it was
	// consumed. The caller closes it.
	ServeConn(conn net.Conn, info *downstream.Info)
}

// Telemetry takes note of connections. Methods are called concurrently.
type Telemetry interface {
	// TCPFor returns what starts the records of the connections of one TCP
	// proxy; its endpoint is nil when none was reached. TCPFor is called when
	// configuration comes, and fails for an access log that cannot be written as
	// it is asked for.
	TCPFor(cfg *config.TCPProxy) (func(*downstream.Info, *upstream.Endpoint) downstream.TCPRecorder, error)
	// TCPAccess gives the counters of a filter that decides who may connect.
	TCPAccess(shadowPrefix string) access.Counts
	// HandshakeFailed counts a TLS handshake with a peer that failed.
	HandshakeFailed(reason mtls.Reason)
	// NoFilterChain counts a connection that no chain matched.
	NoFilterChain(listener string)
	// OverLimit counts a connection that was refused because too many are
	// open.
	OverLimit(listener string)
	ConnOpen(dir config.Direction)
	ConnClose(dir config.Direction)
}

// Options configure a [Manager].
type Options struct {
	Clusters  *upstream.Set
	Identity  mtls.Identity // nil: chains that need it are refused
	Secrets   mtls.Secrets  // nil: chains that need one are refused
	HTTP      HTTP          // nil: chains with HTTP are refused
	Telemetry Telemetry     // nil: nothing is counted
	Logger    *slog.Logger  // nil: nothing is logged
	// DrainTime is how long connections may go on that would not be let in
	// any more; zero means 45 s.
	DrainTime time.Duration
	// FirstBytes is how long a client from outside may keep silent where the
	// choice of the filter chain takes its first bytes; zero means 15 s.
	FirstBytes time.Duration
	// MaxConnections bounds the connections that are open at once; zero means
	// no bound. One socket may hold three quarters of them, so that a flood
	// from outside leaves room for the application's own.
	MaxConnections int64
	// OriginalDst tells where a redirected connection was going. Nil asks
	// the kernel's connection tracking.
	OriginalDst func(*net.TCPConn) (netip.AddrPort, error)
}

// Manager holds the listeners of a proxy. It is safe for concurrent use.
type Manager struct {
	opt     Options
	log     *slog.Logger
	refused quiet // refusals and failures of single connections
	virtual atomic.Pointer[dispatch]
	own     ownAddresses
	conns   atomic.Int64

	mu        sync.Mutex // serialises updates
	listeners map[string]*listener
	sockets   map[string]*socket
	open      map[string]*connections   // by listener
	opening   connSet                   // connections that have no chain yet
	draining  map[config.Direction]bool // chains of these directions end gently from the start
	goodbye   bool                      // sayGoodbye runs
	closed    bool
	closing   chan struct{}  // closed with it
	wait      sync.WaitGroup // goroutines of sockets and connections
}

// dispatch finds listeners by original destination. It is immutable.
type dispatch struct {
	exact map[dispatchKey]*listener
	any   map[dispatchKey]*listener // the address is 0.0.0.0
}

type dispatchKey struct {
	dir  config.Direction
	addr netip.AddrPort
}

// New makes a Manager without listeners.
func New(o Options) *Manager {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Telemetry == nil {
		o.Telemetry = silent{}
	}
	if o.DrainTime == 0 {
		o.DrainTime = 45 * time.Second
	}
	if o.FirstBytes == 0 {
		o.FirstBytes = strangerPatience
	}
	if o.OriginalDst == nil {
		o.OriginalDst = originalDst
	}

	m := &Manager{
		opt:       o,
		log:       o.Logger,
		refused:   quiet{log: o.Logger},
		listeners: map[string]*listener{},
		sockets:   map[string]*socket{},
		open:      map[string]*connections{},
		draining:  map[config.Direction]bool{},
		closing:   make(chan struct{}),
	}
	m.publishLocked()
	return m
}

// Update adds or replaces listeners and removes others, in one step. The
// errors are by listener name; a listener with an error stays as it was.
func (m *Manager) Update(add []*config.Listener, remove []string) map[string]error {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.closed {
		return nil
	}

	errs := map[string]error{}
	var changes []change
	for _, name := range remove {
		if old := m.removeLocked(name); old != nil {
			changes = append(changes, change{name: name, old: old})
		}
	}

	for _, cfg := range add {
		old := m.listeners[cfg.Name]
		if err := m.applyLocked(cfg); err != nil {
			errs[cfg.Name] = err
		} else if next := m.listeners[cfg.Name]; old != nil && next != old {
			changes = append(changes, change{name: cfg.Name, old: old, next: next})
		}
	}

	// What becomes of open connections depends on all that is in force.
	m.publishLocked()
	for _, ch := range changes {
		m.retireChainsLocked(ch)
	}
	m.forgetConnectionsLocked()
	return errs
}

// applyLocked puts one listener in force.
func (m *Manager) applyLocked(cfg *config.Listener) error {
	old := m.listeners[cfg.Name]
	if old != nil && old.cfg.Version == cfg.Version && cfg.Version != "" {
		return nil
	}

	l, err := m.compileLocked(cfg, old)
	if err != nil {
		return err
	}
	if err := m.bindLocked(l); err != nil {
		return err
	}
	m.listeners[cfg.Name] = l
	return nil
}

// removeLocked takes a listener out of force and returns it, nil when there is
// none.
func (m *Manager) removeLocked(name string) *listener {
	old := m.listeners[name]
	if old == nil {
		return nil
	}
	delete(m.listeners, name)
	if s := m.sockets[name]; s != nil {
		s.close()
		delete(m.sockets, name)
	}
	return old
}

// publishLocked makes anew what connections read: the dispatch, and the
// addresses of the sockets. They read it without the lock, which updates hold
// long.
func (m *Manager) publishLocked() {
	d := &dispatch{exact: map[dispatchKey]*listener{}, any: map[dispatchKey]*listener{}}
	for _, l := range m.listeners {
		k := dispatchKey{l.cfg.Direction, l.cfg.Address}
		if l.cfg.Address.Addr().IsUnspecified() {
			k.addr = netip.AddrPortFrom(netip.Addr{}, l.cfg.Address.Port())
			d.any[k] = l
		} else {
			d.exact[k] = l
		}
	}
	m.virtual.Store(d)

	bound := make([]netip.AddrPort, 0, len(m.sockets))
	for _, s := range m.sockets {
		bound = append(bound, addrPort(s.ln.Addr()))
	}
	m.own.bound.Store(&bound)
}

// find returns the listener for an original destination, nil when the one
// that accepted the connection has to do.
func (d *dispatch) find(dir config.Direction, dst netip.AddrPort) *listener {
	if l := d.exact[dispatchKey{dir, dst}]; l != nil {
		return l
	}
	return d.any[dispatchKey{dir, netip.AddrPortFrom(netip.Addr{}, dst.Port())}]
}

// Listeners returns the configurations in force, in no order.
func (m *Manager) Listeners() []*config.Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*config.Listener, 0, len(m.listeners))
	for _, l := range m.listeners {
		out = append(out, l.cfg)
	}
	return out
}

// Active returns how many connections are open.
func (m *Manager) Active() int64 { return m.conns.Load() }

// Drain asks all connections, present and future, to end at the next good
// moment. Sockets stay open: clients that have not heard yet are served.
//
// For TCP, of which nothing is known, a good moment is one in which nothing moves.
func (m *Manager) Drain() {
	m.drain(config.DirectionInbound, config.DirectionOutbound, config.DirectionUnspecified)

	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.goodbye && !m.closed {
		m.goodbye = true
		m.wait.Go(m.sayGoodbye)
	}
}

// DrainInbound does so for all but outbound connections, since an application that
// shuts down still has calls of its own to make, and leaves TCP alone: what the
// application has said over it is the application's to end.
func (m *Manager) DrainInbound() {
	m.drain(config.DirectionInbound, config.DirectionUnspecified)
}

func (m *Manager) drain(directions ...config.Direction) {
	m.mu.Lock()
	defer m.mu.Unlock()

	for _, d := range directions {
		m.draining[d] = true
	}

	for _, l := range m.listeners {
		for _, c := range l.all {
			if m.draining[c.dir] {
				c.endGently()
			}
		}
	}
}

// Close closes all sockets and connections and waits for their goroutines.
func (m *Manager) Close() {
	m.drain(config.DirectionInbound, config.DirectionOutbound, config.DirectionUnspecified)

	m.mu.Lock()
	if !m.closed {
		close(m.closing)
	}
	m.closed = true
	for _, s := range m.sockets {
		s.close()
	}
	for _, c := range m.open {
		c.closeAll()
	}

	clear(m.sockets)
	clear(m.listeners)
	m.publishLocked()
	m.mu.Unlock()

	// Connections on their way to a chain take the lock; the wait is without it.
	m.opening.closeAll()
	m.wait.Wait()
}

// silent is a Telemetry that takes no note.
type silent struct{}

func (silent) TCPFor(
	*config.TCPProxy,
) (func(*downstream.Info, *upstream.Endpoint) downstream.TCPRecorder, error) {
	return func(*downstream.Info, *upstream.Endpoint) downstream.TCPRecorder { return silent{} }, nil
}

func (silent) HandshakeFailed(mtls.Reason) {}
func (silent) NoFilterChain(string)        {}
func (silent) OverLimit(string)            {}
func (silent) ConnOpen(config.Direction)   {}
func (silent) ConnClose(config.Direction)  {}
func (silent) Add(int64, int64)            {}
func (silent) Close(outcome.Flag)          {}
func (silent) Denied(string)               {}

func (silent) TCPAccess(string) access.Counts { return access.Counts{} }
