package discovery

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/kube/clusters"
	"github.com/isthmus-mesh/isthmus/model"
)

// Config says whose control plane it is, and how it behaves. [Default] has the
// values of what is left open; nothing of it may be empty but where it says so.
type Config struct {
	// Clients talk to the API server of the cluster that the control plane
	// is part of.
	Clients kube.Clients
	// Pod is the name of this replica, different from others': they elect by
	// it who writes the status of objects.
	Pod string
	// Namespace holds the control plane and the objects that are its own.
	Namespace string
	// Revision is that of the control plane. It ends the names of its
	// objects, unless it is "default", which it is when empty.
	Revision string

	// Cluster is the cluster's id in the mesh.
	Cluster model.ClusterID
	// Network is the one that the cluster's pods are in; it may be empty.
	Network string
	// ClusterDomain is the DNS domain of Kubernetes services.
	ClusterDomain string
	// GlobalDomain is the DNS domain of services in other clusters,
	// NAME.NAMESPACE.GlobalDomain.
	GlobalDomain string
	// ServerNames are further DNS names that proxies reach the control plane
	// by: its certificate proves them beside those of its Services. There may
	// be none.
	ServerNames []string

	// Kubeconfigs are what kubeconfigs in the Secrets of other clusters may
	// have beside the harmless: nothing when empty.
	Kubeconfigs []clusters.Option

	// JWTPolicy names the tokens that proxies may prove themselves with:
	// identity.JWTThirdParty or identity.JWTFirstParty.
	JWTPolicy string
	// DefaultCertTTL and MaxCertTTL are the lifetimes of workload
	// certificates: when none is asked for, and at most; one minute or more.
	// When the default is above the maximum, the maximum counts.
	DefaultCertTTL, MaxCertTTL time.Duration
	// ConnectionAge is about how long a proxy's connection lasts, see
	// serve.Config; one minute or more.
	ConnectionAge time.Duration
	// StopDelay is how long the control plane serves on, not ready, once it is
	// told to stop: the API server and the proxies go on calling it until they have
	// heard that.
	StopDelay time.Duration
	// Drain is how long calls have to finish when the control plane stops. Streams
	// of proxies are ended one after another during the first part of it.
	Drain time.Duration

	// Listen is where it is reached.
	Listen Addresses
	// Logger takes the log.
	Logger *slog.Logger
	// Registry takes the metrics, and is what is scraped; one is made when nil.
	Registry Registry
}

// Registry takes metrics and gives them out, as *prometheus.Registry does.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Addresses are where a control plane is reached, HOST:PORT each. What is empty
// is not served.
type Addresses struct {
	// XDS takes streams and certificate requests over TLS.
	XDS string
	// PlainXDS takes streams in plaintext: whoever reaches it reads the
	// configuration of every proxy.
	PlainXDS string
	// Webhooks takes the API server's calls over TLS: injection, validation.
	Webhooks string
	// Monitoring serves /metrics, /ready, /version, and to some /debug/.
	Monitoring string
	// Readiness serves /ready.
	Readiness string
}

// Default returns the configuration of a control plane of which nothing is said:
// it lacks Clients, Pod and Listen. The names are those of Istio.
func Default() Config {
	return Config{
		Namespace: api.DefaultNamespace,
		Revision:  api.DefaultRevision,

		Cluster:       "Kubernetes",
		ClusterDomain: api.DefaultClusterDomain,
		GlobalDomain:  api.DefaultGlobalDomain,

		JWTPolicy:      identity.JWTThirdParty,
		DefaultCertTTL: 24 * time.Hour,
		MaxCertTTL:     24 * time.Hour,
		ConnectionAge:  30 * time.Minute,
		StopDelay:      3 * time.Second,
		Drain:          5 * time.Second,

		Logger: slog.Default(),
	}
}

// validate tells all that is wrong.
func (c *Config) validate() error {
	var wrong []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}

	want(c.Clients.Kube != nil && c.Clients.Dynamic != nil && c.Clients.Metadata != nil,
		"there are clients missing for the API server")
	want(c.Logger != nil, "there is no logger")
	for _, f := range []struct{ what, value string }{
		{"name of this replica", c.Pod},
		{"namespace of the control plane", c.Namespace},
		{"cluster id", string(c.Cluster)},
		{"DNS domain of the cluster", c.ClusterDomain},
		{"DNS domain of other clusters", c.GlobalDomain},
	} {
		want(f.value != "", "the %s is empty", f.what)
	}

	if err := identity.CheckJWTPolicy(c.JWTPolicy); err != nil {
		wrong = append(wrong, err)
	}
	// The zero value is a default of package ca's and not what was asked for.
	want(c.DefaultCertTTL != 0 && c.MaxCertTTL != 0, "certificates of workloads have no lifetime")
	if err := c.authority("").Validate(); err != nil {
		wrong = append(wrong, err)
	}
	want(c.ConnectionAge >= time.Minute,
		"a connection age of %s is less than one minute: proxies would do little but connect", c.ConnectionAge)
	want(c.StopDelay >= 0, "the time to serve on in after being told to stop is negative: %s", c.StopDelay)
	want(c.Drain >= 0, "the time to finish calls in is negative: %s", c.Drain)

	return errors.Join(wrong...)
}

// authority is the part of the configuration that the certificate authority has.
func (c *Config) authority(trustDomain string) ca.Config {
	return ca.Config{
		Namespace:   c.Namespace,
		TrustDomain: trustDomain,
		TTL:         min(c.DefaultCertTTL, c.MaxCertTTL),
		MaxTTL:      c.MaxCertTTL,
		Logger:      c.Logger,
	}
}

// suffix ends the names of a revision's objects.
func (c *Config) suffix() string {
	if c.Revision == "" || c.Revision == api.DefaultRevision {
		return ""
	}
	return "-" + c.Revision
}

// The names of the control plane's own objects in its namespace, as the charts
// give them.
func (c *Config) service() string            { return "istiod" + c.suffix() }
func (c *Config) meshConfigMap() string      { return "istio" + c.suffix() }
func (c *Config) injectionConfigMap() string { return "istio-sidecar-injector" + c.suffix() }
func (c *Config) mutatingWebhook() string    { return "istio-sidecar-injector" + c.suffix() }

// validators are the validation webhooks that may call this control plane: the
// one for objects of its revision, which has Istio 1.6's name for the default's,
// and the one for all objects.
func (c *Config) validators() []string {
	own := "istiod-" + c.Namespace
	if c.suffix() != "" {
		own = "istio-validator" + c.suffix() + "-" + c.Namespace
	}
	return []string{own, "istiod-default-validator"}
}

// serverNames are the DNS names that the server's certificate proves.
func (c *Config) serverNames() []string {
	names := append([]string{}, c.ServerNames...)
	for _, svc := range []string{c.service(), "istiod", "istiod-remote", "istio-pilot"} {
		names = append(names,
			svc+"."+c.Namespace+".svc",
			svc+"."+c.Namespace,
			svc+"."+c.Namespace+".svc."+c.ClusterDomain)
	}
	return names
}
