package main

import (
	"regexp"
	"slices"
	"testing"

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

// TestDiscoveryKnowsItsValidators: by the names that the chart gives them.
func TestDiscoveryKnowsItsValidators(t *testing.T) {
	for revision, own := range map[string]string{
		"":        "istiod-istio-system",
		"default": "istiod-istio-system",
		"canary":  "istio-validator-canary-istio-system",
	} {
		cfg := &discoveryConfig{revision: revision, namespace: "istio-system"}
		if got := cfg.validators(); !slices.Equal(got, []string{own, "istiod-default-validator"}) {
			t.Errorf("revision %q: %v", revision, got)
		}
	}
}
