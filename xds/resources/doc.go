// Package resources makes the xDS resources of each proxy from the tables of the
// model, and keeps them for as long as what they were built from stays the
// same.
//
// # Who shares what
//
// Resources depend on little of a proxy, so proxies share them:
//
//   - a host (package-private type host) keeps the clusters, listeners,
//     endpoints and virtual hosts built for it, whoever sees it; it is replaced
//     when a Service row of it is;
//   - a scope is what the proxies of one namespace of one cluster see: their
//     routes, and which hosts;
//   - a view adds what depends on the proxy: its inbound ports and their
//     policy, its network and its place. It is what a stream is given
//     (serve.View), and proxies that are alike in all this share one.
//
// # When something is rebuilt
//
// Everything that is built answers a question, and is built by reading: rows,
// whole tables, answers to other questions. What was read is noted, and the
// answer is good while all of that is as it was (memo.go; nothing else in the
// package decides it). Rows are immutable, so the same row is the same content,
// and each comes with a channel that closes when it changes, so that thousands
// of unchanged ones are passed over without a look-up. An answer that comes to
// the same as before leaves what was built from it good. So a change of the
// endpoints of a service rebuilds that service's load assignments and nothing
// else, and a resource is encoded once, however many proxies get it. Everything
// is sorted, so the same rows always give the same bytes and versions.
//
// Answers are found when somebody asks. The hub follows the tables and tells
// streams of which types to ask again.
//
// # Locks
//
// One lock, Source.mu, guards all that is remembered, and is held while one
// question of a stream is answered. The hub's is for the channels of streams, and
// nothing is built with it held. They are never held together.
//
// The package opens no connections and knows no streams: package xds/serve does.
package resources
