package config

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// fuzzDecode checks that any bytes are either refused with a message or taken
// with a result, and twice the same way.
func fuzzDecode[T any](f *testing.F, seed *anypb.Any, decode func(*anypb.Any) (*T, error)) {
	f.Add(seed.GetValue())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		body := &anypb.Any{TypeUrl: seed.GetTypeUrl(), Value: b}
		v, err := decode(body)
		if err == nil && v == nil || err != nil && err.Error() == "" {
			t.Fatalf("got %v, %v", v, err)
		}
		if _, again := decode(body); (again == nil) != (err == nil) {
			t.Errorf("once %v, then %v", err, again)
		}
	})
}

func FuzzDecodeListener(f *testing.F) {
	fuzzDecode(f, pack(f, &listenerv3.Listener{}, virtualInbound()), DecodeListener)
}

func FuzzDecodeCluster(f *testing.F) {
	fuzzDecode(f, pack(f, &clusterv3.Cluster{}, autoMTLS()), DecodeCluster)
}

func FuzzDecodeLoadAssignment(f *testing.F) {
	fuzzDecode(f, pack(f, &endpointv3.ClusterLoadAssignment{}, assignment), DecodeLoadAssignment)
}

func FuzzDecodeRouteConfiguration(f *testing.F) {
	fuzzDecode(f, pack(f, &routev3.RouteConfiguration{}, routes), DecodeRouteConfiguration)
}

func FuzzDecodeVirtualHost(f *testing.F) {
	const host = `{"name":"80/web","domains":["web"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c"}}]}`
	fuzzDecode(f, pack(f, &routev3.VirtualHost{}, host), DecodeVirtualHost)
}
