package model

import "strings"

// ClusterID is the name of a cluster in the mesh. It is never empty.
type ClusterID string

// Protocol is what a port speaks.
type Protocol uint8

// The protocols that are told apart.
const (
	// Unknown is a port that declares nothing: the proxy looks at the first
	// bytes.
	Unknown Protocol = iota
	TCP
	HTTP
	HTTP2
	GRPC
	GRPCWeb
	// TLS is a port on which the application itself speaks TLS (names tls
	// and https).
	TLS
)

var protocolNames = [...]string{"unknown", "tcp", "http", "http2", "grpc", "grpc-web", "tls"}

// String gives the name under which people declare the protocol.
func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return "invalid"
}

// IsHTTP tells whether requests can be routed on a port of this protocol.
func (p Protocol) IsHTTP() bool { return p == HTTP || p == HTTP2 || p == GRPC || p == GRPCWeb }

// IsHTTP2 tells whether the port is spoken to in HTTP/2 only.
func (p Protocol) IsHTTP2() bool { return p == HTTP2 || p == GRPC }

// key joins the parts of a primary key. No part holds a zero byte.
func key(parts ...string) string { return strings.Join(parts, "\x00") }
