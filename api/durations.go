package api

import (
	"encoding/json"
	"strconv"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// PlainDurations rewrites the durations in a message's JSON from the way people
// write them ("500ms", "1h30m", Go's time.ParseDuration) to the one that proto
// JSON takes ("0.5s"). Istio takes both. What it cannot read it leaves alone,
// for the decoder to refuse.
func PlainDurations(raw []byte, message protoreflect.MessageDescriptor) []byte {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return raw
	}
	if !rewriteDurations(value, message) {
		return raw
	}
	out, err := json.Marshal(value)
	if err != nil {
		return raw
	}
	return out
}

// rewriteDurations changes value in place, and tells whether it did.
func rewriteDurations(value any, message protoreflect.MessageDescriptor) bool {
	object, ok := value.(map[string]any)
	if !ok {
		return false
	}
	changed := false
	for name, v := range object {
		fd := fieldByName(message, name)
		if fd == nil {
			continue
		}
		sub := fd.Message()
		if fd.IsMap() {
			sub = fd.MapValue().Message()
		}
		if sub == nil {
			continue
		}
		switch v := v.(type) {
		case string:
			if d, ok := protoDuration(v, sub); ok {
				object[name] = d
				changed = true
			}
		case []any:
			for i := range v {
				changed = rewriteElement(v[i], sub, func(d string) { v[i] = d }) || changed
			}
		case map[string]any:
			if !fd.IsMap() {
				changed = rewriteDurations(v, sub) || changed
				continue
			}
			for k := range v {
				changed = rewriteElement(v[k], sub, func(d string) { v[k] = d }) || changed
			}
		}
	}
	return changed
}

// rewriteElement changes one element of a list or a map.
func rewriteElement(value any, message protoreflect.MessageDescriptor, set func(string)) bool {
	if text, ok := value.(string); ok {
		d, ok := protoDuration(text, message)
		if ok {
			set(d)
		}
		return ok
	}
	return rewriteDurations(value, message)
}

// fieldByName finds a field by its name in JSON or in the proto file.
func fieldByName(message protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := message.Fields().ByJSONName(name); fd != nil {
		return fd
	}
	return message.Fields().ByTextName(name)
}

// protoDuration is text in seconds, when the message is a Duration and text is
// one.
func protoDuration(text string, message protoreflect.MessageDescriptor) (string, bool) {
	if message.FullName() != "google.protobuf.Duration" {
		return "", false
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return "", false
	}
	seconds := strconv.FormatInt(int64(d/time.Second), 10)
	if d < 0 && d > -time.Second {
		seconds = "-0"
	}
	nanos := int64(d % time.Second)
	if nanos < 0 {
		nanos = -nanos
	}
	if nanos == 0 {
		return seconds + "s", true
	}
	// Nine digits, as the fraction counts nanoseconds.
	fraction := strconv.FormatInt(nanos+int64(time.Second), 10)[1:]
	return seconds + "." + fraction + "s", true
}
