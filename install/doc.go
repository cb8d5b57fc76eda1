// Package install is the installer. Its parts go one way: values (profiles,
// files and --set to one configuration) → render (configuration to Kubernetes
// objects, without a client) → apply (objects to a cluster, in order, waiting
// until they work) → verify (a cluster held against what was applied).
//
// This package only holds what builds them.
package install

//go:generate go run ./internal/gencrds ../charts/base/files
