package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/xds"
)

// Kind is what the proxy stands in front of.
type Kind string

// The kinds, as the first part of a node id has them.
const (
	Sidecar Kind = xds.KindSidecar // one pod's application
	Router  Kind = xds.KindRouter  // a gateway: a cluster or a network
)

// DefaultDiscovery is where discovery is in a default installation.
const DefaultDiscovery = "istiod.istio-system.svc:15012"

// Config is what an [Agent] needs.
type Config struct {
	Kind Kind
	// Who and where the pod is.
	Pod, Namespace, ServiceAccount string
	TrustDomain                    string
	IP                             netip.Addr
	// DNSDomain is the cluster's, cluster.local when empty.
	DNSDomain string
	// Meta is the node's metadata, by key without prefix: CLUSTER_ID, NETWORK,
	// ...
	Meta map[string]string
	// LabelsFile holds the pod's labels as the downward API writes them; it
	// may be missing.
	LabelsFile string

	// Discovery and CA are HOST:PORT.
	Discovery, CA string
	// ServerName is what discovery's certificate must carry.
	ServerName string
	TokenFile  string
	RootFile   string
	StateDir   string

	// Probers are the application's probes, by path; see ParseProbers.
	Probers map[string]Prober
	// Scrape says where the application's metrics are; nil when it has none,
	// or they are not to be merged with the proxy's.
	Scrape *Scrape
	// DrainFor is how long connections get to end after SIGTERM, at most;
	// DrainAtLeast is how long new ones are taken meanwhile, for callers that
	// have not yet heard that the pod goes.
	DrainFor, DrainAtLeast time.Duration
	// DrainUntilIdle waits for the last connection without the bound of
	// DrainFor.
	DrainUntilIdle bool
	// AppListens tells whether the application has a port open. As long as it
	// does the proxy stays, after SIGTERM, whatever the other settings say: what
	// reaches the pod is served. Nil for a proxy that outlives its application,
	// or has none. It is asked repeatedly.
	AppListens func() (bool, error)
	// StopDelay is how long the hook lasts by which the application's SIGTERM
	// comes later than the pod's end.
	StopDelay time.Duration

	// DNS makes the proxy a name server for its pod; nil leaves that out.
	DNS    *DNS
	Ports  Ports
	Engine Engine
	// Identity replaces the one that the agent would make of the fields above,
	// if the engine needs it earlier; see NewIdentity.
	Identity *identity.Source
	Logger   *slog.Logger
	// Level is changed by POST /logging?level=LEVEL; nil leaves that out.
	Level *slog.LevelVar
	// Registry takes the agent's metrics and is what is scraped.
	Registry Registry
}

// Registry takes metrics and gives them out, as *prometheus.Registry does.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Ports are the agent's own; a port of 0 takes a free one, for tests.
type Ports struct {
	Status, Health, Metrics, Admin uint16
	// Host is the address that all but Admin listen on; empty is all addresses.
	Host string
}

// DefaultPorts are Istio's.
func DefaultPorts() Ports { return Ports{Status: 15020, Health: 15021, Metrics: 15090, Admin: 15000} }

func (c *Config) validate() error {
	if c.Kind != Sidecar && c.Kind != Router {
		return fmt.Errorf("kind %q: want %s or %s", c.Kind, Sidecar, Router)
	}
	for _, f := range []struct{ what, value string }{
		{"pod name (POD_NAME)", c.Pod},
		{"namespace (POD_NAMESPACE)", c.Namespace},
		{"service account (SERVICE_ACCOUNT)", c.ServiceAccount},
		{"discovery address", c.Discovery},
		{"root file", c.RootFile},
	} {
		if f.value == "" {
			return fmt.Errorf("the %s is missing", f.what)
		}
	}

	if !c.IP.IsValid() {
		return errors.New("the pod's address (INSTANCE_IP) is missing")
	}
	if c.Registry == nil || c.Logger == nil {
		return errors.New("registry and logger are needed")
	}
	if c.DrainFor < 0 || c.DrainAtLeast < 0 || c.StopDelay < 0 {
		return errors.New("drain durations cannot be negative")
	}
	if err := c.checkDNS(); err != nil {
		return err
	}
	if c.CA == "" {
		c.CA = c.Discovery
	}
	if c.DNSDomain == "" {
		c.DNSDomain = identity.DefaultTrustDomain
	}
	if c.TrustDomain == "" {
		c.TrustDomain = identity.DefaultTrustDomain
	}

	for _, addr := range []string{c.Discovery, c.CA} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("address %q: want HOST:PORT: %w", addr, err)
		}
	}

	if c.ServerName == "" {
		c.ServerName = serverName(c.Discovery)
	}

	// The bound of the whole bounds its first part as well.
	if !c.DrainUntilIdle {
		c.DrainAtLeast = min(c.DrainAtLeast, c.DrainFor)
	}
	return c.ID().Validate()
}

// ID is the workload's identity.
func (c *Config) ID() identity.ID {
	return identity.ID{TrustDomain: c.TrustDomain, Namespace: c.Namespace, ServiceAccount: c.ServiceAccount}
}

// serverName is the name that discovery's certificate must carry. Whatever
// Service of a control plane the address names (istiod-REVISION, istiod-remote),
// that is istiod.NAMESPACE.svc; for a bare IP address, which no certificate
// carries, it is that of a default installation; any other host is its own name.
func serverName(address string) string {
	host, _, err := net.SplitHostPort(address)
	if _, perr := netip.ParseAddr(host); err != nil || perr == nil {
		host, _, _ = net.SplitHostPort(DefaultDiscovery)
	}
	label := strings.Split(host, ".")
	if len(label) >= 3 && strings.HasPrefix(label[0], "istiod") && label[2] == "svc" {
		return "istiod." + label[1] + ".svc"
	}
	return host
}

// NewIdentity makes the identity source that cfg describes.
func NewIdentity(cfg Config) (*identity.Source, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return identity.NewSource(identity.Config{
		ID:         cfg.ID(),
		CA:         &identity.CAClient{Address: cfg.CA, TokenFile: cfg.TokenFile, Cluster: cfg.Meta["CLUSTER_ID"]},
		ServerName: cfg.ServerName,
		RootFile:   cfg.RootFile,
		StateDir:   cfg.StateDir,
		Logger:     cfg.Logger.With("part", "identity"),
	})
}
