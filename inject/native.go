package inject

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"
	serverversion "k8s.io/apimachinery/pkg/version"
)

// KnowsNativeSidecars tells whether the cluster of an API server restarts init
// containers whose restartPolicy is Always. It does by default since Kubernetes
// 1.29 (KEP-753).
func KnowsNativeSidecars(server *serverversion.Info) (bool, error) {
	v, err := version.ParseGeneric(server.GitVersion)
	if err != nil {
		return false, fmt.Errorf("version of the cluster: %w", err)
	}
	return v.AtLeast(version.MajorMinor(1, 29)), nil
}
