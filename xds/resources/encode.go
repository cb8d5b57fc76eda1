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

// resource encodes a resource; its version is the hash of its bytes.
func resource(name string, m proto.Message) *serve.Resource {
	body := pack(m)
	var sum [8]byte
	h := xxhash.Sum64(body.Value)
	for i := range sum {
		sum[i] = byte(h >> (56 - 8*i))
	}
	return &serve.Resource{Name: name, Version: hex.EncodeToString(sum[:]), Body: body}
}

// entry is a built resource with what it was built from.
type entry struct {
	res *serve.Resource
	// inputs are the rows it was built from; rows are never changed in
	// place, so the same pointers mean the same content.
	inputs []any
	// watches close when one of the rows may have been replaced.
	watches []<-chan struct{}
}

// quiet tells that none of the watched queries changed.
func (e *entry) quiet() bool {
	if len(e.watches) == 0 {
		return false
	}
	for _, w := range e.watches {
		select {
		case <-w:
			return false
		default:
		}
	}
	return true
}

// same tells whether the inputs are those that the entry was built from.
func (e *entry) same(inputs []any) bool {
	if e == nil || len(e.inputs) != len(inputs) {
		return false
	}
	for i := range inputs {
		if e.inputs[i] != inputs[i] {
			return false
		}
	}
	return true
}
