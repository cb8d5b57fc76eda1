package upstream

import (
	"crypto/tls"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Endpoint is one address of one cluster. Its identity is the pointer: it
// stays the same across updates that do not change it. It is safe for
// concurrent use.
type Endpoint struct {
	cluster *Cluster
	// cfg is a copy, so that no old assignment is kept alive. The cluster's lock
	// guards its TransportMatch, which may change.
	cfg       config.Endpoint
	addr      netip.AddrPort
	transport atomic.Pointer[transport]

	began   atomic.Int64 // requests and connections, over its life
	ended   atomic.Int64 // how many of them are over
	conns   atomic.Int64 // open
	retired atomic.Bool
	// priority is the one that it has, or had last.
	priority atomic.Uint32
	attach   atomic.Pointer[Attachment]
	health   health
	latency  latency // peak EWMA
	// habits are how long connections take where it stands; nil where nothing is
	// known of that, as for ORIGINAL_DST.
	habits   atomic.Pointer[habits]
	lateness lateness

	mu   sync.Mutex     // guards tls and the making of attach
	tls  [3]*tls.Config // by what is offered by ALPN
	used atomic.Int64   // ORIGINAL_DST: when last picked, see sweeper.now
}

// Attachment is what a user of endpoints keeps at one: its pool of HTTP
// connections.
type Attachment interface {
	// Retire is called once, when the endpoint left its cluster or takes
	// connections of another kind, for which there is another attachment: nothing
	// new is to be kept, what is idle is to be closed, what is active may end.
	Retire()
}

// endpointKey is what tells endpoints of one cluster apart.
type endpointKey struct {
	addr     netip.AddrPort
	hostname string
}

func keyOf(e *config.Endpoint) endpointKey {
	return endpointKey{netip.AddrPortFrom(e.Addr, e.Port), e.Hostname}
}

func newEndpoint(c *Cluster, cfg *config.Endpoint) *Endpoint {
	e := &Endpoint{cluster: c, cfg: *cfg, addr: netip.AddrPortFrom(cfg.Addr, cfg.Port)}
	e.transport.Store(c.settings.Load().transportFor(cfg.TransportMatch))
	return e
}

// same tells whether a new description of the address means what stands there
// already, so that what is known of it holds.
func (e *Endpoint) same(n *config.Endpoint) bool {
	return e.cfg.Workload == n.Workload && e.cfg.Gateway == n.Gateway
}

// adaptLocked fits the endpoint to the settings of its cluster. Connections of before
// come to an end where they would be made otherwise now, or with renew: it returns the
// attachment that is to retire, if there is one. The cluster's lock is held.
func (e *Endpoint) adaptLocked(s *settings, renew bool) []Attachment {
	way := s.transportFor(e.cfg.TransportMatch)
	other := !sameTLS(e.transport.Load().ctx, way.ctx)
	if !other && !renew {
		return nil
	}
	if other {
		e.cluster.secondChanceLocked(e)
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	if other {
		e.transport.Store(way)
		e.tls = [3]*tls.Config{}
	}
	if p := e.attach.Swap(nil); p != nil && !e.retired.Load() {
		return []Attachment{*p}
	}
	return nil
}

// Cluster returns the cluster that the endpoint belongs to.
func (e *Endpoint) Cluster() *Cluster { return e.cluster }

// Addr returns the address.
func (e *Endpoint) Addr() netip.AddrPort { return e.addr }

// Hostname returns the host name given for the endpoint, or "".
func (e *Endpoint) Hostname() string { return e.cfg.Hostname }

// Workload returns who stands behind the endpoint.
func (e *Endpoint) Workload() config.Workload { return e.cfg.Workload }

// TLS returns the context that connections use, nil for plaintext.
func (e *Endpoint) TLS() *config.UpstreamTLS { return e.transport.Load().ctx }

// Active returns how many requests and connections are active.
func (e *Endpoint) Active() int64 { return e.began.Load() - e.ended.Load() }

// Retired tells whether the endpoint left its cluster.
func (e *Endpoint) Retired() bool { return e.retired.Load() }

// Attachment returns what was attached, nil before.
func (e *Endpoint) Attachment() Attachment {
	if p := e.attach.Load(); p != nil {
		return *p
	}
	return nil
}

// Attach returns the attachment, and makes it on the first call. One that is
// made for an endpoint that retired meanwhile is retired at once.
func (e *Endpoint) Attach(create func(*Endpoint) Attachment) Attachment {
	if p := e.attach.Load(); p != nil {
		return *p
	}

	e.mu.Lock()
	defer e.mu.Unlock()

	if p := e.attach.Load(); p != nil {
		return *p
	}

	a := create(e)
	e.attach.Store(&a)
	if e.retired.Load() {
		a.Retire()
	}
	return a
}

func (e *Endpoint) retire() {
	e.mu.Lock()
	was := e.retired.Swap(true)
	p := e.attach.Load()
	e.mu.Unlock()
	if !was && p != nil {
		(*p).Retire()
	}
}

// tlsConfig returns the configuration for a protocol, nil for plaintext. It is kept,
// because sessions are resumed within it.
func (e *Endpoint) tlsConfig(proto config.Protocol) *tls.Config {
	i := 0 // anything else
	switch proto {
	case config.ProtocolHTTP1:
		i = 1
	case config.ProtocolHTTP2:
		i = 2
	}

	e.mu.Lock()
	defer e.mu.Unlock()

	t := e.transport.Load()
	if t.tls == nil {
		return nil
	}
	if e.tls[i] == nil {
		e.tls[i] = t.tls.Config(proto, e.hostForSNI())
	}
	return e.tls[i]
}

func (e *Endpoint) hostForSNI() string {
	if e.cfg.Hostname != "" {
		return e.cfg.Hostname
	}
	return e.cfg.Host
}
