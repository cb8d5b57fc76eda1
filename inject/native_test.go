package inject

import (
	"testing"

	serverversion "k8s.io/apimachinery/pkg/version"
)

func TestKnowsNativeSidecars(t *testing.T) {
	for version, want := range map[string]bool{
		"v1.28.15":            false,
		"v1.29.0":             true,
		"v1.29.4-gke.1043002": true,
		"v1.34.1+k3s1":        true,
		"v1.28.9-eks-036c24b": false,
		"v2.0.0":              true,
	} {
		if got, err := KnowsNativeSidecars(&serverversion.Info{GitVersion: version}); err != nil || got != want {
			t.Errorf("%s: %t, %v", version, got, err)
		}
	}
	if _, err := KnowsNativeSidecars(&serverversion.Info{}); err == nil {
		t.Error("no version is taken for one")
	}
}
