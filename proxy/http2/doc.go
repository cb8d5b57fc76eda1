// Package http2 is the HTTP/2 engine of the proxy: either end of a connection (Conn), and its streams (RFC 9113).
//
// Frames are read by the framer and header blocks are decoded by the compression of golang.org/x/net/http2; the rest
// is ours, since the general engines cost several times as much. A stream has no goroutine: what comes on it is handed
// to its Sink by the goroutine that reads the connection, and what is sent on it gathers in a buffer that one other
// goroutine writes. A Sink that sends what it is handed on a stream of another connection is all that a proxy needs;
// the room that flow control gives goes back to the sender as the data moves on (Stream.Credit), so that nothing is
// held that cannot be sent.
//
// A peer is not trusted to mean well. What it may make us hold, answer or remember is bounded (window.go, calm.go,
// closed.go), and what it must do in time is watched (watch.go).
//
//	conn.go    a connection and its end, options.go    stream.go  a stream: what is sent on it, how it ends
//	           how it is made
//	frames.go  what comes, block.go header blocks      write.go   what goes
//	window.go  how much peers may send                 calm.go    how much they may ask for that moves nothing
//	closed.go  late frames                             watch.go   deadlines
//	error.go   what ends a connection or a stream
//
// The package knows no requests beyond the syntax that RFC 9113 section 8 asks of them, no routes and no
// configuration, and it dials and listens nowhere. Conn and Stream are safe for concurrent use.
package http2
