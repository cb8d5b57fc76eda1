// Package revision moves namespaces from one control plane to another: it
// changes the labels that choose the injector, restarts the namespace's
// workloads, and waits until they run. A namespace whose workloads do not come
// up goes back to where it was.
package revision
