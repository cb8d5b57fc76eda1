package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/kube/clusters"
)

// discoveryFlags are what the command line and the environment say of the
// control plane.
type discoveryFlags struct {
	config              discovery.Config
	kubeconfigs         string
	logLevel, logFormat string
}

// newDiscoveryCommand runs the control plane: what the Deployment istiod runs.
func newDiscoveryCommand(f *kubeFlags) *cobra.Command {
	d := &discoveryFlags{config: discovery.Default()}
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
			if err := readCertTTLs(cmd.Flags(), os.Getenv); err != nil {
				return err
			}
			server, err := d.server(f)
			if err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				// Most of the memory is what the cluster holds: let it
				// not double between collections.
				debug.SetGCPercent(50)
			}
			return server.Run(cmd.Context())
		},
	}
	host, _ := os.Hostname()
	cmd.Flags().AddFlagSet(d.flags(os.Getenv, host))
	return cmd
}

// flags are the flags of the command, with the environment's values as defaults.
func (d *discoveryFlags) flags(getenv func(string) string, host string) *pflag.FlagSet {
	env := func(name, fallback string) string { return cmp.Or(getenv(name), fallback) }
	c, p := &d.config, pflag.NewFlagSet("discovery", pflag.ContinueOnError)

	p.StringVar(&c.Pod, "pod", env("POD_NAME", host), "name of this replica, different from others' ($POD_NAME)")
	p.StringVar(&c.Namespace, "pod-namespace", env("POD_NAMESPACE", c.Namespace), "namespace of the control plane ($POD_NAMESPACE)")
	p.StringVar(&c.Revision, "revision", env("REVISION", c.Revision), "revision of the control plane ($REVISION)")
	p.StringVar((*string)(&c.Cluster), "cluster-id", env("CLUSTER_ID", string(c.Cluster)), "name of this cluster in the mesh ($CLUSTER_ID)")
	p.StringVar(&c.Network, "network", env("NETWORK", c.Network), "name of the network that this cluster's pods are in ($NETWORK)")
	p.StringVar(&c.ClusterDomain, "domain", env("DOMAIN_SUFFIX", c.ClusterDomain), "DNS domain of Kubernetes services ($DOMAIN_SUFFIX)")
	p.StringVar(&c.GlobalDomain, "global-domain", env("GLOBAL_DOMAIN_SUFFIX", c.GlobalDomain), "DNS domain of services in other clusters, NAME.NAMESPACE.global ($GLOBAL_DOMAIN_SUFFIX)")
	p.StringSliceVar(&c.ServerNames, "server-name", nil, "further DNS names that proxies reach this control plane by")

	p.StringVar(&d.kubeconfigs, "insecure-kubeconfig-options", env("PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS", ""),
		"what kubeconfigs in the Secrets of other clusters may have that reaches into this pod or leaves the server unproven: any of exec, tokenFile, clientCertificate, clientKey, certificateAuthority, insecureSkipTLSVerify, by commas ($PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS)")

	p.StringVar(&c.JWTPolicy, "jwt-policy", env("JWT_POLICY", c.JWTPolicy), "tokens that proxies may prove themselves with: third-party-jwt or first-party-jwt ($JWT_POLICY)")
	p.DurationVar(&c.DefaultCertTTL, "default-workload-cert-ttl", c.DefaultCertTTL, "lifetime of a workload certificate when none is asked for ($DEFAULT_WORKLOAD_CERT_TTL)")
	p.DurationVar(&c.MaxCertTTL, "max-workload-cert-ttl", c.MaxCertTTL, "longest lifetime of a workload certificate; who asks for more gets this ($MAX_WORKLOAD_CERT_TTL)")
	p.DurationVar(&c.ConnectionAge, "keepaliveMaxServerConnectionAge", c.ConnectionAge, "about how long a proxy's connection lasts before it is replaced in good order")
	p.DurationVar(&c.StopDelay, "stop-delay", c.StopDelay, "how long to serve on, not ready, once told to stop")
	p.DurationVar(&c.Drain, "shutdown-duration", c.Drain, "longest time to finish calls in when stopping")

	p.StringVar(&c.Listen.PlainXDS, "grpc-addr", "", "address for xDS in plaintext, for instance :15010; whoever reaches it reads the configuration of every proxy (default: none)")
	p.StringVar(&c.Listen.XDS, "secure-grpc-addr", ":15012", "address for xDS and certificates over TLS")
	p.StringVar(&c.Listen.Webhooks, "https-addr", ":15017", "address for the webhooks")
	p.StringVar(&c.Listen.Monitoring, "monitoring-addr", ":15014", "address for metrics and debugging")
	p.StringVar(&c.Listen.Readiness, "http-addr", ":8080", "address for readiness")

	p.StringVar(&d.logLevel, "log-level", env("LOG_LEVEL", "info"), "debug, info, warn or error ($LOG_LEVEL)")
	p.StringVar(&d.logFormat, "log-format", env("LOG_FORMAT", "text"), "text or json ($LOG_FORMAT)")
	return p
}

// readCertTTLs takes lifetimes from the environment, by the names that Istio
// gives them, where no flag is set.
func readCertTTLs(flags *pflag.FlagSet, getenv func(string) string) error {
	for _, ttl := range []struct{ flag, variable string }{
		{"default-workload-cert-ttl", "DEFAULT_WORKLOAD_CERT_TTL"},
		{"max-workload-cert-ttl", "MAX_WORKLOAD_CERT_TTL"},
	} {
		value := getenv(ttl.variable)
		if value == "" || flags.Changed(ttl.flag) {
			continue
		}
		if err := flags.Set(ttl.flag, value); err != nil {
			return fmt.Errorf("$%s: %w", ttl.variable, err)
		}
	}
	return nil
}

// server makes the control plane that the flags describe.
func (d *discoveryFlags) server(f *kubeFlags) (*discovery.Server, error) {
	var err error
	if d.config.Logger, err = d.logger(); err != nil {
		return nil, err
	}
	klog.SetSlogLogger(d.config.Logger.With("from", "client-go"))

	if d.config.Kubeconfigs, err = clusters.ParseOptions(d.kubeconfigs); err != nil {
		return nil, fmt.Errorf("--insecure-kubeconfig-options: %w", err)
	}
	restConfig, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	if d.config.Clients, err = kube.NewClients(restConfig); err != nil {
		return nil, err
	}
	return discovery.New(d.config)
}

func (d *discoveryFlags) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(d.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is none of debug, info, warn and error", d.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch d.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is neither text nor json", d.logFormat)
}
