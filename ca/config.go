package ca

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/identity"
)

// The objects that the CA reads and writes.
const (
	// SecretPlugged is the user's signing CA, four files.
	SecretPlugged = "cacerts"
	// SecretSelfSigned is the self-signed root made when there is no cacerts.
	SecretSelfSigned = "istio-ca-secret"
	// ConfigMapRoot is the trust bundle in every namespace, under key FileRoot.
	ConfigMapRoot = "istio-ca-root-cert"
	// fieldManager owns the published ConfigMaps in server-side apply.
	fieldManager = "isthmus-ca"
)

// defaultTTL is the lifetime of a workload certificate unless told otherwise.
const defaultTTL = 24 * time.Hour

// Config is what an [Authority] needs.
type Config struct {
	// Namespace holds the Secrets; istio-system when empty.
	Namespace string
	// TrustDomain is that of every identity signed; cluster.local when empty.
	TrustDomain string
	// TTL is the lifetime of a workload certificate when none is asked for,
	// 24 h when zero, or MaxTTL when that is shorter; MaxTTL is the longest
	// that there is, 24 h when zero, or TTL when that is longer. Who asks for
	// more gets MaxTTL.
	TTL, MaxTTL time.Duration
	// RootTTL is the lifetime of a self-signed root, ten years when zero.
	RootTTL time.Duration
	// Org is the organisation in a self-signed root; the trust domain when
	// empty.
	Org    string
	Logger *slog.Logger
	// Registerer takes the metrics; none are kept when nil.
	Registerer prometheus.Registerer
}

// Validate tells what is wrong with the configuration, once its defaults are in
// place.
func (c Config) Validate() error { return c.complete() }

func (c *Config) complete() error {
	if c.Namespace == "" {
		c.Namespace = "istio-system"
	}
	if c.TrustDomain == "" {
		c.TrustDomain = identity.DefaultTrustDomain
	}

	if c.TTL == 0 {
		c.TTL = defaultTTL
		if c.MaxTTL > 0 {
			c.TTL = min(c.TTL, c.MaxTTL)
		}
	}
	if c.MaxTTL == 0 {
		c.MaxTTL = max(defaultTTL, c.TTL)
	}
	if c.RootTTL == 0 {
		c.RootTTL = 10 * 365 * 24 * time.Hour
	}
	if c.Org == "" {
		c.Org = c.TrustDomain
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}

	if c.TTL < time.Minute || c.MaxTTL < c.TTL || c.RootTTL < c.MaxTTL {
		return fmt.Errorf("ca: certificates of workloads last %s by default and %s at most, a root %s: want one minute or more, and no one of them longer than the next",
			c.TTL, c.MaxTTL, c.RootTTL)
	}

	// Of the trust domain alone, since nobody's identity is known yet.
	probe := identity.ID{TrustDomain: c.TrustDomain, Namespace: "n", ServiceAccount: "s"}
	if err := probe.Validate(); err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	return nil
}
