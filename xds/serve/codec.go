package serve

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec "proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// The field numbers of envoy.service.discovery.v3.DiscoveryResponse and
// DeltaDiscoveryResponse that are written here. Field 2 of both is resources.
const (
	sotwVersionInfo = 1
	sotwTypeURL     = 4
	sotwNonce       = 5

	deltaTypeURL = 4
	deltaNonce   = 5
	deltaRemoved = 6
)

// answer is a response that is encoded already: what all streams share, and
// this stream's own fields. On the wire the order of fields is free.
type answer struct{ shared, own []byte }

// codec is gRPC's codec for protocol buffers that also takes an answer, and
// sends its bytes without copying them: a thousand proxies that connect at once
// hold one copy of their thousand clusters between them.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if a, ok := v.(*answer); ok {
		return mem.BufferSlice{mem.SliceBuffer(a.shared), mem.SliceBuffer(a.own)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// deltaAnswer is a DeltaDiscoveryResponse.
func deltaAnswer(shared []byte, typeURL, nonce string, removed []string) *answer {
	own := appendString(nil, deltaTypeURL, typeURL)
	own = appendString(own, deltaNonce, nonce)
	for _, name := range removed {
		own = appendString(own, deltaRemoved, name)
	}
	return &answer{shared, own}
}

// sotwAnswer is a DiscoveryResponse.
func sotwAnswer(shared []byte, typeURL, nonce, version string) *answer {
	own := appendString(nil, sotwVersionInfo, version)
	own = appendString(own, sotwTypeURL, typeURL)
	return &answer{shared, appendString(own, sotwNonce, nonce)}
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}
