package discovery

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/discovery/hostnames"
	"github.com/isthmus-mesh/isthmus/inject"
	"github.com/isthmus-mesh/isthmus/internal/lookup"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/kube/clusters"
	"github.com/isthmus-mesh/isthmus/kube/clusterset"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/resources"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// Server is a control plane: its parts, wired.
type Server struct {
	cfg      Config
	log      *slog.Logger
	registry Registry
	sockets  *sockets
	// served tells that everything is, and stopping that it will not be for long:
	// the readiness probe's answer.
	served, stopping atomic.Bool

	store  *model.Store
	status *kube.StatusWriter
	reader *kube.Reader
	// remotes reads the other clusters that the mesh has.
	remotes *clusters.Set
	// notHonoured follows the kinds that the reader does not read.
	notHonoured *kube.NotHonoured
	source      *resources.Source
	// exports tells people what became of what clusters export.
	exports   *clusterset.ExportWriter
	injection *inject.Live

	// What needs the API server stands once reachAPIServer is through.
	authority *ca.Authority
	auth      *ca.Authenticator
	xds       *serve.Server
	// spreadRound is the time between two comparisons with other replicas.
	spreadRound time.Duration
	// nativeSidecars tells that the cluster knows restartable init
	// containers.
	nativeSidecars bool
}

// New makes a control plane that listens and answers nobody yet: a configuration
// that is wrong and a port that is taken are told at once. It does not ask the API
// server. Run closes the sockets.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger,
		registry:  cfg.Registry,
		injection: &inject.Live{}, spreadRound: spreadRound,
	}
	if s.registry == nil {
		s.registry = prometheus.NewRegistry()
	}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := s.makeModel(); err != nil {
		return nil, err
	}

	var err error
	if s.sockets, err = listen(cfg.Listen); err != nil {
		return nil, err
	}
	return s, nil
}

// Addresses tells where the control plane is reached, with the ports that the
// system has chosen where the configuration says 0.
func (s *Server) Addresses() Addresses { return s.sockets.addresses() }

// Run serves until ctx ends, and then for Config.StopDelay, and returns nil. It may
// be called once. While the API server cannot be reached it waits for it, not ready.
func (s *Server) Run(ctx context.Context) error {
	defer s.sockets.close()
	told := ctx
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		s.awaitStop(told, ctx)
		stop()
		return nil
	})

	// The cluster is read while the certificate authority is set up.
	g.Go(func() error { return s.reader.Run(ctx) })
	g.Go(func() error { return s.remotes.Run(ctx) })
	g.Go(func() error { return s.notHonoured.Run(ctx) })
	g.Go(func() error { return s.source.Run(ctx) })
	g.Go(func() error { return hostnames.New(s.store, s.cfg.Cluster, lookup.NewSystem(), s.log).Run(ctx) })
	g.Go(func() error { return s.serveHTTP(ctx, s.sockets.readiness, s.readiness()) })
	g.Go(func() error {
		if err := s.reachAPIServer(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.serve(ctx, g)
		return nil
	})

	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	s.log.Info("stopped")
	return nil
}

// awaitStop waits until the control plane is to stop: some time after it was told
// to. ctx ends when it stops by itself.
func (s *Server) awaitStop(told, ctx context.Context) {
	select {
	case <-told.Done():
	case <-ctx.Done():
		return
	}
	s.stopping.Store(true)
	if !s.served.Load() {
		return // nobody was led here
	}

	s.log.Info("stopping", "delay", s.cfg.StopDelay)
	delay := time.NewTimer(s.cfg.StopDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-ctx.Done():
	}
}

// makeModel makes the way from the cluster's objects to xDS resources.
func (s *Server) makeModel() (err error) {
	if s.store, err = model.NewStore(); err != nil {
		return err
	}
	s.status = kube.NewStatusWriter(s.cfg.Clients.Dynamic, s.log)
	s.reader, err = kube.NewReader(s.store, s.cfg.Clients, kube.Config{
		Cluster:       s.cfg.Cluster,
		Network:       s.cfg.Network,
		ClusterDomain: s.cfg.ClusterDomain,
		GlobalDomain:  s.cfg.GlobalDomain,
		Namespace:     s.cfg.Namespace,
		MeshConfigMap: s.cfg.meshConfigMap(),
		Revision:      s.cfg.Revision,
		GivenRanges:   []netip.Prefix{xds.ElsewhereRange()},
		Status:        s.status,
		Logger:        s.log,
	})
	if err != nil {
		return err
	}
	s.remotes, err = clusters.New(s.store, clusters.Config{
		Cluster:       s.cfg.Cluster,
		Client:        s.cfg.Clients.Kube,
		Namespace:     s.cfg.Namespace,
		ClusterDomain: s.cfg.ClusterDomain,
		GlobalDomain:  s.cfg.GlobalDomain,
		Revision:      s.cfg.Revision,
		Options:       s.cfg.Kubeconfigs,
		Logger:        s.log,
	})
	if err != nil {
		return err
	}
	s.registry.MustRegister(clusterStates{s.remotes.States})
	s.notHonoured = kube.NewNotHonoured(s.cfg.Clients, s.cfg.Revision, s.log)
	s.registry.MustRegister(notInForce{s.reader.NotInForce, s.notHonoured.Count})

	s.source, err = resources.New(s.store, resources.Config{
		Cluster:      s.cfg.Cluster,
		GlobalDomain: s.cfg.GlobalDomain,
		Logger:       s.log,
	})
	if err != nil {
		return err
	}
	s.exports = clusterset.NewExportWriter(s.clientsOf, s.source.ExportStates, s.log)
	s.registry.MustRegister(unreached(s.source.LastReport))
	s.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "isthmus_xds_resources_built_total", Help: "xDS resources that were built and encoded.",
	}, func() float64 { return float64(s.source.Built()) }))
	return nil
}

// clientsOf are the ways into a cluster of the mesh; they are nil while there is none.
func (s *Server) clientsOf(c model.ClusterID) kube.Clients {
	if c == s.cfg.Cluster {
		return s.cfg.Clients
	}
	return s.remotes.Clients(c)
}
