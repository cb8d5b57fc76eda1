package api

import (
	meshconfig "istio.io/api/mesh/v1alpha1"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Field is a field of Istio's API, and whether the mesh acts on it.
type Field struct {
	// Path is where, as in spec.http[].match[].uri; {} stands for the keys of a map.
	Path     string
	Honoured bool
}

// Fields lists the fields of a kind's spec in the order of its definition, down to
// those that hold values. Of a message that is not honoured as a whole the fields are
// not listed. There are none of a kind that is not honoured.
func Fields(k Kind) []Field {
	spec := newSpec(k)
	if spec == nil {
		return nil
	}
	return fieldsBelow(nil, spec.ProtoReflect().Descriptor(), "spec.", honouredFields(k))
}

// MeshFields lists those of MeshConfig. One that is not honoured is warned of at
// install, and in the control plane's log.
func MeshFields() []Field {
	var mesh proto.Message = &meshconfig.MeshConfig{}
	return fieldsBelow(nil, mesh.ProtoReflect().Descriptor(), "", honouredMesh)
}

func fieldsBelow(to []Field, m protoreflect.MessageDescriptor, path string, honoured fieldSet) []Field {
	for i := range m.Fields().Len() {
		fd := m.Fields().Get(i)
		at := path + fd.JSONName()
		message := fd.Message()
		switch {
		case fd.IsMap():
			at += "{}"
			message = fd.MapValue().Message()
		case fd.IsList():
			at += "[]"
		}

		sub, ok := honoured[fd.JSONName()]
		if ok && sub != nil && message != nil {
			to = fieldsBelow(to, message, at+".", sub)
			continue
		}
		to = append(to, Field{Path: at, Honoured: ok})
	}
	return to
}
