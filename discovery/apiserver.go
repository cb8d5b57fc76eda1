package discovery

import (
	"context"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/inject"
	"github.com/isthmus-mesh/isthmus/internal/backoff"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// reachAPIServer sets up what needs the API server: the trust domain, the root,
// and what the cluster's version allows. It tries until it succeeds or ctx ends:
// the API server may come after the control plane, and a wrong cacerts may be
// corrected.
func (s *Server) reachAPIServer(ctx context.Context) error {
	var trustDomain string
	err := s.untilReached(ctx, "read the mesh configuration", func() (err error) {
		if trustDomain, err = s.trustDomain(ctx); err != nil {
			return err
		}
		server, err := s.cfg.Clients.Kube.Discovery().ServerVersion()
		if err != nil {
			return err
		}
		if s.nativeSidecars, err = inject.KnowsNativeSidecars(server); err != nil {
			// Proxies are ordinary containers then, which every version knows.
			s.log.Warn("cannot tell whether the cluster restarts init containers", "error", err)
		}
		return nil
	})
	if err != nil {
		return err
	}

	authority := s.cfg.authority(trustDomain)
	authority.Registerer = s.registry
	err = s.untilReached(ctx, "load the certificate authority", func() (err error) {
		s.authority, err = ca.Load(ctx, s.cfg.Clients.Kube, authority)
		return err
	})
	if err != nil {
		return err
	}

	s.auth, err = ca.NewAuthenticator(s.cfg.Clients.Kube, ca.AuthConfig{
		Cluster:     string(s.cfg.Cluster),
		Remote:      func(cluster string) kubernetes.Interface { return s.remotes.Client(model.ClusterID(cluster)) },
		TrustDomain: trustDomain,
		JWTPolicy:   s.cfg.JWTPolicy,
	})
	if err != nil {
		return err
	}
	s.xds = serve.New(s.source, s.auth, serve.Config{
		AllowPlaintext: s.cfg.Listen.PlainXDS != "",
		MaxAge:         s.cfg.ConnectionAge,
		Farewell:       s.cfg.Drain / 2,
		Logger:         s.log,
		Registerer:     s.registry,
	})
	return nil
}

// trustDomain is that of the mesh configuration; empty, which is the default's,
// when there is none.
func (s *Server) trustDomain(ctx context.Context) (string, error) {
	data, err := kube.ReadConfigMap(ctx, s.cfg.Clients.Kube, s.cfg.Namespace, s.cfg.meshConfigMap())
	if err != nil {
		return "", err
	}
	mc, _, err := api.LoadMeshConfig(data["mesh"])
	if err != nil {
		return "", nil // the reader of the mesh configuration says so
	}
	return mc.TrustDomain, nil
}

// untilReached repeats what failed, with a log line each time that it does.
func (s *Server) untilReached(ctx context.Context, what string, do func() error) error {
	delays := backoff.Delays{First: 200 * time.Millisecond, Most: 5 * time.Second}
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.log.Error("cannot "+what+"; trying again", "error", err)
		if err := delays.Wait(ctx); err != nil {
			return err
		}
	}
}
