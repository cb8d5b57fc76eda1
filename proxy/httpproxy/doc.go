// Package httpproxy forwards HTTP/1.1, HTTP/2 and gRPC: it serves one downstream connection by the configuration of
// an HTTP connection manager, routes each request, picks an endpoint and moves bodies as streams that are never held
// whole.
//
// The syntax of both versions and the moving of bytes are elsewhere, in the engines http1 and http2, and so is what is
// decided about a request, in package exchange. This package serves connections with the engines by what the exchange
// says. One goroutine serves an HTTP/1 connection; a request whose body does not fit the read buffer has a second one.
// Streams of HTTP/2 have no goroutines: the reader of one connection hands frames to the writer of the other. Where the
// versions differ between the two sides, a request crosses over a pipe, as if it came by the other version.
//
//	server.go     New, Handler, ServeConn      call.go          a request, whatever its version; counters.go,
//	                                                            errors.go
//	session.go    a downstream HTTP/1          request.go       a request and its answer, upload.go, tunnel.go
//	              connection                   encode.go        the heads that go out, fields.go, reply.go
//	                                           keeper.go        an upload that may have to be sent again
//	h2server.go   a downstream HTTP/2          h2pair.go        a request, h2request.go its head, h2answer.go its
//	              connection                                    answer, h2idle.go when nothing moves
//	pool.go       connections to endpoints,    bridgeup.go      HTTP/1 to HTTP/2, bridgedown.go the reverse,
//	              h2pool.go                    h2pipe.go        a stream for who reads by blocking
//	queue.go      who waits for one; pace.go   how many may come about at once
//	silence.go    is a pooled one still good?  policy.go        what a connection says of its caller
//	drain.go      saying goodbye               account.go       telemetry
//	mirror.go     copies of requests           mirrored.go      how requests are copied
//
// The package opens no listening sockets, terminates no TLS, resolves no names and decodes no xDS.
package httpproxy
