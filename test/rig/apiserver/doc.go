// Package apiserver is a small Kubernetes API server on loopback, for what tests
// and bench ask of a cluster that a fake clientset cannot show: real connections,
// real lists and watches, and an API server that is gone, hangs, is slow, forgets
// what watches need, or no longer takes a token.
//
// It keeps whatever objects it is given, of the kinds of Kubernetes and of those
// that Serve names. It checks no object, has no defaults, controllers or
// authorization, and speaks JSON alone (bodies may be protobuf). The lab has real
// API servers.
package apiserver
