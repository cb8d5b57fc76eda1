// Package upstream is the servers behind the proxies in a measurement: HTTP/1.1,
// HTTP/2 with prior knowledge, unary gRPC, and a sink for TCP streams. They do
// as little as a real server can.
package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
)

// The ports that the servers listen on.
const (
	PortHTTP1 = 8080
	PortHTTP2 = 8081
	PortGRPC  = 8082
	PortTCP   = 8083
)

// BodySize is the size of an HTTP answer's body and of a gRPC answer's
// payload.
const BodySize = 1024

const maxStreams = 1000

// UnaryMethod is the gRPC method that answers.
const UnaryMethod = "/grpc.testing.BenchmarkService/UnaryCall"

// Run serves on all ports until ctx ends. listening is closed once connections
// are taken.
func Run(ctx context.Context, listening chan<- struct{}) error {
	servers := []struct {
		port  int
		serve func(net.Listener) error
	}{
		{PortHTTP1, serveHTTP1}, {PortHTTP2, serveHTTP2}, {PortGRPC, serveGRPC}, {PortTCP, serveSink},
	}
	ended := make(chan error, len(servers))
	for _, s := range servers {
		l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(s.port)))
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }()
		go func() { ended <- fmt.Errorf("port %d: %w", s.port, s.serve(l)) }()
	}
	close(listening)
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

func payload() []byte {
	b := make([]byte, BodySize)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return b
}

func serveHTTP1(l net.Listener) error {
	body := payload()
	s := &fasthttp.Server{
		Name:    "upstream",
		Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBody(body) },
	}
	return s.Serve(l)
}

func serveHTTP2(l net.Listener) error {
	body := payload()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // a client that is gone is its own affair
	})
	server := &http.Server{Handler: h, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams}}
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.Serve(l)
}

// echo answers unary calls with a payload of BodySize.
type echo struct {
	grpc_testing.UnimplementedBenchmarkServiceServer
	answer *grpc_testing.SimpleResponse
}

func (e *echo) UnaryCall(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return e.answer, nil
}

func serveGRPC(l net.Listener) error {
	s := grpc.NewServer(grpc.MaxConcurrentStreams(maxStreams))
	grpc_testing.RegisterBenchmarkServiceServer(s, &echo{
		answer: &grpc_testing.SimpleResponse{Payload: &grpc_testing.Payload{Body: payload()}},
	})
	return s.Serve(l)
}

// serveSink reads each connection to its end, answers with the number of bytes
// (8 bytes, big endian) and closes it.
func serveSink(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go sink(c)
	}
}

func sink(c net.Conn) {
	defer func() { _ = c.Close() }()
	buf := make([]byte, 256<<10)
	var total uint64
	for {
		n, err := c.Read(buf)
		total += uint64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
	}
	_, _ = c.Write(binary.BigEndian.AppendUint64(nil, total))
}
