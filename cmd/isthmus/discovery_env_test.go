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
