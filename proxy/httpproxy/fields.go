package httpproxy

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
)

// headFields are the fields of an HTTP/1 head, as exchange.Fields. What is dropped is marked in the head; what is
// added is kept apart and written behind it.
type headFields struct {
	h     *head
	added []exchange.Field
	id    [36]byte // the x-request-id to add
	hasID bool
}

// of begins with the fields of h; the storage of the last message is used again.
func (f *headFields) of(h *head) *headFields {
	f.h, f.added, f.hasID = h, f.added[:0], false
	return f
}

// each calls do with every field of a name that came and was not dropped, until it returns false.
func (f *headFields) each(name string, do func(*field) bool) {
	id := identify([]byte(name))
	from := 0
	if id != otherField {
		if from = int(f.h.first[id]) - 1; from < 0 {
			return
		}
	}
	for i := from; i < len(f.h.fields); i++ {
		e := &f.h.fields[i]
		if e.drop || e.id != id || id == otherField && !equalLower(f.h.name(e), name) {
			continue
		}
		if !do(e) {
			return
		}
	}
}

// Lookup implements exchange.Fields. The value is valid as long as the head is.
func (f *headFields) Lookup(name string) (value string, has bool) {
	f.each(name, func(e *field) bool {
		value, has = view(f.h.value(e)), true
		return false
	})
	if has {
		return value, true
	}
	for i := range f.added {
		if strings.EqualFold(f.added[i].Name, name) {
			return f.added[i].Value, true
		}
	}
	return "", false
}

// Joined implements exchange.Fields.
func (f *headFields) Joined(name, sep string) (list string, has bool) {
	join := func(value string) {
		if has {
			list += sep
		}
		list, has = list+value, true
	}
	f.each(name, func(e *field) bool {
		join(string(f.h.value(e)))
		return true
	})
	for i := range f.added {
		if strings.EqualFold(f.added[i].Name, name) {
			join(f.added[i].Value)
		}
	}
	return list, has
}

// Drop implements exchange.Fields. The fields that frame the message, and Host, stay: the engine writes them.
func (f *headFields) Drop(name string) {
	f.each(name, func(e *field) bool {
		switch e.id {
		case fieldHost, fieldContentLength, fieldTransferEncoding:
		default:
			e.drop = true
		}
		return true
	})
	kept := f.added[:0]
	for _, a := range f.added {
		if !strings.EqualFold(a.Name, name) {
			kept = append(kept, a)
		}
	}
	f.added = kept
}

// DropEnvoy implements exchange.Fields.
func (f *headFields) DropEnvoy(edge bool) {
	f.h.dropID(fieldEnvoyInternal)
	if edge {
		f.h.dropID(fieldEnvoy)
	}
}

// Add implements exchange.Fields.
func (f *headFields) Add(name, value string) {
	f.added = append(f.added, exchange.Field{Name: name, Value: value})
}

// AddRequestID implements exchange.Fields.
func (f *headFields) AddRequestID(id [36]byte) { f.id, f.hasID = id, true }

// append writes what is left of the head, and what was added.
func (f *headFields) append(out []byte) []byte {
	out = f.h.appendFields(out)
	for i := range f.added {
		out = appendField(out, f.added[i].Name, f.added[i].Value)
	}
	if f.hasID {
		out = append(out, "x-request-id: "...)
		out = append(out, f.id[:]...)
		out = append(out, "\r\n"...)
	}
	return out
}

// fieldList are the fields of an HTTP/2 message, as exchange.Fields.
type fieldList []hpack.HeaderField

// Lookup implements exchange.Fields.
func (l *fieldList) Lookup(name string) (string, bool) { return lookupField(*l, name) }

// Joined implements exchange.Fields.
func (l *fieldList) Joined(name, sep string) (list string, has bool) {
	for _, f := range *l {
		if f.Name != name {
			continue
		}
		if has {
			list += sep
		}
		list, has = list+f.Value, true
	}
	return list, has
}

// Drop implements exchange.Fields.
func (l *fieldList) Drop(name string) { *l = dropFields(*l, name) }

// DropEnvoy implements exchange.Fields.
func (l *fieldList) DropEnvoy(edge bool) { *l = dropEnvoy(*l, edge) }

// Add implements exchange.Fields.
func (l *fieldList) Add(name, value string) {
	*l = append(*l, hpack.HeaderField{Name: strings.ToLower(name), Value: value})
}

// AddRequestID implements exchange.Fields.
func (l *fieldList) AddRequestID(id [36]byte) { l.Add("x-request-id", string(id[:])) }
