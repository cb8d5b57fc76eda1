// Package proxy is the data plane: it takes Envoy v3 resources from discovery
// and forwards connections and requests by them.
//
// # Architecture
//
//	discovery ⇢ xds/fetch → proxy.Apply ─┬→ config    decode and check, pure
//	                                      ├→ upstream  clusters, endpoints: pick, dial, eject
//	                                      └→ listen    sockets, inspectors, filter chains, TLS, TCP
//	connection → listen ─┬→ (TCP) duplex copy or splice ─→ upstream endpoint
//	                     └→ (HTTP) httpproxy → route ────→ upstream endpoint
//
// Package mtls judges peers for both sides; downstream says what is known of
// an accepted connection; telemetry counts. Updates come one at a time and
// replace snapshots; what runs per connection or per request reads snapshots
// and takes no part in updates. An update of one cluster's endpoints touches
// that cluster alone, an update of one filter chain that chain's connections
// alone.
//
//	port   who connects       what
//	15001  application        outbound, redirected; listener by original destination
//	15006  peers              inbound, redirected; filter chain by port and ALPN
//	15443  peers (gateways)   SNI passthrough; cluster by SNI
//	others as listeners say
//
// Order: a listener waits for its route configurations, and those for their
// virtual hosts where these are resources of their own; the former version serves
// meanwhile. Clusters may come before or after what refers to them. What cannot be carried out is refused by name and field and leaves the
// former version in force.
//
// The package reads no environment, fetches nothing and holds no keys: the
// wiring is package agent's, the stream package xds/fetch's, the certificate
// package identity's.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/httpproxy"
	"github.com/isthmus-mesh/isthmus/proxy/listen"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// warmGrace is how long readiness waits for the endpoints of clusters once
// clusters and listeners are there.
const warmGrace = 10 * time.Second

// Config says what a [Proxy] needs.
type Config struct {
	// Identity proves who the proxy is. Required.
	Identity mtls.Identity
	// Self is the workload that the proxy stands at, for telemetry.
	Self telemetry.Party
	// Registerer takes the metrics. Required.
	Registerer prometheus.Registerer
	Logger     *slog.Logger // nil: nothing is logged
	// DrainTime is how long connections may go on that would not be let in any
	// more. Zero: 45 s.
	DrainTime time.Duration
	// MaxConnections bounds the downstream connections that are open at once.
	// Zero: no bound.
	MaxConnections int64
	// Resolver resolves the names of DNS clusters. Nil: the system's.
	Resolver upstream.Resolver
	// OriginalDst tells where a redirected connection was going. Nil: the
	// kernel's connection tracking.
	OriginalDst func(*net.TCPConn) (netip.AddrPort, error)
	// OpenLog opens access logs. Nil: by path.
	OpenLog telemetry.OpenLog
}

// Proxy is a data plane. It is safe for concurrent use.
type Proxy struct {
	log       *slog.Logger
	clusters  *upstream.Set
	listeners *listen.Manager
	telemetry *telemetry.Telemetry
	identity  mtls.Identity
	now       func() time.Time

	mu          sync.Mutex
	served      map[string]bool // types that discovery has served
	pending     map[string]*config.Listener
	routes      map[string]*routeTable
	secrets     map[string]*config.SecretSlot
	wantRoutes  []string
	wantHosts   []string // route configurations whose virtual hosts are resources
	wantSecrets []string
	wantLoads   []string
	warm        bool      // sticky
	warmSince   time.Time // when clusters and listeners were first there
	closed      bool
	neverClosed chan struct{}

	drillMu sync.Mutex // guards drill; taken before the locks of clusters
	drill   *drill     // nil: none goes on
}

// New makes a Proxy with nothing to do. Run releases what it holds.
func New(c Config) (*Proxy, error) {
	if c.Identity == nil || c.Registerer == nil {
		return nil, errors.New("proxy: Identity and Registerer must be given")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}

	tel, err := telemetry.NewTelemetry(telemetry.Config{Self: c.Self, Registerer: c.Registerer, OpenLog: c.OpenLog})
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}

	p := &Proxy{
		log: c.Logger, telemetry: tel, identity: c.Identity, now: time.Now,
		served: map[string]bool{}, pending: map[string]*config.Listener{}, routes: map[string]*routeTable{}, secrets: map[string]*config.SecretSlot{},
		neverClosed: make(chan struct{}),
	}

	p.clusters = upstream.NewSet(upstream.Options{
		Identity: c.Identity, Logger: c.Logger, Resolver: c.Resolver,
		HandshakeFailed: func(r mtls.Reason) { tel.TLSFailed(telemetry.Upstream, r) },
		// The listeners are there before anything is forwarded.
		Own:        func(a netip.AddrPort) bool { return p.listeners.Owns(a) },
		OwnRefused: tel.OwnListenerRefused,
		Event:      tel.ClusterEvent,
	})

	web, err := httpproxy.New(httpproxy.Config{Clusters: p.clusters, Routes: p, Telemetry: tel, Logger: c.Logger})
	if err != nil {
		p.clusters.Close()
		return nil, fmt.Errorf("proxy: %w", err)
	}

	p.listeners = listen.New(listen.Options{
		Clusters: p.clusters, Identity: c.Identity, Secrets: p, HTTP: handlers{web}, Telemetry: tel,
		Logger: c.Logger, DrainTime: c.DrainTime, MaxConnections: c.MaxConnections, OriginalDst: c.OriginalDst,
	})
	return p, nil
}

// handlers fits httpproxy to what package listen asks for.
type handlers struct{ server *httpproxy.Server }

// Handler implements listen.HTTP.
func (h handlers) Handler(hcm *config.HCM) (listen.HTTPHandler, error) {
	handler, err := h.server.Handler(hcm)
	if err != nil {
		return nil, err
	}
	return handler, nil
}

// Run serves until the context ends, then closes every socket and connection.
// It is to be called once, also by those who gave the Proxy nothing to do.
func (p *Proxy) Run(ctx context.Context) error {
	var watch sync.WaitGroup
	watch.Go(func() { p.watchRoots(ctx) })
	err := p.telemetry.Run(ctx)
	<-ctx.Done()
	watch.Wait()

	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()

	p.EndDrill()
	p.listeners.Close()
	p.clusters.Close()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// watchRoots has open connections judged anew when the roots of trust change:
// what a root that was removed has let in must not stay.
func (p *Proxy) watchRoots(ctx context.Context) {
	judgedBy := p.identity.Roots()
	for {
		// Taken before the roots are read, so that no change is missed.
		changed := p.identity.Changed()
		if roots := p.identity.Roots(); roots != judgedBy {
			judgedBy = roots
			p.listeners.RecheckPeers()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Drain asks all connections to end at the next good moment, those that come
// later too. It returns at once; Active tells how many are left.
func (p *Proxy) Drain() { p.listeners.Drain() }

// DrainInbound does so for connections from outside, and leaves alone those of
// the proxy's own application.
func (p *Proxy) DrainInbound() { p.listeners.DrainInbound() }

// Active returns how many downstream connections are open.
func (p *Proxy) Active() int64 { return p.listeners.Active() }

// Addr returns the address that a listener is bound to; false when it has no
// socket.
func (p *Proxy) Addr(listener string) (netip.AddrPort, bool) { return p.listeners.Addr(listener) }

// Ready returns nil once the proxy has the configuration that it started for,
// and stays so: a proxy that has served goes on with what it has. Until then
// the error says what is missing.
func (p *Proxy) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.warm {
		return nil
	}
	switch {
	case !p.served[typeCluster] && !p.served[typeListener]:
		return errors.New("no configuration from discovery yet")
	case !p.served[typeCluster]:
		return errors.New("no clusters from discovery yet")
	case !p.served[typeListener]:
		return errors.New("no listeners from discovery yet")
	}

	if p.warmSince.IsZero() {
		p.warmSince = p.now()
	}
	if err := p.coldLocked(); err != nil && p.now().Sub(p.warmSince) < warmGrace {
		return err
	}
	p.warm = true
	return nil
}

// coldLocked says what is still waited for. Of several, the first by name is the
// example: who asks again is told of the same one until it has come.
func (p *Proxy) coldLocked() error {
	if len(p.pending) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(p.pending)))
		return fmt.Errorf("listener %q waits for its routes %v (%d listeners wait)", name, p.missingRoutesLocked(p.pending[name]), len(p.pending))
	}

	n, example := 0, ""
	p.clusters.All(func(c *upstream.Cluster) {
		if c.Config().Type != config.ClusterEDS {
			return
		}
		select {
		case <-c.Ready():
		default:
			if n++; n == 1 || c.Name() < example {
				example = c.Name()
			}
		}
	})

	if n > 0 {
		return fmt.Errorf("cluster %q waits for its endpoints (%d clusters wait)", example, n)
	}
	return nil
}
