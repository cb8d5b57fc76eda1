package api

import (
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

func (p *problems) walk(m protoreflect.Message, path string, allowed fieldSet) {
	type set struct {
		fd protoreflect.FieldDescriptor
		v  protoreflect.Value
	}
	var fields []set
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		fields = append(fields, set{fd, v})
		return true
	})

	slices.SortFunc(fields, func(a, b set) int { return int(a.fd.Number()) - int(b.fd.Number()) })
	for _, f := range fields {
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
			f.v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if f.fd.MapValue().Message() != nil {
					p.walk(v.Message(), at+"["+k.String()+"]", sub)
				}
				return true
			})
		case f.fd.IsList():
			for i := range f.v.List().Len() {
				p.walk(f.v.List().Get(i).Message(), fmt.Sprintf("%s[%d]", at, i), sub)
			}
		default:
			p.walk(f.v.Message(), at, sub)
		}
	}
}

// idle notes every field that is set and changes nothing, down to where a
// message has honoured fields.
func (p *problems) idle(m protoreflect.Message, path string, honoured fieldSet) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := path + fd.JSONName()
		sub, ok := honoured[fd.JSONName()]
		switch {
		case !ok:
			p.addf(at, "is not honoured yet and changes nothing")
		case sub != nil && fd.Message() != nil && !fd.IsMap() && !fd.IsList():
			p.idle(v.Message(), at+".", sub)
		}
		return true
	})
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
