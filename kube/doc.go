// Package kube reads clusters into the model: one Reader per cluster, all
// alike, whether the cluster is the one that the control plane runs in or a
// remote one. It also writes status conditions on configuration objects that
// were skipped, follows single ConfigMaps, and tells of objects of kinds that
// the mesh does not act on (NotHonoured).
//
// A Reader never blocks another: a cluster that cannot be reached keeps its
// last known rows, marked stale. Kinds that the cluster does not have (their
// CRDs are missing) count as empty, and are picked up when they appear.
//
// What objects mean is decided by package compile; this package only brings
// them there, joined with their neighbours, and writes what comes back.
package kube
