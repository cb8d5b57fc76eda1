package upstream

import (
	"crypto/tls"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Endpoint is one address of one cluster. Its identity is the pointer: it
// stays the same across updates that do not change it. It is safe for
// concurrent use.
type Endpoint struct {
	cluster   *Cluster
	cfg       config.Endpoint // a copy, so that no old assignment is kept alive
	addr      netip.AddrPort
	transport *transport

	began   atomic.Int64 // requests and connections, over its life
	ended   atomic.Int64 // how many of them are over
	conns   atomic.Int64 // open; only with limits
	retired atomic.Bool
	attach  atomic.Pointer[Attachment]
	health  health
	latency latency // peak EWMA

	mu   sync.Mutex     // guards tls and the making of attach
	tls  [3]*tls.Config // by what is offered by ALPN
	used atomic.Int64   // ORIGINAL_DST: when last picked, see sweeper.now
}

// Attachment is what a user of endpoints keeps at one: its pool of HTTP
// connections.
type Attachment interface {
	// Retire is called once, when the endpoint left its cluster: nothing new
	// is to be opened, what is idle is to be closed, what is active may end.
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
	return &Endpoint{
		cluster: c, cfg: *cfg, addr: netip.AddrPortFrom(cfg.Addr, cfg.Port),
		transport: c.transportFor(cfg.TransportMatch),
	}
}

// same tells whether a new description changes nothing about how the endpoint
// is reached and what is said of it.
func (e *Endpoint) same(n *config.Endpoint) bool {
	return e.cfg.Workload == n.Workload && e.cfg.Gateway == n.Gateway && maps.Equal(e.cfg.TransportMatch, n.TransportMatch)
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
func (e *Endpoint) TLS() *config.UpstreamTLS { return e.transport.ctx }

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

// tlsConfig returns the configuration for a protocol. It is kept, because
// sessions are resumed within it.
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

	if e.tls[i] == nil {
		e.tls[i] = e.transport.tls.Config(proto, e.hostForSNI())
	}
	return e.tls[i]
}

func (e *Endpoint) hostForSNI() string {
	if e.cfg.Hostname != "" {
		return e.cfg.Hostname
	}
	return e.cfg.Host
}
