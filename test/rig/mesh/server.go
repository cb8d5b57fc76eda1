package mesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // on the control port
	"runtime"
	"time"

	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	securityapi "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/test/rig/pki"
	"github.com/isthmus-mesh/isthmus/xds/resources"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// ServerName is the DNS name in the certificate of the TLS port.
const ServerName = "istiod.istio-system.svc"

// Config is what a discovery process is started with.
type Config struct {
	Scene Scene
	// Plain takes xDS and SDS, TLS xDS and certificate requests, Control the
	// rig's own requests over HTTP (/change, /stats). Each is host:port.
	Plain, TLS, Control string
	// RootDir holds the root with its key, as pki.Root.Save writes it.
	RootDir string
}

// Stats is what a discovery process tells of itself.
type Stats struct {
	// Built is how many resources were built and encoded so far.
	Built uint64
	Views int
	// HeapLive is the bytes in use after a collection.
	HeapLive uint64
}

// Run serves until ctx ends. listen makes the listeners, for instance in
// another network namespace.
func Run(ctx context.Context, cfg Config, log *slog.Logger, listen func(addr string) (net.Listener, error)) error {
	root, err := pki.LoadRoot(cfg.RootDir)
	if err != nil {
		return err
	}
	store, err := model.NewStore()
	if err != nil {
		return err
	}
	if err := cfg.Scene.fill(store); err != nil {
		return err
	}
	source, err := resources.New(store, resources.Config{Cluster: Cluster, Logger: log})
	if err != nil {
		return err
	}
	ads := serve.New(source, authenticator{}, serve.Config{AllowPlaintext: true, Logger: log})
	tlsConfig, err := serverTLS(root)
	if err != nil {
		return err
	}
	plain := grpc.NewServer(ads.GRPCOptions()...)
	ads.Register(plain)
	secretv3.RegisterSecretDiscoveryServiceServer(plain, &secrets{root: root, certs: map[identity.ID]pki.Leaf{}})
	secure := grpc.NewServer(append(ads.GRPCOptions(), grpc.Creds(credentials.NewTLS(tlsConfig)))...)
	ads.Register(secure)
	securityapi.RegisterIstioCertificateServiceServer(secure, &signer{root: root})
	control := &http.Server{Handler: controls(newChanger(&cfg.Scene, store), source), ReadHeaderTimeout: time.Minute}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return source.Run(ctx) })
	g.Go(func() error { return ads.Run(ctx) })
	for _, port := range []struct {
		addr  string
		serve func(net.Listener) error
	}{{cfg.Plain, plain.Serve}, {cfg.TLS, secure.Serve}, {cfg.Control, control.Serve}} {
		g.Go(func() error {
			l, err := listen(port.addr)
			if err != nil {
				return err
			}
			return ended(port.serve(l))
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		plain.Stop()
		secure.Stop()
		return control.Close()
	})
	return g.Wait()
}

// ended drops the errors with which servers tell that they were stopped.
func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

func serverTLS(root *pki.Root) (*tls.Config, error) {
	leaf, err := root.Issue("", ServerName)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(leaf.Cert, leaf.Key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root.PEM())
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool,
		ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12}, nil
}

// controls is the HTTP interface for changes and figures.
func controls(c *changer, source *resources.Source) http.Handler {
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(v) // a caller that is gone does not matter
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /change", func(w http.ResponseWriter, r *http.Request) {
		var ch Change
		if err := json.NewDecoder(r.Body).Decode(&ch); err != nil {
			answer(w, nil, err)
			return
		}
		changed, err := c.apply(ch)
		answer(w, changed, err)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		answer(w, Stats{Built: source.Built(), Views: len(source.Views()), HeapLive: m.HeapAlloc}, nil)
	})
	mux.Handle("/debug/pprof/", http.DefaultServeMux)
	return mux
}
