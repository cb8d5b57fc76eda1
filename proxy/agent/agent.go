package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/internal/wake"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

// Agent runs one proxy.
type Agent struct {
	cfg      Config
	id       *identity.Source
	xds      *fetch.Client
	engine   Engine
	names    *names // nil: the proxy answers no DNS
	log      *slog.Logger
	draining atomic.Bool // for good
	quit     wake.Signal // an exit was asked for
	addrs    atomic.Pointer[Addresses]
	open     chan struct{} // closed when addrs is set
}

// New checks cfg and makes the parts.
func New(cfg Config) (*Agent, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if cfg.Engine == nil {
		return nil, errors.New("agent: no engine")
	}

	a := &Agent{cfg: cfg, id: cfg.Identity, engine: cfg.Engine, log: cfg.Logger, quit: wake.NewSignal(), open: make(chan struct{})}
	var err error
	if a.id == nil {
		if a.id, err = NewIdentity(cfg); err != nil {
			return nil, err
		}
	}

	if a.names, err = newNames(&cfg); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}

	node, err := cfg.node()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}

	a.xds, err = fetch.New(fetch.Config{
		Address: cfg.Discovery,
		TLS:     a.id.DiscoveryTLS,
		Authorize: func(ctx context.Context) (context.Context, error) {
			// The certificate says who the proxy is, the token of which cluster.
			return identity.WithToken(identity.WithCluster(ctx, cfg.Meta["CLUSTER_ID"]), cfg.TokenFile)
		},
		Node:       node,
		Handler:    handler{cfg.Engine, a.names},
		Names:      a.names != nil,
		Keep:       a.keep(),
		Logger:     cfg.Logger.With("part", "xds"),
		Registerer: cfg.Registry,
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}

	a.register()
	return a, nil
}

// register adds the metrics of the process and the certificate.
func (a *Agent) register() {
	a.cfg.Registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_proxy_certificate_expiry_timestamp", Help: "When the proxy's certificate expires, in seconds since 1970; 0 without one.",
		}, func() float64 {
			if c := a.id.Certificate(); c != nil {
				return float64(c.Leaf.NotAfter.Unix())
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_proxy_ready", Help: "1 while the proxy can carry traffic.",
		}, func() float64 {
			if a.Ready() == nil {
				return 1
			}
			return 0
		}),
	)
}

// Run runs the proxy until ctx ends or an exit is asked for over HTTP, then
// drains and closes everything. It returns nil after an orderly end.
func (a *Agent) Run(ctx context.Context) error {
	srv, err := a.listen()
	if err != nil {
		return err
	}
	// The parts outlive ctx: they serve while connections drain.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()

	g, work := errgroup.WithContext(work)
	g.Go(func() error { return srv.run(work) })
	g.Go(func() error { return a.id.Run(work) })
	g.Go(func() error { return a.engine.Run(work) })
	if a.names != nil {
		g.Go(func() error { return a.names.server.Run(work) })
	}
	g.Go(func() error {
		if !a.awaitCertificate(work) {
			return nil
		}
		return a.xds.Run(work)
	})

	g.Go(func() error {
		a.trimWhenReady(work)
		return nil
	})
	a.log.Info("proxy started", "node", a.cfg.nodeID(), "discovery", a.cfg.Discovery)

	select {
	case <-ctx.Done():
		a.drain(work, a.appListens)
	case <-a.quit:
		a.drain(work, nobodyListens)
	case <-work.Done():
		// A part has failed: its error is the group's.
	}

	stop()
	if err := g.Wait(); err != nil {
		return err
	}
	a.log.Info("proxy ended")
	return nil
}

// awaitCertificate waits for the first certificate: discovery speaks only to
// those who have one. It is false when ctx ended.
func (a *Agent) awaitCertificate(ctx context.Context) bool {
	for {
		changed := a.id.Changed()
		if a.id.Certificate() != nil {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// trimAfter is how often it is looked whether the proxy is ready, and the memory
// of its first configuration can be given back: what came last is in force by
// then, and in the file that is kept for a restart.
const trimAfter = 5 * time.Second

// trimWhenReady gives memory back to the system once. Decoding a whole mesh
// takes several times what it comes to, and the runtime returns the difference
// only slowly.
func (a *Agent) trimWhenReady(ctx context.Context) {
	tick := time.NewTicker(trimAfter)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if a.engine.Ready() == nil {
			debug.FreeOSMemory()
			return
		}
	}
}

// beginDrain makes the proxy not ready and asks connections to end. A
// sidecar's application may shut down at its own pace and call others
// meanwhile, so that only what comes from outside is asked.
func (a *Agent) beginDrain() {
	a.draining.Store(true)
	if a.cfg.Kind == Sidecar {
		a.engine.DrainInbound()
		return
	}
	a.engine.Drain()
}

// drain lets connections end. New ones are taken for DrainAtLeast, since
// callers learn only by and by that the pod goes; then it waits, up to DrainFor
// in all, until none is left. With DrainUntilIdle the kubelet's patience
// (terminationGracePeriodSeconds) is the only bound, and likewise for as long as
// appListens says so.
func (a *Agent) drain(ctx context.Context, appListens func() bool) {
	a.beginDrain()
	start := time.Now()
	if a.cfg.DrainUntilIdle {
		a.log.Info("draining until no connection is left", "connections", a.engine.Active(), "shortest", a.cfg.DrainAtLeast)
	} else {
		a.log.Info("draining", "connections", a.engine.Active(), "longest", a.cfg.DrainFor)
	}

	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		took := time.Since(start)
		n := a.engine.Active()
		late := took >= a.cfg.DrainFor && !a.cfg.DrainUntilIdle
		if (late || took >= a.cfg.DrainAtLeast && n == 0) && !appListens() {
			a.log.Info("drained", "took", took.Round(time.Millisecond), "connections", n)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// appListens tells whether there is an application to wait for.
func (a *Agent) appListens() bool {
	if a.cfg.AppListens == nil {
		return false
	}
	yes, err := a.cfg.AppListens()
	if err != nil {
		a.log.Warn("cannot tell whether the application is still there", "error", err)
	}
	return yes
}

// nobodyListens is for an end that the application itself has asked for.
func nobodyListens() bool { return false }

// Quit asks for an orderly exit, as SIGTERM does.
func (a *Agent) Quit() {
	a.quit.Send()
}

// Ready is nil when the proxy can carry traffic, and says else what is in the
// way. A proxy that has lost discovery stays ready: it goes on with what it has.
func (a *Agent) Ready() error {
	if a.draining.Load() {
		return errors.New("not ready: draining")
	}

	// The reason is read first: it is gone once the certificate is there.
	err := a.id.Err()
	if a.id.Certificate() == nil {
		return fmt.Errorf("not ready: no certificate yet: %w", err)
	}

	err = cmp.Or(a.engine.Ready(), a.names.ready())
	if err == nil {
		return nil
	}
	if xerr := a.xds.Err(); xerr != nil {
		return fmt.Errorf("not ready: no configuration yet: %w", xerr)
	}
	return fmt.Errorf("not ready: %w", err)
}
