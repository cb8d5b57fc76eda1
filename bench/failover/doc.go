// Package failover measures what callers notice when something in a mesh of two
// clusters breaks: real clusters of bin/lab, a service in both, callers in both
// that send at a fixed rate whatever happens, and one fault at a time.
//
// A fault concerns the near cluster, the one whose region the callers are in: one
// caller is in that cluster, the other one is in the far cluster and says by its
// label istio-locality that it is near to it, as a caller is whose own cluster has
// the service for others to fall back on. It mends nothing and starts no lab; see
// `bench failover`.
package failover
