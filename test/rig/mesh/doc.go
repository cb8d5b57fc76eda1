// Package mesh is the discovery server of a rig: Isthmus's own model, resource
// building and xDS serving, over a mesh that is made up instead of read from a
// Kubernetes API. It signs certificates over the mesh's CA protocol, hands the same
// resources and certificates to a stock Envoy (ADS, SDS), and changes the mesh on
// request, telling when it did.
//
// It is a slice of package discovery and does not start the whole: a fake API
// server in the process, with its informers, would be most of the memory and
// processor time that bench measures, and a mesh of ten thousand services would
// have to pass through it. What it leaves out, the reading of objects, webhooks and
// the proof of tokens, is tested in package discovery and in the lab.
//
// For bench it runs as a process of its own, so that its memory and processor time
// can be told from the clients'.
package mesh
