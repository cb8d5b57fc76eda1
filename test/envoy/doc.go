// Package envoy proves that a stock Envoy is a data plane of the mesh: it takes
// every resource that discovery sends, without a refusal, and talks with
// isthmus-proxy in both directions, over HTTP, gRPC and TCP, with mutual TLS, and
// through gateways of either kind that pass TLS through by its SNI.
//
// The proxies run as they do in pods: in network namespaces of their own, with
// traffic redirected. Nothing here measures; package bench does.
package envoy
