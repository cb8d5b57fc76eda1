package fleet

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestParse(t *testing.T) {
	body := &anypb.Any{TypeUrl: "t", Value: []byte("value")}
	msg, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: "v", TypeUrl: typeURLs[endpoints], Nonce: "n1", RemovedResources: []string{"x", "y"},
		Resources: []*discoveryv3.Resource{{Name: "a", Version: "1", Resource: body}, {Name: "b", Version: "2", Aliases: []string{"c"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var p push
	for range 2 { // a push is used again
		if err := p.parse(msg); err != nil {
			t.Fatal(err)
		}
		if k, err := kindOf(p.typeURL); err != nil || k != endpoints {
			t.Fatalf("kind %d, %v", k, err)
		}
		if string(p.nonce) != "n1" || len(p.removed) != 2 || string(p.removed[1]) != "y" || len(p.resources) != 2 {
			t.Fatalf("%+v", p)
		}
		r := p.resources[0]
		if string(r.name) != "a" || string(r.version) != "1" || string(r.body) != "value" {
			t.Fatalf("%+v", r)
		}
	}
	if err := p.parse(msg[:len(msg)-1]); err == nil {
		t.Fatal("a message that is cut off was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x12, 0x03, 0x1a, 0x01, 'a'})
	f.Fuzz(func(_ *testing.T, msg []byte) {
		var p push
		_ = p.parse(msg) // must not panic
	})
}
