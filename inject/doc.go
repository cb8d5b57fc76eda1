// Package inject puts the sidecar into pods: it decides whether a pod takes
// part in the mesh, and computes the JSON patch (RFC 6902) that adds the
// proxy to it.
//
// Decide and Patch are pure. NewHandler serves them as a mutating admission
// webhook (AdmissionReview v1), Manifest applies them to files for kube-inject.
// The package does not talk to a Kubernetes API and does not watch anything:
// whoever wires it hands it Settings through a Source.
//
// A pod that should be in the mesh and cannot be is refused with a reason. It
// is never let through without its proxy. What a pod's annotations, or its own
// container istio-proxy with the image "auto", say of the proxy is laid over
// what the mesh's values say, as far as whoever may write pods may decide it:
// never over what runs as root, nor over who the proxy is.
package inject

// Names that other parts, and users, know the injected parts by.
const (
	// ProxyContainer is the container that carries the pod's traffic.
	ProxyContainer = "istio-proxy"
	// InitContainer redirects the pod's traffic to the proxy, and ends.
	InitContainer = "istio-init"
	// StatusAnnotation marks an injected pod and says what was added.
	StatusAnnotation = "sidecar.istio.io/status"
	// SkippedAnnotation tells why a pod that was selected has no proxy.
	SkippedAnnotation = "inject.isthmus.io/skipped"
	// InjectName is the label and the annotation by which one pod opts in
	// ("true") or out ("false"). The label wins.
	InjectName = "sidecar.istio.io/inject"

	proxyUID      = 1337
	statusPort    = 15020
	readinessPort = 15021
)
