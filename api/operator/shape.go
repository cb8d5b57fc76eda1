package operator

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	meshv1 "istio.io/api/mesh/v1alpha1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// kind is what a value may be.
type kind int

const (
	anyKind kind = iota
	structKind
	mapKind
	listKind
	stringKind
	boolKind
	intKind
	floatKind
	quantityKind
	intOrStringKind
	durationKind
)

// shape is the schema of one value. It is derived from a Go type or a protobuf
// descriptor when it is asked for, so a recursive type costs nothing.
type shape struct {
	kind   kind
	fields func() []field // of a structKind
	elem   func() shape   // of a mapKind or listKind
	oneof  []string       // the values that a string may have; empty: any
	merge  string         // the key that tells a list's elements apart
	older  func() []older // of a structKind: spellings of earlier API versions
	lax    bool           // a stringKind that takes true and false as text
}

// field is one key of a structKind.
type field struct {
	name  string
	shape shape
	// refuse says why the key is not accepted at all; off, why it is only as
	// {enabled: false}; moot, why {enabled: true} is not accepted, whatever
	// else stands there being about something that is not installed.
	refuse, off, moot string
	// only names the accepted values, because says why; restricted tells that
	// there are such, for "" may be one.
	only       []string
	because    string
	restricted bool
}

// specShape is the shape of an IstioOperator's spec.
func specShape() shape { return goShape(reflect.TypeFor[Spec](), "") }

// metadataShape is the shape of an IstioOperator's metadata.
func metadataShape() shape { return goShape(reflect.TypeFor[metav1.ObjectMeta](), "") }

// goShape derives a shape from a Go type and the struct tag that led to it.
func goShape(t reflect.Type, tag reflect.StructTag) shape {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s, ok := specialShape(t); ok {
		return s
	}
	switch t.Kind() {
	case reflect.Struct:
		return shape{kind: structKind, fields: func() []field { return goFields(t) }, older: func() []older { return olderSpellings(t) }}
	case reflect.Map:
		return shape{kind: mapKind, elem: func() shape { return goShape(t.Elem(), "") }}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return shape{kind: stringKind}
		}
		return shape{kind: listKind, merge: tag.Get("merge"), elem: func() shape { return goShape(t.Elem(), "") }}
	case reflect.String:
		s := shape{kind: stringKind}
		if v := tag.Get("oneof"); v != "" {
			s.oneof = strings.Split(v, "|")
		}
		return s
	case reflect.Bool:
		return shape{kind: boolKind}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return shape{kind: intKind}
	case reflect.Float32, reflect.Float64:
		return shape{kind: floatKind}
	default:
		return shape{kind: anyKind}
	}
}

// specialShape knows the types whose JSON form is not that of their Go fields.
func specialShape(t reflect.Type) (shape, bool) {
	switch t {
	case reflect.TypeFor[meshConfig]():
		return messageShape((&meshv1.MeshConfig{}).ProtoReflect().Descriptor()), true
	case reflect.TypeFor[meshNetworks]():
		network := (&meshv1.Network{}).ProtoReflect().Descriptor()
		return shape{kind: mapKind, elem: func() shape { return messageShape(network) }}, true
	case reflect.TypeFor[Environment]():
		return shape{kind: mapKind, elem: func() shape { return shape{kind: stringKind, lax: true} }}, true
	case reflect.TypeFor[resource.Quantity]():
		return shape{kind: quantityKind}, true
	case reflect.TypeFor[intstr.IntOrString]():
		return shape{kind: intOrStringKind}, true
	case reflect.TypeFor[metav1.Duration]():
		return shape{kind: durationKind}, true
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		return shape{kind: stringKind}, true
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[runtime.RawExtension](), reflect.TypeFor[metav1.FieldsV1]():
		return shape{kind: anyKind}, true
	}
	return shape{}, false
}

// goFields lists the JSON keys of a struct, those of inlined structs included.
func goFields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" && (f.Anonymous || strings.Contains(opts, "inline")) {
			inner := f.Type
			for inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			out = append(out, goFields(inner)...)
			continue
		}
		if name == "" {
			name = f.Name
		}
		only, restricted := f.Tag.Lookup("only")
		out = append(out, field{
			name: name, shape: goShape(f.Type, f.Tag),
			refuse: f.Tag.Get("refuse"), off: f.Tag.Get("off"), moot: f.Tag.Get("moot"),
			only: strings.Split(only, "|"), because: f.Tag.Get("because"), restricted: restricted,
		})
	}
	return out
}

// messageShape derives a shape from a protobuf message in its JSON form.
func messageShape(md protoreflect.MessageDescriptor) shape {
	switch md.FullName() {
	case "google.protobuf.Duration":
		return shape{kind: durationKind}
	case "google.protobuf.Timestamp", "google.protobuf.StringValue", "google.protobuf.BytesValue":
		return shape{kind: stringKind}
	case "google.protobuf.BoolValue":
		return shape{kind: boolKind}
	case "google.protobuf.Int32Value", "google.protobuf.UInt32Value", "google.protobuf.Int64Value", "google.protobuf.UInt64Value":
		return shape{kind: intKind}
	case "google.protobuf.DoubleValue", "google.protobuf.FloatValue":
		return shape{kind: floatKind}
	case "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue", (&anypb.Any{}).ProtoReflect().Descriptor().FullName():
		return shape{kind: anyKind}
	}
	return shape{kind: structKind, fields: func() []field {
		fds := md.Fields()
		out := make([]field, 0, fds.Len())
		for i := range fds.Len() {
			out = append(out, field{name: fds.Get(i).JSONName(), shape: protoShape(fds.Get(i))})
		}
		return out
	}}
}

// protoShape derives a shape from a field of a protobuf message.
func protoShape(fd protoreflect.FieldDescriptor) shape {
	switch {
	case fd.IsMap():
		return shape{kind: mapKind, elem: func() shape { return protoSingular(fd.MapValue()) }}
	case fd.IsList():
		s := shape{kind: listKind, elem: func() shape { return protoSingular(fd) }}
		if fd.FullName() == "istio.mesh.v1alpha1.MeshConfig.extension_providers" {
			s.merge = "name"
		}
		return s
	}
	return protoSingular(fd)
}

func protoSingular(fd protoreflect.FieldDescriptor) shape {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return messageShape(fd.Message())
	case protoreflect.BoolKind:
		return shape{kind: boolKind}
	case protoreflect.EnumKind:
		vals := fd.Enum().Values()
		s := shape{kind: stringKind}
		for i := range vals.Len() {
			s.oneof = append(s.oneof, string(vals.Get(i).Name()))
		}
		return s
	case protoreflect.StringKind, protoreflect.BytesKind:
		return shape{kind: stringKind}
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return shape{kind: floatKind}
	default:
		return shape{kind: intKind}
	}
}

// lookup finds the field that a key spells, in camelCase or snake_case.
func (s shape) lookup(key string) (field, bool) {
	fields := s.fields()
	i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
	if i < 0 {
		c := camel(key)
		i = slices.IndexFunc(fields, func(f field) bool { return camel(f.name) == c })
	}
	if i < 0 {
		return field{}, false
	}
	return fields[i], true
}

// names lists the keys that may be written.
func (s shape) names() []string {
	var out []string
	for _, f := range s.fields() {
		if f.refuse == "" && f.off == "" {
			out = append(out, f.name)
		}
	}
	return out
}

// camel turns snake_case into camelCase.
func camel(key string) string {
	if !strings.Contains(key, "_") {
		return key
	}
	parts := strings.Split(key, "_")
	for i := 1; i < len(parts); i++ {
		if parts[i] != "" {
			parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
		}
	}
	return strings.Join(parts, "")
}
