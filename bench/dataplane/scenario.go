// Package dataplane measures proxies side by side: what a request costs them,
// how long it takes, what they weigh. All contenders have the same servers, the
// same client and the same number of threads, and take turns, so that what the
// machine does meanwhile hits all of them alike.
package dataplane

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/bench/load"
	"github.com/isthmus-mesh/isthmus/bench/upstream"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

// Way is how many proxies a request passes.
type Way string

// The ways.
const (
	// OneHop is client, proxy, server, without TLS.
	OneHop Way = "one hop"
	// TwoHops is client, proxy, mutual TLS, proxy, server.
	TwoHops Way = "two hops, mutual TLS"
)

// scenario is one kind of traffic over one way.
type scenario struct {
	name     string
	way      Way
	protocol string
	port     int
	// streams is the number of requests in flight per connection.
	conns, streams int
	path           string
	body           []byte
	wantBody       int
}

const inFlight = 32

func oneHTTP1() scenario {
	return scenario{name: "one hop HTTP/1.1", way: OneHop, protocol: load.HTTP1, port: upstream.PortHTTP1,
		conns: inFlight, streams: 1, path: "/", wantBody: upstream.BodySize}
}

func twoHTTP1() scenario {
	s := oneHTTP1()
	s.name, s.way = "two hops mTLS HTTP/1.1", TwoHops
	return s
}

func twoHTTP2() scenario {
	return scenario{name: "two hops mTLS HTTP/2", way: TwoHops, protocol: load.HTTP2, port: upstream.PortHTTP2,
		conns: 4, streams: inFlight / 4, path: "/", wantBody: upstream.BodySize}
}

func twoGRPC() scenario {
	return scenario{name: "two hops mTLS gRPC unary", way: TwoHops, protocol: load.GRPC, port: upstream.PortGRPC,
		conns: 4, streams: inFlight / 4, path: upstream.UnaryMethod, body: grpcRequest(), wantBody: grpcAnswer()}
}

// grpcRequest is a SimpleRequest with a payload of 100 bytes.
func grpcRequest() []byte {
	return encode(&grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: make([]byte, 100)}})
}

// grpcAnswer is the size of the upstream's answer with its five-byte prefix.
func grpcAnswer() int {
	return 5 + len(encode(&grpc_testing.SimpleResponse{Payload: &grpc_testing.Payload{Body: make([]byte, upstream.BodySize)}}))
}

func encode(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // the messages above hold nothing that cannot be encoded
	}
	return b
}

// target is where a client connects to, and the host that it names.
type target struct {
	addr      netip.AddrPort
	authority string
}

// spec is the scenario's load towards a target.
func (s *scenario) spec(t target) load.Spec {
	return load.Spec{Protocol: s.protocol, Target: t.addr, Authority: t.authority, Path: s.path,
		Body: s.body, WantBody: s.wantBody, Conns: s.conns, Streams: s.streams}
}
