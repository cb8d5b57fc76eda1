package api

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// problems collects what is wrong with an object.
type problems []string

// addf notes a problem with the field at path.
func (p *problems) addf(path, format string, args ...any) {
	*p = append(*p, path+": "+fmt.Sprintf(format, args...))
}

// checkDuration notes a duration that is given and below the least.
func (p *problems) checkDuration(path string, d *durationpb.Duration, least time.Duration) {
	switch {
	case d == nil:
	case d.CheckValid() != nil:
		p.addf(path, "is no duration: %v", d.CheckValid())
	case d.AsDuration() < least:
		p.addf(path, "%v is too short; set %v or more", d.AsDuration(), least)
	}
}

// checkPercent notes what is not from 0 to 100.
func (p *problems) checkPercent(path string, percent float64) {
	if !(percent >= 0 && percent <= 100) { // not a number is neither
		p.addf(path, "%v is no percentage; set 0 to 100", percent)
	}
}

// checkCount notes a count below zero.
func (p *problems) checkCount(path string, n int32) {
	if n < 0 {
		p.addf(path, "%d is no count; set 1 or more, or remove it", n)
	}
}

func (p *problems) err() error {
	if len(*p) == 0 {
		return nil
	}
	return errors.New(strings.Join(*p, "; "))
}

// fieldSet is the fields of a message that are honoured, by JSON name. A nil
// value honours the whole field; otherwise it holds the honoured fields of the
// message (or of the messages of a list or a map).
type fieldSet map[string]fieldSet

// and returns the set with one more field.
func (s fieldSet) and(name string, sub fieldSet) fieldSet {
	out := maps.Clone(s)
	out[name] = sub
	return out
}

// unsupported notes every field that is set and not in allowed.
func (p *problems) unsupported(msg proto.Message, path string, allowed fieldSet) {
	p.walk(msg.ProtoReflect(), path, allowed)
}

// setField is a field of a message that is set.
type setField struct {
	fd protoreflect.FieldDescriptor
	v  protoreflect.Value
}

// setFields are the fields of a message that are set, by number. Range has no order,
// and a message for people that changes is taken for news.
func setFields(m protoreflect.Message) []setField {
	var fields []setField
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		fields = append(fields, setField{fd, v})
		return true
	})
	slices.SortFunc(fields, func(a, b setField) int { return cmp.Compare(a.fd.Number(), b.fd.Number()) })
	return fields
}

func (p *problems) walk(m protoreflect.Message, path string, allowed fieldSet) {
	for _, f := range setFields(m) {
		at := path + "." + f.fd.JSONName()
		sub, ok := allowed[f.fd.JSONName()]
		if !ok {
			p.addf(at, "is not honoured yet; remove it (honoured here: %s)", strings.Join(sortedKeys(allowed), ", "))
			continue
		}

		if sub == nil || f.fd.Message() == nil {
			continue
		}
		switch {
		case f.fd.IsMap():
			p.walkMap(f, at, sub)
		case f.fd.IsList():
			for i := range f.v.List().Len() {
				p.walk(f.v.List().Get(i).Message(), fmt.Sprintf("%s[%d]", at, i), sub)
			}
		default:
			p.walk(f.v.Message(), at, sub)
		}
	}
}

// walkMap looks at the messages that a map holds, in the order of its keys.
func (p *problems) walkMap(f setField, path string, allowed fieldSet) {
	if f.fd.MapValue().Message() == nil {
		return
	}

	held := map[string]protoreflect.Message{}
	f.v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		held[k.String()] = v.Message()
		return true
	})
	for _, key := range slices.Sorted(maps.Keys(held)) {
		p.walk(held[key], path+"["+key+"]", allowed)
	}
}

// idle notes every field that is set and changes nothing, down to where a
// message has honoured fields.
func (p *problems) idle(m protoreflect.Message, path string, honoured fieldSet) {
	for _, f := range setFields(m) {
		at := path + f.fd.JSONName()
		sub, ok := honoured[f.fd.JSONName()]
		switch {
		case !ok:
			p.addf(at, "is not honoured yet and changes nothing")
		case sub != nil && f.fd.Message() != nil && !f.fd.IsMap() && !f.fd.IsList():
			p.idle(f.v.Message(), at+".", sub)
		}
	}
}

func sortedKeys(m fieldSet) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// plainProtoError removes the prefix of protobuf's own errors, whose spelling
// varies on purpose.
func plainProtoError(err error) string {
	s := strings.TrimPrefix(err.Error(), "proto:")
	return strings.TrimLeft(s, " \u00a0")
}
