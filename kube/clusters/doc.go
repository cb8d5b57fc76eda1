// Package clusters reads the other clusters of the mesh: it follows the Secrets
// in the control plane's namespace that hold kubeconfigs, and keeps one
// kube.Reader for each cluster that they name, which writes that cluster's rows
// into the one model.Store.
//
// No cluster harms another, or the control plane's own: whatever is wrong with
// one is told (State, an Event on its Secret, a metric), and its last known rows
// stay. Every change of how a cluster is read (other credentials, an API server
// that is back) goes the same way: a new Reader reads everything, and then takes
// over from the old one in one change of the Store.
//
// A kubeconfig is taken for what its author may do, which is to write Secrets in
// this namespace, and no more: it may not run programs in the control plane's
// pod or read its files unless the operator says so (Options).
package clusters
