package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/install/values"
)

// TestPilotEnv: what discovery reads of its environment, install knows of, and
// warns of nothing that acts.
func TestPilotEnv(t *testing.T) {
	usage := newDiscoveryCommand(&kubeFlags{}).Flags().FlagUsages()
	names := regexp.MustCompile(`\(\$([A-Z_]+)\)`).FindAllStringSubmatch(usage, -1)
	if len(names) < 5 {
		t.Fatalf("no variables in %s", usage)
	}
	for _, n := range names {
		if !slices.Contains(values.PilotEnv(), n[1]) {
			t.Errorf("discovery reads %s, and values.PilotEnv does not list it", n[1])
		}
	}
}

// TestDiscoveryFlags: by Istio's names, and flags count before the environment.
func TestDiscoveryFlags(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		env  map[string]string
		want func(c *discovery.Config) bool
		says string
	}{
		"nothing": {
			want: func(c *discovery.Config) bool {
				return c.Listen.PlainXDS == "" && c.MaxCertTTL == 24*time.Hour && c.ConnectionAge == 30*time.Minute
			},
		},
		"Istio's names": {
			args: []string{"--keepaliveMaxServerConnectionAge=10m"},
			env: map[string]string{
				"MAX_WORKLOAD_CERT_TTL":     "48h",
				"DEFAULT_WORKLOAD_CERT_TTL": "12h",
				"CLUSTER_ID":                "cluster-1",
			},
			want: func(c *discovery.Config) bool {
				return c.MaxCertTTL == 48*time.Hour && c.DefaultCertTTL == 12*time.Hour &&
					c.ConnectionAge == 10*time.Minute && c.Cluster == "cluster-1"
			},
		},
		"flag before environment": {
			args: []string{"--max-workload-cert-ttl=36h"},
			env:  map[string]string{"MAX_WORKLOAD_CERT_TTL": "48h"},
			want: func(c *discovery.Config) bool { return c.MaxCertTTL == 36*time.Hour },
		},
		"not a duration": {
			env:  map[string]string{"MAX_WORKLOAD_CERT_TTL": "2 days"},
			says: "$MAX_WORKLOAD_CERT_TTL",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &discoveryFlags{config: discovery.Default()}
			getenv := func(name string) string { return tt.env[name] }
			flags := d.flags(getenv, "host")
			if err := flags.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			err := readCertTTLs(flags, getenv)
			switch {
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("got %v, want an error that says %q", err, tt.says)
			case tt.says == "" && err != nil:
				t.Error(err)
			case tt.want != nil && !tt.want(&d.config):
				t.Errorf("got %+v", d.config)
			}
		})
	}
}
