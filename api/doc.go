// Package api decodes, defaults and validates the configuration kinds that users
// write: ServiceEntry, DestinationRule, VirtualService, Gateway and
// PeerAuthentication (types of istio.io/api), MeshConfig, and MeshNetworks; and it
// serves the validating webhook that refuses a wrong one at kubectl apply.
//
// Decoding is strict: a field that is unknown, or known but not honoured, is
// refused and named, because a policy that is read and then ignored is worse
// than none. MeshConfig is the exception: there one bad field costs a warning
// and that field, never the whole.
//
// The package reads nothing from a cluster and keeps no state.
package api
