// Package fetch is the client of a discovery server: one delta ADS stream
// that is kept open for the life of a proxy.
//
// It subscribes to all clusters and listeners, and to the endpoints and routes
// that its [Handler] asks for; hands every update over in order; acknowledges
// or refuses it; and after a broken stream comes back with what it has, so that
// only differences are sent again. What is in force can be kept in a file
// ([Keep]), so that a client that starts has it before discovery answers. It
// follows the xDS protocol of
// https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol.
//
// It does not look into resources: their meaning is the handler's.
package fetch
