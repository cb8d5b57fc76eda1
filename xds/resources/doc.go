// Package resources makes the xDS resources of each proxy from the tables of the
// model, and keeps them for as long as what they were built from stays the
// same.
//
// # Who shares what
//
// Resources depend on little of a proxy, so proxies share them:
//
//   - a host (package-private type host) keeps the clusters, listeners and
//     endpoints built for it, whoever sees it; it is replaced when a Service
//     row of it is;
//   - a scope is what the proxies of one namespace of one cluster see: their
//     routes, and which hosts;
//   - a view adds what depends on the proxy: its inbound ports and their
//     policy, its network and its place. It is what a stream is given
//     (serve.View), and proxies that are alike in all this share one.
//
// # When something is rebuilt
//
// Rows are immutable, so a built resource remembers the rows that it was built
// from, and is still good while the same rows are in the tables; endpoints
// remember the watch channels of their queries besides, so that thousands of
// unchanged ones are passed over without a look-up. A change of the endpoints
// of a service rebuilds that service's load assignments and nothing else, and a
// resource is encoded once, however many proxies get it. Everything is sorted,
// so the same rows always give the same bytes and versions.
//
// The package opens no connections and knows no streams: package xds/serve does.
package resources
