// Package mesh is the discovery server of a measurement: Isthmus's own model,
// resource building and xDS serving, over a mesh that is made up instead of read
// from a Kubernetes API. It signs certificates over the mesh's CA protocol, hands
// the same resources and certificates to a stock Envoy (ADS, SDS), and changes the
// mesh on request, telling when it did.
//
// It runs as a process of its own, so that its memory and processor time can be
// told from the clients'.
package mesh
