// Package httpproxy forwards HTTP/1.1, HTTP/2 and gRPC: it serves one downstream connection by the configuration of
// an HTTP connection manager, routes each request, picks an endpoint and moves bodies as streams that are never held
// whole.
//
// Both versions have engines of their own, because the general ones cost several times as much. In HTTP/1 a head is
// parsed where it lies in the read buffer, checked for everything that two implementations could read differently
// (RFC 9112 section 11), edited and copied out once; bodies keep their framing. One goroutine serves a connection; a
// request whose body does not fit the read buffer has a second one. HTTP/2 uses the framer and the header
// compression of golang.org/x/net/http2; streams have no goroutines: the reader of one connection hands frames to
// the writer of the other, within the room that flow control gives. Where the versions differ between the two sides,
// a request crosses over a pipe, as if it came by the other version.
//
// What is decided about a request is decided in package exchange, which both engines ask; call.go is what they share
// besides.
//
//	server.go     New, Handler, ServeConn      call.go          a request, whatever its version; counters.go
//	session.go    a downstream HTTP/1          request.go       a request and its answer, upload.go, tunnel.go
//	              connection                   encode.go        the heads that go out, fields.go, reply.go
//	h2server.go   a downstream HTTP/2          h2pair.go        a request, h2answer.go its answer
//	              connection                   h2conn.go        either end of a connection, h2frames.go what comes,
//	pool.go       connections to endpoints,                     h2write.go what goes, h2stream.go streams,
//	                                            h2window.go what peers may send, h2calm.go what they may
//	                                            ask for nothing, h2block.go header blocks, h2closed.go late
//	                                            frames, h2error.go, h2watch.go deadlines
//	              h2pool.go                    bridgeup.go      HTTP/1 to HTTP/2, bridgedown.go the reverse
//	silence.go    is a pooled one still good?  head.go          the HTTP/1 syntax: parse.go, framing.go, chunk.go,
//	policy.go     what a connection says of                     authority.go
//	              its caller                   relay.go         bodies, buffer.go
//	owned.go      fields of the proxy's own    keeper.go        an upload that may have to be sent again
//	drain.go      saying goodbye               account.go       telemetry
//
// The package opens no listening sockets, terminates no TLS, resolves no names and decodes no xDS.
package httpproxy
