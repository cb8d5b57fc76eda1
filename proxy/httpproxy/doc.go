// Package httpproxy forwards HTTP/1.1, HTTP/2 and gRPC: it serves one downstream connection at a time by the
// configuration of an HTTP connection manager, routes each request, picks an endpoint and moves bodies as
// streams that are never held whole.
//
// HTTP/1 has an engine of its own. A head is parsed where it lies in the read buffer, checked for everything
// that two implementations could read differently (RFC 9112 section 11), edited and copied out once; bodies keep
// their framing. One goroutine serves a connection; a request whose body does not fit the read buffer has a
// second one. HTTP/2 runs on golang.org/x/net/http2. Both share routing, header policy, pools and telemetry.
//
//	server.go     New, Handler, ServeConn      session.go    an HTTP/1 connection and its requests
//	routes.go     routes, compiled             exchange.go   one HTTP/1 request towards an HTTP/1 endpoint
//	pool.go       connections to endpoints     head.go, parse.go, framing.go, chunk.go   the HTTP/1 syntax
//	policy.go     header edits, XFCC, ids      relay.go, buffer.go   bodies
//	h2*.go        HTTP/2 on either side        drain.go      saying goodbye
//
// It opens no listening sockets, terminates no TLS, resolves no names and decodes no xDS.
package httpproxy
