package xds

import "strings"

// The types of resources that discovery has.
const (
	TypeCluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	TypeEndpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	TypeListener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	TypeRoute    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	// TypeVirtualHost are the virtual hosts of route configurations that many
	// hosts share (VHDS): each a resource of its own, for the proxies that say
	// that they take them so (FeatureVirtualHosts).
	TypeVirtualHost = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
	// TypeNameTable is Istio's. Only sidecars that answer DNS ask for it; see
	// package nds.
	TypeNameTable = "type.googleapis.com/istio.networking.nds.v1.NameTable"
	// TypeSecret is certificates and keys that gateways show to clients from outside
	// of the mesh (SDS). A workload's own come from elsewhere.
	TypeSecret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// SecretPrefix begins the name of a TypeSecret; after it stands the Kubernetes Secret's.
const SecretPrefix = "kubernetes://"

// CACertSuffix ends the name of a TypeSecret that holds roots, by which clients are
// judged, in place of a certificate.
const CACertSuffix = "-cacert"

// SystemRoots stands for the roots of the system: a stock Envoy reads the file, the built-in
// proxy asks the system, whose bundle may stand elsewhere, or has its own.
const SystemRoots = "/etc/ssl/certs/ca-certificates.crt"

// HTTPOptions is the name under which a cluster has its HTTP settings, in
// typed_extension_protocol_options.
const HTTPOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// Types lists the types of resources in the order in which proxies ask for them
// and discovery pushes them: a listener or a virtual host never refers to a cluster
// that the proxy has not been told of, and a name never leads to an address without
// a listener.
// Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations
func Types() []string {
	return []string{TypeCluster, TypeEndpoint, TypeListener, TypeRoute, TypeVirtualHost, TypeNameTable, TypeSecret}
}

// Rank is a type's place in that order. Types that discovery does not have come
// last, all at the same place: len(Types()).
func Rank(typeURL string) int {
	switch typeURL {
	case TypeCluster:
		return 0
	case TypeEndpoint:
		return 1
	case TypeListener:
		return 2
	case TypeRoute:
		return 3
	case TypeVirtualHost:
		return 4
	case TypeNameTable:
		return 5
	case TypeSecret:
		return 6
	}
	return 7
}

// Known tells whether discovery has resources of the type.
func Known(typeURL string) bool { return Rank(typeURL) < Rank("") }

// Short is the name of a type in logs, metrics and debug output: cds, eds, lds,
// rds, nds, sds, and for any other type the name of its message.
func Short(typeURL string) string {
	switch typeURL {
	case TypeCluster:
		return "cds"
	case TypeEndpoint:
		return "eds"
	case TypeListener:
		return "lds"
	case TypeRoute:
		return "rds"
	case TypeVirtualHost:
		return "vhds"
	case TypeNameTable:
		return "nds"
	case TypeSecret:
		return "sds"
	}
	return typeURL[strings.LastIndexByte(typeURL, '.')+1:]
}
