// Package remotesecret makes the Secret by which the control plane of one
// cluster reads another: a kubeconfig with the address of that cluster's API
// server, the certificate by which it is known, and a token of an account that
// may read there what a mesh is made of, and nothing else.
//
// It prints nothing and writes nothing into the cluster that is to read: the
// Secret goes there by the hand of whoever asked for it. What is in such a Secret
// is read and renewed by kube/clusters.
package remotesecret
