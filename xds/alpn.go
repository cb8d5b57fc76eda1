package xds

// The protocol names (ALPN) of mutual TLS between sidecars, which are Istio's.
// They tell a server which filter chain is meant before it has seen a byte of
// plaintext, and tell the mesh's TLS from an application's own.
const (
	// ALPNMesh is offered by every client in the mesh, beside one of those
	// below.
	ALPNMesh = "istio"
	// ALPNPeerExchange is for connections that carry anything but HTTP.
	ALPNPeerExchange = "istio-peer-exchange"
	ALPNHTTP10       = "istio-http/1.0"
	ALPNHTTP11       = "istio-http/1.1"
	ALPNHTTP2        = "istio-h2"
)
