package inject

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// ownEnv are the variables that say who the proxy is, whom it obeys, and what
// it is to do: injection sets them, and a pod may not.
func ownEnv(name string) bool {
	switch name {
	case "ISTIO_META_CLUSTER_ID", "ISTIO_META_NETWORK", "ISTIO_META_MESH_ID", "ISTIO_META_WORKLOAD_NAME", "ISTIO_META_OWNER",
		"ISTIO_META_INTERCEPTION_MODE", "ISTIO_META_APP_CONTAINERS", "ISTIO_META_POD_PORTS",
		"ISTIO_META_LABELS", "ISTIO_META_SERVICE_ACCOUNT", "ISTIO_META_NAMESPACE", "ISTIO_META_NAME", "ISTIO_META_INSTANCE_IPS":
		return true
	}
	return false
}

// podEnv are the variables, besides ISTIO_META_*, that a pod may set for its
// proxy: how it takes its leave, how it logs, what it takes of the node.
func podEnv(name string) bool {
	switch name {
	case "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "MINIMUM_DRAIN_DURATION", stopDelayEnv, "LOG_FORMAT", "GOMAXPROCS", "GOGC", "GOMEMLIMIT":
		return true
	}
	return false
}

// idleEnv are metadata that switch something on in Istio's proxy that this one
// does not have.
func idleEnv(name string) bool {
	switch name {
	case "ISTIO_META_ENABLE_HBONE", "ISTIO_META_IDLE_TIMEOUT", "ISTIO_META_ROUTER_MODE", "ISTIO_META_REQUESTED_NETWORK_VIEW", "ISTIO_META_UNPRIVILEGED_POD":
		return true
	}
	return false
}

// checkEnv tells whether a pod may set a variable of its proxy, and warns of
// one without effect. Whoever may write pods in a namespace is not whoever runs
// the mesh: the list names what may be set, all else is refused.
func checkEnv(name string) (warning string, err error) {
	if errs := validation.IsEnvVarName(name); len(errs) > 0 {
		return "", fmt.Errorf("%q is not the name of an environment variable", name)
	}

	switch {
	case ownEnv(name):
		return "", fmt.Errorf("%s is set by the mesh, and not for a pod to choose; remove it", name)
	case idleEnv(name):
		return name + " has no effect: the proxy does not know it", nil
	case podEnv(name), strings.HasPrefix(name, "ISTIO_META_"):
		return "", nil
	}
	return "", fmt.Errorf("%s may not be set by a pod; what may is ISTIO_META_*, EXIT_ON_ZERO_ACTIVE_CONNECTIONS, MINIMUM_DRAIN_DURATION, APPLICATION_STOP_DELAY, LOG_FORMAT, GOMAXPROCS, GOGC and GOMEMLIMIT (for the whole mesh, meshConfig.defaultConfig.proxyMetadata takes others)", name)
}
