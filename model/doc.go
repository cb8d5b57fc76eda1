// Package model is what the control plane knows of the mesh: services,
// endpoints, workloads, policies, gateways, of every cluster, as immutable rows
// in tables.
//
// Rows are values that nobody writes after they are in a table; whoever wants
// another row inserts a new one. Reads are snapshots that need no lock, and a
// query can hand out a channel that closes when its answer may have changed:
// that is what package xds/resources remembers per resource. The tables are those
// of github.com/cilium/statedb.
//
// Every key carries the id of the cluster that the row was read from, so that
// clusters are equals. The package knows neither Kubernetes objects (package
// compile turns those into rows) nor xDS.
package model
