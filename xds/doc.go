// Package xds is what discovery and its proxies must agree on beside the protos
// of Envoy: the types of resources and the order in which they are pushed, the
// node id by which a proxy introduces itself, and the protocol names (ALPN) by
// which sidecars know each other's connections.
//
// It holds names and their meaning only: streams are served by package
// xds/serve and followed by package xds/fetch, and resources are made by package
// xds/resources.
package xds
