// Package clusterset writes what clusters export into the control plane's own
// cluster, where people and tools look for it: ServiceImports of the Multi-Cluster
// Services API. The mesh itself does not read them.
package clusterset
