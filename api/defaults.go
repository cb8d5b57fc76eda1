package api

// What the mesh goes by where nobody says otherwise. The names are Istio's, since
// users type them.
const (
	// DefaultNamespace holds the control plane, and the configuration that is
	// for all namespaces.
	DefaultNamespace = "istio-system"
	// DefaultRevision is the control plane that has no other name.
	DefaultRevision = "default"
	// DefaultClusterDomain is the DNS domain of Kubernetes Services.
	DefaultClusterDomain = "cluster.local"
	// DefaultGlobalDomain is the DNS domain of Services in other clusters:
	// NAME.NAMESPACE.global.
	DefaultGlobalDomain = "global"
)

// Labels that choose a control plane.
const (
	// LabelRevision, on a namespace or pod, names the control plane that
	// injects it; on a configuration object, the only one that reads it.
	LabelRevision = "istio.io/rev"
	// LabelInjection is "enabled" on a namespace that the default revision
	// injects, and "disabled" on one that none does.
	LabelInjection = "istio-injection"
)
