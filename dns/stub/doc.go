// Package stub points a cluster's own DNS at the mesh's: it adds a stub zone to
// the Corefile of the CoreDNS that runs, checks that a question gets through,
// and puts the old Corefile back when it does not.
//
// The text itself is package dns/corefile's business; this package talks to the
// Kubernetes API.
package stub
