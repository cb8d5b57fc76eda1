// Package serve is the discovery server's side of the wire: aggregated
// discovery streams, delta and state-of-the-world, over gRPC.
//
// It knows nothing of services or policies. A [Source] says which [View] a
// proxy has, and a View gives resources that were built and encoded once; the
// server keeps for each stream no more than the names and versions that it
// sent, works out what has changed, and pushes it in an order that leaves no
// dangling reference: clusters, endpoints, listeners, routes, virtual hosts. Streams that share
// a View share one watcher and one computed difference.
//
// It builds no resources: that is for package xds/resources.
//
// # Locks
//
// Server.mu guards which groups and streams there are, and which are asked to end, group.mu the feeds of a
// group with their snapshots, snapshot.mu the answers that are encoded, and
// streamStatus.mu what the debug page shows of a stream. Only one pair is ever
// held together: Server.mu and then Server.life, where a stream joins the first
// of its group. None is held across a call of a Source or View, nor across a
// write to a stream; what is not under one of them belongs to the goroutine of
// its stream.
package serve
