package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/kube/clusterset"
	"github.com/isthmus-mesh/isthmus/model"
)

// serve starts everything that is served, in g, until ctx ends.
func (s *Server) serve(ctx context.Context, g *errgroup.Group) {
	names := s.cfg.serverNames()
	secure := grpc.NewServer(append(s.xds.GRPCOptions(), grpc.Creds(credentials.NewTLS(s.authority.ServerTLS(names))))...)
	s.xds.Register(secure)
	ca.NewService(s.authority, s.auth).Register(secure)

	// Certificates are signed for nobody who comes in plaintext.
	plain := grpc.NewServer(s.xds.GRPCOptions()...)
	s.xds.Register(plain)

	webhooks := tlsListener(s.sockets.webhooks, s.authority.WebhookTLS(names))

	g.Go(func() error { return s.authority.Run(ctx) })
	g.Go(func() error { return s.xds.Run(ctx) })
	g.Go(func() error { return s.serveGRPC(ctx, s.sockets.xds, secure) })
	g.Go(func() error { return s.serveGRPC(ctx, s.sockets.plainXDS, plain) })
	g.Go(func() error { return s.serveHTTP(ctx, webhooks, s.webhooks()) })
	g.Go(func() error { return s.serveHTTP(ctx, s.sockets.monitoring, s.monitoring()) })
	g.Go(func() error { return s.followInjection(ctx) })
	g.Go(func() error { return s.trustWebhooks(ctx) })
	g.Go(func() error {
		return kube.Lead(ctx, s.cfg.Clients.Kube, s.cfg.Namespace, s.cfg.Pod, s.log, s.lead)
	})
	g.Go(func() error {
		s.tellReady(ctx)
		return nil
	})
	g.Go(func() error {
		s.newSpreader().run(ctx)
		return nil
	})
}

// serveGRPC serves until ctx ends. A listener that is nil is not served.
func (s *Server) serveGRPC(ctx context.Context, l net.Listener, srv *grpc.Server) error {
	if l == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(s.cfg.Drain, srv.Stop)
		defer t.Stop()
		srv.GracefulStop()
	})
	defer stop()

	if err := srv.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// tellReady lets the readiness probe succeed from when the cluster is read until
// ctx ends. It returns then.
func (s *Server) tellReady(ctx context.Context) {
	if !s.waitRead(ctx) {
		return
	}
	// Proxies of this replica are to see the endpoints that the one before it
	// showed them.
	s.remotes.WaitRead(ctx)
	s.served.Store(true)
	s.log.Info("ready", "cluster", s.cfg.Cluster, "namespace", s.cfg.Namespace, "revision", s.cfg.Revision)
	<-ctx.Done()
	s.served.Store(false)
}

// waitRead waits until the own cluster is read; it is false when ctx ended before.
func (s *Server) waitRead(ctx context.Context) bool {
	return s.waitRow(ctx, func(txn model.ReadTxn) (bool, <-chan struct{}) {
		c, _, watch, ok := s.store.Clusters.GetWatch(txn, s.store.Clusters.ByKey(string(s.cfg.Cluster)))
		return ok && c.Synced, watch
	})
}

// waitRow waits until look says yes; it is false when ctx ended before. look
// returns a channel that closes when it may say something else.
func (s *Server) waitRow(ctx context.Context, look func(model.ReadTxn) (bool, <-chan struct{})) bool {
	for {
		ok, watch := look(s.store.Read())
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

// lead does what one replica does for all, until ctx ends: it writes what became
// of configuration objects on them, and looks after the ways to other clusters.
func (s *Server) lead(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.status.Run(ctx) })
	wg.Go(func() { s.notHonoured.WriteStatus(ctx) })
	wg.Go(func() {
		if s.waitRead(ctx) {
			clusterset.NewWriter(s.cfg.Clients, s.source.Imports, s.log).Run(ctx)
		}
	})
	wg.Go(func() {
		if s.waitRead(ctx) {
			s.exports.Run(ctx)
		}
	})
	wg.Go(func() { s.remotes.Lead(ctx) })
}
