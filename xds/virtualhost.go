package xds

import "strings"

// FeatureVirtualHosts is how a proxy says, in the client features of its node, that
// it takes the virtual hosts of a route configuration as resources of their own. It
// is told nothing else of them then, on delta streams; every other proxy gets whole
// route configurations, and so does Envoy: older versions refuse the new form over
// ADS, and 1.40 takes it, but does not say of which route configurations it wants the
// virtual hosts (it asks for single ones, on demand), and forgets those that come
// before it has a listener for them.
const FeatureVirtualHosts = "isthmus.vhds"

// VirtualHostName is the name of a virtual host as a resource. Hosts have no slash.
// Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/vhds
func VirtualHostName(routeConfig, host string) string { return routeConfig + "/" + host }

// SubscribedAs is the name to subscribe to for a resource: its own, but for virtual
// hosts. Those of a route configuration are all meant by its name, which is what
// comes before the last slash of theirs. A name without one is itself.
func SubscribedAs(typeURL, name string) string {
	if typeURL != TypeVirtualHost {
		return name
	}
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return name
}
