package api

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Further API groups, of kinds that are not honoured.
const (
	groupTelemetry  = "telemetry.istio.io"
	groupExtensions = "extensions.istio.io"
	// groupGatewayAPI is Kubernetes' own, which several controllers serve in
	// one cluster.
	groupGatewayAPI = "gateway.networking.k8s.io"
)

// NotHonouredKind is a kind that other meshes act on and this one does not.
type NotHonouredKind struct {
	Group, Kind, Resource string
	// Security tells that objects of the kind say who may call whom: without
	// effect, they leave a door open that somebody believes shut.
	Security bool

	instead string // what works instead
}

// NotHonouredKinds lists the kinds that are not acted on, those of security
// first.
func NotHonouredKinds() []NotHonouredKind {
	const route = "requests of sidecars and of gateways are routed by a VirtualService; other traffic goes to the service's host and port as addressed"
	const machine = "list the machine under spec.endpoints of a ServiceEntry with resolution STATIC"
	const plugin = "the proxy runs no plug-ins; for tokens there is RequestAuthentication, for who may call, AuthorizationPolicy"
	return []NotHonouredKind{
		// Plug-ins run in the phases AUTHN and AUTHZ, too.
		{groupExtensions, "WasmPlugin", "wasmplugins", true, plugin},
		{groupExtensions, "TrafficExtension", "trafficextensions", true, plugin},
		{groupGatewayAPI, "BackendTLSPolicy", "backendtlspolicies", true, "open TLS in the application, or with a DestinationRule"},
		{GroupNetworking, "EnvoyFilter", "envoyfilters", false, "there is no Envoy to patch; ask for what it should do"},
		{GroupNetworking, "WorkloadEntry", "workloadentries", false, machine},
		{GroupNetworking, "WorkloadGroup", "workloadgroups", false, machine},
		{GroupNetworking, "ProxyConfig", "proxyconfigs", false, "set meshConfig.defaultConfig at install, or annotate the pod"},
		{groupTelemetry, "Telemetry", "telemetries", false, "set meshConfig.accessLogFile for logs; metrics are always on"},
		{groupGatewayAPI, "Gateway", "gateways", false, "use a Gateway of networking.istio.io"},
		{groupGatewayAPI, "HTTPRoute", "httproutes", false, route},
		{groupGatewayAPI, "GRPCRoute", "grpcroutes", false, route},
		{groupGatewayAPI, "TCPRoute", "tcproutes", false, route},
		{groupGatewayAPI, "TLSRoute", "tlsroutes", false, route},
		{groupGatewayAPI, "UDPRoute", "udproutes", false, "sidecars carry TCP only"},
	}
}

// Shared tells that objects of the kind may be another controller's: they are
// neither refused nor written to.
func (k NotHonouredKind) Shared() bool { return k.Group == groupGatewayAPI }

// Why says what it means that an object of the kind is in the cluster, and what
// works instead.
func (k NotHonouredKind) Why() string {
	switch {
	case k.Shared():
		return fmt.Sprintf("%s (%s) is not honoured yet by this mesh, and counts only where another controller acts on it: %s", k.Kind, k.Group, k.instead)
	case k.Security:
		return fmt.Sprintf("%s is not honoured yet by this version: nobody is refused by it: %s", k.Kind, k.instead)
	}
	return fmt.Sprintf("%s is not honoured yet by this version, and changes nothing: %s", k.Kind, k.instead)
}

// notHonoured tells what works instead of a kind of Istio's groups that is known
// and refused.
func notHonoured(kind string) (instead string, known bool) {
	for _, k := range NotHonouredKinds() {
		if k.Kind == kind && !k.Shared() {
			return k.instead, true
		}
	}
	return "", false
}

// NotHonouredError refuses a kind of object that the mesh does not act on.
type NotHonouredError struct{ Kind string }

// Error says what works instead.
func (e *NotHonouredError) Error() string {
	instead, ok := notHonoured(e.Kind)
	if !ok {
		instead = "remove the object"
	}
	return fmt.Sprintf("%s is not honoured yet by this version, and is refused rather than silently ignored: %s", e.Kind, instead)
}

// Discovery is how an API server tells what it serves; client-go's
// discovery.DiscoveryInterface is one.
type Discovery interface {
	ServerGroups() (*metav1.APIGroupList, error)
	ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error)
}

// ServedKind is a kind that is not honoured, as a cluster serves it.
type ServedKind struct {
	NotHonouredKind
	Version string
	// Status tells that objects of the kind have a status to write to.
	Status bool
}

// NotHonouredIn lists the kinds of NotHonouredKinds that a cluster serves, in
// that order, each in the version that the cluster prefers among those that have
// it: some kinds exist in older versions of their group only.
func NotHonouredIn(cluster Discovery) ([]ServedKind, error) {
	groups, err := cluster.ServerGroups()
	if err != nil {
		return nil, fmt.Errorf("ask the API server which groups it serves: %w", err)
	}
	kinds := NotHonouredKinds()
	found := map[NotHonouredKind]ServedKind{}
	for _, g := range groups.Groups {
		if !slices.ContainsFunc(kinds, func(k NotHonouredKind) bool { return k.Group == g.Name }) {
			continue
		}
		versions := append([]metav1.GroupVersionForDiscovery{g.PreferredVersion}, g.Versions...)
		for i, v := range versions {
			if i > 0 && v == g.PreferredVersion {
				continue
			}
			list, err := cluster.ServerResourcesForGroupVersion(v.GroupVersion)
			if err != nil {
				return nil, fmt.Errorf("ask the API server what it serves of %s: %w", v.GroupVersion, err)
			}
			for _, k := range kinds {
				if _, known := found[k]; k.Group == g.Name && !known && serves(list, k.Resource) {
					found[k] = ServedKind{k, v.Version, serves(list, k.Resource+"/status")}
				}
			}
		}
	}
	var out []ServedKind
	for _, k := range kinds {
		if s, ok := found[k]; ok {
			out = append(out, s)
		}
	}
	return out, nil
}

func serves(list *metav1.APIResourceList, resource string) bool {
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource })
}
