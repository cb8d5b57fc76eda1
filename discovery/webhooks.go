package discovery

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/inject"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
)

// webhooks are what the API server calls.
func (s *Server) webhooks() http.Handler {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_validation_total", Help: "Configuration objects that the validating webhook was asked about.",
	}, []string{"kind", "allowed"})
	s.registry.MustRegister(decisions)

	mux := http.NewServeMux()
	mux.Handle("/validate", api.NewValidator(api.ValidatorConfig{
		Logger:  s.log,
		Check:   s.reader.Check,
		Observe: func(kind string, allowed bool) { decisions.WithLabelValues(kind, fmt.Sprint(allowed)).Inc() },
	}))
	injector := inject.NewHandler(inject.Config{
		Source: s.injection, NamespaceLabels: s.namespaceLabels, Logger: s.log, Registerer: s.registry,
	})
	mux.Handle("/inject", injector)
	mux.Handle("/inject/", injector)
	return mux
}

// namespaceLabels are those of a namespace of the cluster.
func (s *Server) namespaceLabels(namespace string) (map[string]string, bool) {
	key := (&model.Namespace{Cluster: s.cfg.Cluster, Name: namespace}).Key()
	ns, _, ok := s.store.Namespaces.Get(s.store.Read(), s.store.Namespaces.ByKey(key))
	if !ok {
		return nil, false
	}
	return ns.Labels, true
}

// followInjection keeps the injection settings up to date with their two
// ConfigMaps. An edit that does not parse leaves the last good ones in force.
func (s *Server) followInjection(ctx context.Context) error {
	// Each ConfigMap is followed by a goroutine of its own; mu guards the
	// texts, and keeps the settings in the order of the edits.
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
			s.log.Error("the injection settings cannot be read; the last good ones stay in force",
				"configmap", s.cfg.injectionConfigMap(), "error", err)
			return
		}
		mc, _, err := api.LoadMeshConfig(mesh)
		if err != nil {
			return // the reader of the mesh configuration says so
		}
		s.injection.Set(&inject.Settings{Values: v, Mesh: mc, Revision: s.cfg.Revision, NativeSidecar: s.nativeSidecars})
	}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return kube.FollowConfigMap(ctx, s.cfg.Clients.Kube, s.cfg.Namespace, s.cfg.injectionConfigMap(),
			func(data map[string]string) { update(func() { values = data["values"] }) })
	})
	g.Go(func() error {
		return kube.FollowConfigMap(ctx, s.cfg.Clients.Kube, s.cfg.Namespace, s.cfg.meshConfigMap(),
			func(data map[string]string) { update(func() { mesh = data["mesh"] }) })
	})
	return g.Wait()
}

// trustWebhooks makes the API server trust the webhooks, and lets validation
// count once the service of the control plane leads somewhere.
func (s *Server) trustWebhooks(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()

	enforce := make(chan struct{})
	waiting.Go(func() {
		if s.waitRow(ctx, s.serviceLeadsSomewhere) {
			close(enforce)
		}
	})
	return kube.Webhooks(ctx, s.cfg.Clients.Kube, kube.WebhookConfig{
		Mutating:   s.cfg.mutatingWebhook(),
		Validating: s.cfg.validators(),
		Roots: func() ([]byte, <-chan struct{}) {
			changed := s.authority.Changed()
			return s.authority.RootPEM(), changed
		},
		Enforce:   enforce,
		Namespace: s.cfg.Namespace,
		Service:   s.cfg.service(),
		Logger:    s.log,
	})
}

// serviceLeadsSomewhere tells whether the control plane's Service has endpoints,
// with a channel that closes when that may have changed.
func (s *Server) serviceLeadsSomewhere(txn model.ReadTxn) (bool, <-chan struct{}) {
	endpoints, watch := s.replicas(txn)
	return len(endpoints) > 0, watch
}

// replicas are the ready endpoints of the control plane's Service, with a channel
// that closes when there may be others.
func (s *Server) replicas(txn model.ReadTxn) ([]model.Endpoint, <-chan struct{}) {
	key := (&model.EndpointSet{
		Host:      compile.Host(s.cfg.Namespace, s.cfg.service(), s.cfg.ClusterDomain),
		Cluster:   s.cfg.Cluster,
		Namespace: s.cfg.Namespace,
		Name:      s.cfg.service(),
	}).Key()
	set, _, watch, ok := s.store.Endpoints.GetWatch(txn, s.store.Endpoints.ByKey(key))
	if !ok {
		return nil, watch
	}
	return set.Endpoints, watch
}
