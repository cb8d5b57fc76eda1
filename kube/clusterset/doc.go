// Package clusterset writes what clusters export into them, where people and tools
// look for it, in the words of the Multi-Cluster Services API: ServiceImports in the
// control plane's own cluster, and what became of each ServiceExport in its status,
// in whichever cluster it is. The mesh itself does not read what is written here.
package clusterset
