// Package http1 is the HTTP/1 engine of the proxy: it parses heads (Head), moves bodies (Relay), and buffers what
// comes in and goes out on a connection (Reader, Writer).
//
// It is not net/http, because a proxy needs other things of it. A head is parsed where it lies in the read buffer and
// copied out once, what was not touched byte for byte; nothing is allocated for it. All that two implementations could
// read differently is refused (RFC 9112 section 11): what this package lets through means the same to whoever stands
// behind. Bodies keep their framing and are never held whole.
//
//	head.go    a parsed head and the fields that the proxy looks at; owned.go which of them are its own
//	parse.go   the syntax of heads       framing.go    where the body ends, which fields end at this hop
//	chunk.go   chunked bodies            authority.go  hosts and ports
//	buffer.go  Reader and Writer         relay.go      a body on its way
//
// The package knows no routes, no endpoints and no configuration, and opens no connections: it works on readers and
// writers that it is handed, and starts no goroutines. Nothing in it but BulkPool is safe for concurrent use.
package http1
