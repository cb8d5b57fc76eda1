package resources

import (
	"encoding/hex"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// pack encodes a message the same way each time. The messages are made in this
// package from strings that were decoded from JSON, that is, from valid UTF-8:
// encoding them cannot fail.
func pack(m proto.Message) *anypb.Any {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("xds/resources: encoding a %s: %v", m.ProtoReflect().Descriptor().FullName(), err))
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: body}
}

// resource makes a resource of its encoded content; its version is the hash of the
// bytes.
func resource(name string, body *anypb.Any) *serve.Resource {
	var sum [8]byte
	h := xxhash.Sum64(body.Value)
	for i := range sum {
		sum[i] = byte(h >> (56 - 8*i))
	}
	return &serve.Resource{Name: name, Version: hex.EncodeToString(sum[:]), Body: body}
}

// encode builds a resource and counts it. When it comes out as it was, the
// encoded one there is stays.
func (s *Source) encode(old *serve.Resource, name string, m proto.Message) *serve.Resource {
	return s.encodeAny(old, name, pack(m))
}

// encodeAny does the same with what is encoded already.
func (s *Source) encodeAny(old *serve.Resource, name string, body *anypb.Any) *serve.Resource {
	s.built.Add(1)
	res := resource(name, body)
	if old != nil && old.Name == name && old.Version == res.Version {
		return old
	}
	return res
}
