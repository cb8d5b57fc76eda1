package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// at is a place inside a resource, for error messages.
type at struct {
	kind, name, path string
}

// in is the place of a field below.
func (a at) in(field string) at {
	if a.path != "" {
		field = a.path + "." + field
	}
	return at{a.kind, a.name, field}
}

// index is the place of an element of a repeated field below.
func (a at) index(field string, i int) at {
	return a.in(fmt.Sprintf("%s[%d]", field, i))
}

// errorf makes an [Error] for the place.
func (a at) errorf(format string, args ...any) error {
	return &Error{Kind: a.kind, Name: a.name, Field: a.path, Msg: fmt.Sprintf(format, args...)}
}

// only refuses a message in which anything is set beyond the fields named:
// what the proxy does not know it does not carry out, and must not pretend to.
func (a at) only(m proto.Message, fields ...protoreflect.Name) error {
	r := m.ProtoReflect()

	// A newer discovery may send fields that this proxy's protos do not have.
	if u := r.GetUnknown(); len(u) > 0 {
		num, _, _ := protowire.ConsumeTag(u)
		return a.errorf("holds field number %d, which this version of the proxy does not know", num)
	}

	// Range has no order. Of several fields the first by number is named, the same
	// each time.
	var first protoreflect.FieldDescriptor
	r.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !slices.Contains(fields, fd.Name()) && (first == nil || fd.Number() < first.Number()) {
			first = fd
		}
		return true
	})
	if first != nil {
		return a.in(string(first.Name())).errorf("is not supported by this proxy")
	}
	return nil
}

// textField is a field and its value.
type textField struct{ field, value string }

// oneLine refuses texts that would end the line of a message into which they are
// written, as their protos do.
func (a at) oneLine(list ...textField) error {
	for _, f := range list {
		if strings.ContainsAny(f.value, "\r\n\x00") {
			return a.in(f.field).errorf("%q has a line end, which cannot be sent", f.value)
		}
	}
	return nil
}

// unpack decodes the message in an Any into m.
func (a at) unpack(body *anypb.Any, m proto.Message) error {
	if err := body.UnmarshalTo(m); err != nil {
		return a.errorf("cannot be read as %s: %v", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// duration reads a duration, def when it is not set. Negative ones are
// refused.
func (a at) duration(d *durationpb.Duration, def time.Duration) (time.Duration, error) {
	if d == nil {
		return def, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, a.errorf("is not a duration: %v", err)
	}
	v := d.AsDuration()
	if v < 0 {
		return 0, a.errorf("is negative: %v", v)
	}
	return v, nil
}

// durations reads several durations; the first wrong one is the error.
func (a at) durations(list ...durationField) error {
	for _, f := range list {
		v, err := a.in(f.name).duration(f.from, *f.to)
		if err != nil {
			return err
		}
		*f.to = v
	}
	return nil
}

// durationField is one duration to read; to holds the default.
type durationField struct {
	name string
	from *durationpb.Duration
	to   *time.Duration
}

// versionLen is how much of a digest identifies content, in bytes: enough that
// no two of a proxy's resources meet by chance.
const versionLen = 12

// versionOf identifies content.
func versionOf(body *anypb.Any) string {
	sum := sha256.Sum256(body.GetValue())
	return hex.EncodeToString(sum[:versionLen])
}

// versionOfMessages identifies the content of parts of a resource.
func versionOfMessages(parts ...proto.Message) string {
	h := sha256.New()
	for _, p := range parts {
		// A message that was just unmarshalled marshals; the length keeps
		// the parts apart.
		b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(p)
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:versionLen])
}

// inOrder ranges over a map by its keys, sorted: of several errors, the same one
// is told each time.
func inOrder[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
