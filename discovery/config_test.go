package discovery

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	fakemetadata "k8s.io/client-go/metadata/fake"

	"github.com/isthmus-mesh/isthmus/kube"
)

// complete is a configuration that nothing is wrong with.
func complete() Config {
	cfg := Default()
	cfg.Pod = "istiod-1"
	cfg.Clients = kube.Clients{
		Kube:     fake.NewClientset(),
		Dynamic:  fakedynamic.NewSimpleDynamicClient(runtime.NewScheme()),
		Metadata: fakemetadata.NewSimpleMetadataClient(runtime.NewScheme()),
	}
	return cfg
}

// TestConfigIsChecked: what is wrong is told when the control plane is made, and
// not when it first matters, hours later or in a loop.
func TestConfigIsChecked(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"clients missing":                                  func(c *Config) { c.Clients.Metadata = nil },
		"no logger":                                        func(c *Config) { c.Logger = nil },
		"the name of this replica is empty":                func(c *Config) { c.Pod = "" },
		"the namespace of the control plane is empty":      func(c *Config) { c.Namespace = "" },
		"the cluster id is empty":                          func(c *Config) { c.Cluster = "" },
		`JWT policy "none" is neither third-party-jwt nor`: func(c *Config) { c.JWTPolicy = "none" },
		"last 1s by default and 24h0m0s at most":           func(c *Config) { c.DefaultCertTTL = time.Second },
		"last 1s by default and 1s at most":                func(c *Config) { c.MaxCertTTL = time.Second },
		"at most, a root 87600h0m0s":                       func(c *Config) { c.MaxCertTTL = 100_000 * time.Hour },
		"have no lifetime":                                 func(c *Config) { c.DefaultCertTTL = 0 },
		"connection age of 1s is less than one minute":     func(c *Config) { c.ConnectionAge = time.Second },
		"finish calls in is negative":                      func(c *Config) { c.Drain = -1 },
		"serve on in after being told to stop is negative": func(c *Config) { c.StopDelay = -1 },
	} {
		cfg := complete()
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want an error that says %q", err, says)
		}
	}
}

// TestRevisionNamesItsObjects: by the names that the charts give them.
func TestRevisionNamesItsObjects(t *testing.T) {
	for revision, want := range map[string][]string{
		"":        {"istiod", "istio", "istiod-istio-system"},
		"default": {"istiod", "istio", "istiod-istio-system"},
		"canary":  {"istiod-canary", "istio-canary", "istio-validator-canary-istio-system"},
	} {
		cfg := Default()
		cfg.Revision = revision
		got := append([]string{cfg.service(), cfg.meshConfigMap()}, cfg.validators()...)
		if !slices.Equal(got, append(want, "istiod-default-validator")) {
			t.Errorf("revision %q: %v", revision, got)
		}
		if names := cfg.serverNames(); !slices.Contains(names, want[0]+".istio-system.svc.cluster.local") {
			t.Errorf("revision %q: the certificate proves %v", revision, names)
		}
	}
}
