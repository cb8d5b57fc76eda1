package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/inject"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/model/dump"
)

// discoveryServers are the sockets of the control plane. They are opened first,
// so that a port that is taken ends the process at once.
type discoveryServers struct {
	log                                  *slog.Logger
	plain, tls, webhook, monitor, readyz net.Listener
	drain                                time.Duration
	isReady                              atomic.Bool
}

func (d *discovery) listen(ctx context.Context) (*discoveryServers, error) {
	s := &discoveryServers{log: d.log, drain: d.cfg.drain}
	var lc net.ListenConfig
	for _, l := range []struct {
		into *net.Listener
		addr string
	}{
		{&s.plain, d.cfg.plainAddr}, {&s.tls, d.cfg.tlsAddr}, {&s.webhook, d.cfg.webhookAddr},
		{&s.monitor, d.cfg.monitorAddr}, {&s.readyz, d.cfg.readyAddr},
	} {
		if l.addr == "" {
			continue
		}
		listener, err := lc.Listen(ctx, "tcp", l.addr)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("listen on %s: %w; name another address by flag", l.addr, err)
		}
		*l.into = boundConns(listener, maxConns, maxConnsPerPeer)
	}
	return s, nil
}

// close closes the sockets; those of servers that have ended are closed
// already.
func (s *discoveryServers) close() {
	for _, l := range []net.Listener{s.plain, s.tls, s.webhook, s.monitor, s.readyz} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// ready answers the readiness probe: as soon as the process runs, and with yes
// once everything is served.
func (s *discoveryServers) ready(ctx context.Context) error {
	if s.readyz == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", s.answerReady)
	return s.serveHTTP(ctx, s.readyz, mux)
}

func (s *discoveryServers) answerReady(w http.ResponseWriter, _ *http.Request) {
	if !s.isReady.Load() {
		http.Error(w, "not ready: the cluster is not read yet, or the certificate authority is not loaded; see the log", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// serveGRPC serves until ctx ends.
func (s *discoveryServers) serveGRPC(ctx context.Context, l net.Listener, srv *grpc.Server) error {
	if l == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(s.drain, srv.Stop)
		defer t.Stop()
		srv.GracefulStop()
	})
	defer stop()
	if err := srv.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// serve starts everything that is served.
func (d *discovery) serve(ctx context.Context, g *errgroup.Group, s *discoveryServers) {
	names := d.cfg.serverNames()
	secure := grpc.NewServer(append(d.xds.GRPCOptions(), grpc.Creds(credentials.NewTLS(d.authority.ServerTLS(names))))...)
	plain := grpc.NewServer(d.xds.GRPCOptions()...)
	d.xds.Register(secure)
	d.xds.Register(plain)
	ca.NewService(d.authority, d.auth).Register(secure)

	webhookTLS := d.authority.WebhookTLS(names)
	g.Go(func() error { return d.authority.Run(ctx) })
	g.Go(func() error { return d.xds.Run(ctx) })
	g.Go(func() error { return s.serveGRPC(ctx, s.tls, secure) })
	g.Go(func() error { return s.serveGRPC(ctx, s.plain, plain) })
	g.Go(func() error { return s.serveHTTP(ctx, tlsListener(s.webhook, webhookTLS), d.webhooks()) })
	g.Go(func() error { return s.serveHTTP(ctx, s.monitor, d.monitoring(s)) })
	g.Go(func() error { return d.followInjection(ctx) })
	g.Go(func() error { return d.trustWebhooks(ctx) })
	g.Go(func() error {
		return kube.Lead(ctx, d.clients.Kube, d.cfg.namespace, d.cfg.pod, d.log, d.writeStatus)
	})
	g.Go(func() error {
		if d.waitRow(ctx, func(txn model.ReadTxn) (bool, <-chan struct{}) {
			c, _, watch, ok := d.store.Clusters.GetWatch(txn, d.store.Clusters.ByKey(d.cfg.cluster))
			return ok && c.Synced, watch
		}) {
			s.isReady.Store(true)
			d.log.Info("ready", "cluster", d.cfg.cluster, "namespace", d.cfg.namespace, "revision", d.cfg.revision)
		}
		<-ctx.Done()
		s.isReady.Store(false)
		return nil
	})
}

// writeStatus writes what became of configuration objects on them, until ctx
// ends.
func (d *discovery) writeStatus(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { d.status.Run(ctx) })
	wg.Go(func() { d.notHonoured.WriteStatus(ctx) })
}

// waitRow waits until look says yes; it is false when ctx ended before.
func (d *discovery) waitRow(ctx context.Context, look func(model.ReadTxn) (bool, <-chan struct{})) bool {
	for {
		ok, watch := look(d.store.Read())
		if ok {
			return true
		}
		select {
		case <-watch:
		case <-ctx.Done():
			return false
		}
	}
}

// webhooks are what the API server calls.
func (d *discovery) webhooks() http.Handler {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_validation_total", Help: "Configuration objects that the validating webhook was asked about.",
	}, []string{"kind", "allowed"})
	d.registry.MustRegister(decisions)
	mux := http.NewServeMux()
	mux.Handle("/validate", api.NewValidator(api.ValidatorConfig{
		Logger:  d.log,
		Check:   d.reader.Check,
		Observe: func(kind string, allowed bool) { decisions.WithLabelValues(kind, fmt.Sprint(allowed)).Inc() },
	}))
	injector := inject.NewHandler(inject.Config{
		Source: d.injection, NamespaceLabels: d.namespaceLabels, Logger: d.log, Registerer: d.registry,
	})
	mux.Handle("/inject", injector)
	mux.Handle("/inject/", injector)
	return mux
}

func (d *discovery) namespaceLabels(namespace string) (map[string]string, bool) {
	key := (&model.Namespace{Cluster: model.ClusterID(d.cfg.cluster), Name: namespace}).Key()
	ns, _, ok := d.store.Namespaces.Get(d.store.Read(), d.store.Namespaces.ByKey(key))
	if !ok {
		return nil, false
	}
	return ns.Labels, true
}

// followInjection keeps the injection settings up to date with their two
// ConfigMaps. An edit that does not parse leaves the last good ones in force.
func (d *discovery) followInjection(ctx context.Context) error {
	var mu sync.Mutex
	var values, mesh string
	update := func(change func()) {
		mu.Lock()
		defer mu.Unlock()
		change()
		if values == "" {
			return
		}
		v, err := inject.ParseValues([]byte(values))
		if err != nil {
			d.log.Error("the injection settings cannot be read; the last good ones stay in force",
				"configmap", "istio-sidecar-injector"+d.cfg.suffix(), "error", err)
			return
		}
		mc, _, err := api.LoadMeshConfig(mesh)
		if err != nil {
			return // the reader of the mesh configuration says so
		}
		d.injection.Set(&inject.Settings{Values: v, Mesh: mc, Revision: d.cfg.revision, NativeSidecar: d.native})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return kube.FollowConfigMap(ctx, d.clients.Kube, d.cfg.namespace, "istio-sidecar-injector"+d.cfg.suffix(),
			func(data map[string]string) { update(func() { values = data["values"] }) })
	})
	g.Go(func() error {
		return kube.FollowConfigMap(ctx, d.clients.Kube, d.cfg.namespace, "istio"+d.cfg.suffix(),
			func(data map[string]string) { update(func() { mesh = data["mesh"] }) })
	})
	return g.Wait()
}

// trustWebhooks makes the API server trust the webhooks, and lets validation
// count once the service of the control plane leads somewhere.
func (d *discovery) trustWebhooks(ctx context.Context) error {
	enforce := make(chan struct{})
	go func() {
		host := compile.Host(d.cfg.namespace, "istiod"+d.cfg.suffix(), d.cfg.clusterDomain)
		reached := d.waitRow(ctx, func(txn model.ReadTxn) (bool, <-chan struct{}) {
			key := (&model.EndpointSet{Host: host, Cluster: model.ClusterID(d.cfg.cluster),
				Namespace: d.cfg.namespace, Name: "istiod" + d.cfg.suffix()}).Key()
			set, _, watch, ok := d.store.Endpoints.GetWatch(txn, d.store.Endpoints.ByKey(key))
			return ok && len(set.Endpoints) > 0, watch
		})
		if reached {
			close(enforce)
		}
	}()
	return kube.Webhooks(ctx, d.clients.Kube, kube.WebhookConfig{
		Mutating:   "istio-sidecar-injector" + d.cfg.suffix(),
		Validating: d.cfg.validators(),
		Roots: func() ([]byte, <-chan struct{}) {
			changed := d.authority.Changed()
			return d.authority.RootPEM(), changed
		},
		Enforce:   enforce,
		Namespace: d.cfg.namespace,
		Service:   "istiod" + d.cfg.suffix(),
		Logger:    d.log,
	})
}

// monitoring serves metrics, and what helps to find a mistake. The latter shows
// all of the mesh, and is not for everybody.
func (d *discovery) monitoring(s *discoveryServers) http.Handler {
	pages := http.NewServeMux()
	pages.Handle("/debug/syncz", d.xds.SyncHandler())
	pages.Handle("/debug/endpointz", dump.Endpoints(d.store))
	pages.Handle("/debug/configz", dump.Config(d.store))
	pages.Handle("/debug/clusterz", dump.Clusters(d.store))
	pages.HandleFunc("/debug/viewz", func(w http.ResponseWriter, _ *http.Request) {
		for _, key := range d.source.Views() {
			fmt.Fprintln(w, key)
		}
	})
	pages.HandleFunc("/debug/pprof/", pprof.Index)
	pages.HandleFunc("/debug/pprof/profile", pprof.Profile)
	pages.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	pages.HandleFunc("/debug/pprof/trace", pprof.Trace)

	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("/ready", s.answerReady)
	mux.HandleFunc("/version", serveVersion)
	mux.Handle("/debug/", newDebugAccess(d.clients.Kube, d.log).guard(pages))
	return mux
}

// tlsListener wraps a listener; nil stays nil.
func tlsListener(l net.Listener, c *tls.Config) net.Listener {
	if l == nil {
		return nil
	}
	return tls.NewListener(l, c)
}
