package fleet

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// rawCodec hands messages through as bytes. It says that they are protocol
// buffers, which they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("fleet sends bytes, not %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("fleet receives bytes, not %T", v)
	}
	if cap(*p) < data.Len() {
		*p = make([]byte, data.Len())
	}
	*p = (*p)[:data.Len()]
	data.CopyTo(*p)
	return nil
}

// push is a DeltaDiscoveryResponse, as far as it matters here. Its slices
// point into the message.
type push struct {
	typeURL, nonce []byte
	removed        [][]byte
	resources      []resource
}

// resource is one Resource of a push; body is the value of its Any.
type resource struct{ name, version, body []byte }

// The field numbers of envoy.service.discovery.v3.DeltaDiscoveryResponse,
// Resource, and google.protobuf.Any.
const (
	fieldResources = 2
	fieldTypeURL   = 4
	fieldNonce     = 5
	fieldRemoved   = 6

	fieldResVersion = 1
	fieldResBody    = 2
	fieldResName    = 3

	fieldAnyValue = 2
)

func (p *push) parse(msg []byte) error {
	*p = push{removed: p.removed[:0], resources: p.resources[:0]}
	return fields(msg, func(num protowire.Number, v []byte) error {
		switch num {
		case fieldTypeURL:
			p.typeURL = v
		case fieldNonce:
			p.nonce = v
		case fieldRemoved:
			p.removed = append(p.removed, v)
		case fieldResources:
			r, err := parseResource(v)
			p.resources = append(p.resources, r)
			return err
		}
		return nil
	})
}

func parseResource(msg []byte) (r resource, err error) {
	err = fields(msg, func(num protowire.Number, v []byte) error {
		switch num {
		case fieldResName:
			r.name = v
		case fieldResVersion:
			r.version = v
		case fieldResBody:
			return fields(v, func(num protowire.Number, v []byte) error {
				if num == fieldAnyValue {
					r.body = v
				}
				return nil
			})
		}
		return nil
	})
	return r, err
}

// fields calls f for every length-delimited field of a message.
func fields(msg []byte, f func(protowire.Number, []byte) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return errors.New("damaged message")
		}
		msg = msg[n:]
		if typ != protowire.BytesType {
			n = protowire.ConsumeFieldValue(num, typ, msg)
			if n < 0 {
				return errors.New("damaged message")
			}
			msg = msg[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(msg)
		if n < 0 {
			return errors.New("damaged message")
		}
		if err := f(num, v); err != nil {
			return err
		}
		msg = msg[n:]
	}
	return nil
}
