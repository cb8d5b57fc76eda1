package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/inject"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/resources"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// discoveryConfig is what the command line and the environment say.
type discoveryConfig struct {
	pod           string
	namespace     string
	revision      string
	cluster       string
	network       string
	clusterDomain string
	globalDomain  string
	jwtPolicy     string
	logLevel      string
	logFormat     string
	names         []string

	// defaultCertTTL and maxCertTTL are the lifetimes of workload
	// certificates: when none is asked for, and at most.
	defaultCertTTL, maxCertTTL time.Duration
	// connectionAge is how long proxies' connections last; see serve.Config.
	connectionAge time.Duration

	plainAddr, tlsAddr, webhookAddr, monitorAddr, readyAddr string
	drain                                                   time.Duration
}

// newDiscoveryCommand runs the control plane: what the Deployment istiod runs.
func newDiscoveryCommand(f *kubeFlags) *cobra.Command {
	c := &discoveryConfig{}
	cmd := &cobra.Command{
		Use:   "discovery",
		Short: "Run the control plane",
		Long: `Runs the control plane of a cluster: it reads services, endpoints and
configuration, serves them to proxies (xDS), signs their certificates, injects
sidecars into pods, and validates configuration. It runs inside the cluster, as
the Deployment istiod; outside, it can be pointed at one by --kubeconfig.`,
		Example: `  isthmus discovery --cluster-id cluster-1`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.readEnvironment(cmd.Flags(), os.Getenv); err != nil {
				return err
			}
			restConfig, err := f.restConfig()
			if err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				// Most of the memory is what the cluster holds: let it
				// not double between collections.
				debug.SetGCPercent(50)
			}
			return runDiscovery(cmd.Context(), restConfig, c)
		},
	}
	host, _ := os.Hostname()
	cmd.Flags().AddFlagSet(c.flags(os.Getenv, host))
	return cmd
}

// flags are the flags of the command, with the environment's values as defaults.
func (c *discoveryConfig) flags(getenv func(string) string, host string) *pflag.FlagSet {
	env := func(name, fallback string) string { return cmp.Or(getenv(name), fallback) }
	p := pflag.NewFlagSet("discovery", pflag.ContinueOnError)
	p.StringVar(&c.pod, "pod", env("POD_NAME", host), "name of this replica, different from others' ($POD_NAME)")
	p.StringVar(&c.namespace, "pod-namespace", env("POD_NAMESPACE", defaultIstioNamespace), "namespace of the control plane ($POD_NAMESPACE)")
	p.StringVar(&c.revision, "revision", env("REVISION", "default"), "revision of the control plane ($REVISION)")
	p.StringVar(&c.cluster, "cluster-id", env("CLUSTER_ID", "Kubernetes"), "name of this cluster in the mesh ($CLUSTER_ID)")
	p.StringVar(&c.network, "network", env("NETWORK", ""), "name of the network that this cluster's pods are in ($NETWORK)")
	p.StringVar(&c.clusterDomain, "domain", env("DOMAIN_SUFFIX", "cluster.local"), "DNS domain of Kubernetes services ($DOMAIN_SUFFIX)")
	p.StringVar(&c.globalDomain, "global-domain", env("GLOBAL_DOMAIN_SUFFIX", "global"), "DNS domain of services in other clusters, NAME.NAMESPACE.global ($GLOBAL_DOMAIN_SUFFIX)")
	p.StringVar(&c.jwtPolicy, "jwt-policy", env("JWT_POLICY", ca.JWTThirdParty), "tokens that proxies may prove themselves with: third-party-jwt or first-party-jwt ($JWT_POLICY)")
	p.StringVar(&c.logLevel, "log-level", env("LOG_LEVEL", "info"), "debug, info, warn or error ($LOG_LEVEL)")
	p.StringVar(&c.logFormat, "log-format", env("LOG_FORMAT", "text"), "text or json ($LOG_FORMAT)")
	p.StringSliceVar(&c.names, "server-name", nil, "further DNS names that proxies reach this control plane by")
	p.DurationVar(&c.defaultCertTTL, "default-workload-cert-ttl", 24*time.Hour, "lifetime of a workload certificate when none is asked for ($DEFAULT_WORKLOAD_CERT_TTL)")
	p.DurationVar(&c.maxCertTTL, "max-workload-cert-ttl", 24*time.Hour, "longest lifetime of a workload certificate; who asks for more gets this ($MAX_WORKLOAD_CERT_TTL)")
	p.DurationVar(&c.connectionAge, "keepaliveMaxServerConnectionAge", 30*time.Minute, "about how long a proxy's connection lasts before it is replaced in good order")
	p.StringVar(&c.plainAddr, "grpc-addr", "", "address for xDS in plaintext, for instance :15010; whoever reaches it reads the configuration of every proxy (default: none)")
	p.StringVar(&c.tlsAddr, "secure-grpc-addr", ":15012", "address for xDS and certificates over TLS")
	p.StringVar(&c.webhookAddr, "https-addr", ":15017", "address for the webhooks")
	p.StringVar(&c.monitorAddr, "monitoring-addr", ":15014", "address for metrics and debugging")
	p.StringVar(&c.readyAddr, "http-addr", ":8080", "address for readiness")
	p.DurationVar(&c.drain, "shutdown-duration", 5*time.Second, "longest time to finish calls in when stopping")
	return p
}

// readEnvironment takes durations from the environment, by the names that
// Istio gives them, where no flag is set.
func (c *discoveryConfig) readEnvironment(flags *pflag.FlagSet, env func(string) string) error {
	for flag, name := range map[string]string{
		"default-workload-cert-ttl": "DEFAULT_WORKLOAD_CERT_TTL",
		"max-workload-cert-ttl":     "MAX_WORKLOAD_CERT_TTL",
	} {
		value := env(name)
		if value == "" || flags.Changed(flag) {
			continue
		}
		if err := flags.Set(flag, value); err != nil {
			return fmt.Errorf("$%s: %w", name, err)
		}
	}
	if c.connectionAge < time.Minute {
		return fmt.Errorf("--keepaliveMaxServerConnectionAge: %s is less than one minute: proxies would do little but connect", c.connectionAge)
	}
	return nil
}

// suffix ends the names of a revision's objects.
func (c *discoveryConfig) suffix() string {
	if c.revision == "" || c.revision == "default" {
		return ""
	}
	return "-" + c.revision
}

// validators are the validation webhooks that may call this control plane: the
// one for objects of its revision, which has Istio 1.6's name for the default's,
// and the one for all objects.
func (c *discoveryConfig) validators() []string {
	own := "istiod-" + c.namespace
	if c.suffix() != "" {
		own = "istio-validator" + c.suffix() + "-" + c.namespace
	}
	return []string{own, "istiod-default-validator"}
}

// serverNames are the DNS names that the server's certificate proves.
func (c *discoveryConfig) serverNames() []string {
	names := append([]string{}, c.names...)
	for _, svc := range []string{"istiod" + c.suffix(), "istiod", "istiod-remote", "istio-pilot"} {
		names = append(names, svc+"."+c.namespace+".svc", svc+"."+c.namespace,
			svc+"."+c.namespace+".svc."+c.clusterDomain)
	}
	return names
}

func (c *discoveryConfig) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is none of debug, info, warn and error", c.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch c.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is neither text nor json", c.logFormat)
}

// discovery is the running control plane: its parts, wired.
type discovery struct {
	cfg      *discoveryConfig
	log      *slog.Logger
	clients  kube.Clients
	registry *prometheus.Registry

	store  *model.Store
	status *kube.StatusWriter
	reader *kube.Reader
	// notHonoured follows the kinds that the reader does not read.
	notHonoured *kube.NotHonoured
	source      *resources.Source
	authority   *ca.Authority
	auth        *ca.Authenticator
	xds         *serve.Server
	injection   *inject.Live
	// native tells that the cluster knows restartable init containers.
	native bool
}

func runDiscovery(ctx context.Context, restConfig *rest.Config, cfg *discoveryConfig) error {
	log, err := cfg.logger()
	if err != nil {
		return err
	}
	klog.SetSlogLogger(log.With("from", "client-go"))
	d := &discovery{cfg: cfg, log: log, registry: prometheus.NewRegistry(), injection: &inject.Live{}}
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if d.clients, err = kube.NewClients(restConfig); err != nil {
		return err
	}
	if err := d.makeModel(); err != nil {
		return err
	}
	servers, err := d.listen(ctx)
	if err != nil {
		return err
	}
	defer servers.close()
	g, ctx := errgroup.WithContext(ctx)
	// The cluster is read while the certificate authority is set up.
	g.Go(func() error { return d.reader.Run(ctx) })
	g.Go(func() error { return d.notHonoured.Run(ctx) })
	g.Go(func() error { return d.source.Run(ctx) })
	g.Go(func() error { return servers.ready(ctx) })
	g.Go(func() error {
		if err := d.makeAuthority(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		d.serve(ctx, g, servers)
		return nil
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("stopped")
	return nil
}

func (d *discovery) makeModel() (err error) {
	if d.store, err = model.NewStore(); err != nil {
		return err
	}
	d.status = kube.NewStatusWriter(d.clients.Dynamic, d.log)
	d.reader, err = kube.NewReader(d.store, d.clients, kube.Config{
		Cluster:       model.ClusterID(d.cfg.cluster),
		Network:       d.cfg.network,
		ClusterDomain: d.cfg.clusterDomain,
		GlobalDomain:  d.cfg.globalDomain,
		Namespace:     d.cfg.namespace,
		MeshConfigMap: "istio" + d.cfg.suffix(),
		Revision:      d.cfg.revision,
		Status:        d.status,
		Logger:        d.log,
	})
	if err != nil {
		return err
	}
	d.notHonoured = kube.NewNotHonoured(d.clients, d.cfg.revision, d.log)
	d.registry.MustRegister(notInForce{d.reader.NotInForce, d.notHonoured.Count})
	d.source, err = resources.New(d.store, resources.Config{Cluster: model.ClusterID(d.cfg.cluster), GlobalDomain: d.cfg.globalDomain, Logger: d.log})
	if err != nil {
		return err
	}
	d.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "isthmus_xds_resources_built_total", Help: "xDS resources that were built and encoded.",
	}, func() float64 { return float64(d.source.Built()) }))
	return nil
}

// makeAuthority sets up what needs the API server: the trust domain, the root,
// and the server version. It tries until it succeeds or ctx ends: the API server
// may come after the control plane, and a wrong cacerts may be corrected.
func (d *discovery) makeAuthority(ctx context.Context) error {
	var trustDomain string
	err := d.untilReached(ctx, "read the mesh configuration", func() error {
		data, err := kube.ReadConfigMap(ctx, d.clients.Kube, d.cfg.namespace, "istio"+d.cfg.suffix())
		if err != nil {
			return err
		}
		if mc, _, err := api.LoadMeshConfig(data["mesh"]); err == nil {
			trustDomain = mc.TrustDomain
		}
		version, err := d.clients.Kube.Discovery().ServerVersion()
		if err != nil {
			return err
		}
		d.native = knowsNativeSidecars(version.Major, version.Minor)
		return nil
	})
	if err != nil {
		return err
	}
	err = d.untilReached(ctx, "load the certificate authority", func() error {
		d.authority, err = ca.Load(ctx, d.clients.Kube, ca.Config{
			Namespace: d.cfg.namespace, TrustDomain: trustDomain,
			TTL: min(d.cfg.defaultCertTTL, d.cfg.maxCertTTL), MaxTTL: d.cfg.maxCertTTL,
			Logger: d.log, Registerer: d.registry,
		})
		return err
	})
	if err != nil {
		return err
	}
	d.auth, err = ca.NewAuthenticator(d.clients.Kube, ca.AuthConfig{TrustDomain: trustDomain, JWTPolicy: d.cfg.jwtPolicy})
	if err != nil {
		return err
	}
	d.xds = serve.New(d.source, d.auth, serve.Config{
		AllowPlaintext: d.cfg.plainAddr != "", MaxAge: d.cfg.connectionAge,
		Logger: d.log, Registerer: d.registry,
	})
	return nil
}

// untilReached repeats what failed, with a log line each time that it does.
func (d *discovery) untilReached(ctx context.Context, what string, do func() error) error {
	wait := 200 * time.Millisecond
	for {
		err := do()
		if err == nil {
			return nil
		}
		d.log.Error("cannot "+what+"; trying again", "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// knowsNativeSidecars tells whether init containers may be restartable by
// default: since Kubernetes 1.29.
func knowsNativeSidecars(major, minor string) bool {
	var a, b int
	// Some vendors write the minor version as 29+.
	if _, err := fmt.Sscanf(major+" "+minor, "%d %d", &a, &b); err != nil {
		return false
	}
	return a > 1 || b >= 29
}
