package httpproxy

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
)

// headFields are the fields of an HTTP/1 head, as exchange.Fields. What is dropped is marked in the head; what is
// added is kept apart and written behind it.
type headFields struct {
	h     *http1.Head
	added []exchange.Field
	// edited tells that something was dropped or added.
	edited bool
	id     [36]byte // the x-request-id to add
	hasID  bool
}

// of begins with the fields of h; the storage of the last message is used again.
func (f *headFields) of(h *http1.Head) *headFields {
	f.h, f.added, f.edited, f.hasID = h, f.added[:0], false, false
	return f
}

// Lookup implements exchange.Fields. The value is valid as long as the head is.
func (f *headFields) Lookup(name string) (value string, has bool) {
	f.h.Each(name, func(e *http1.Field) bool {
		value, has = http1.View(f.h.Value(e)), true
		return false
	})
	if has {
		return value, true
	}
	for i := range f.added {
		if sameName(f.added[i].Name, name) {
			return f.added[i].Value, true
		}
	}
	return "", false
}

// knownIDs are the numbers that the HTTP/1 engine has for the fields of every message.
var knownIDs = [exchange.Knowns]http1.FieldID{
	exchange.ForwardedClientCert: http1.FieldXFCC,
	exchange.ForwardedProto:      http1.FieldForwardedProto,
	exchange.RequestID:           http1.FieldRequestID,
	exchange.ServerField:         http1.FieldServer,
	exchange.Failed:              http1.FieldFailed,
}

// Has implements exchange.Fields.
func (f *headFields) Has(name exchange.Known) bool {
	return f.h.Keeps(knownIDs[name]) || len(f.added) > 0 && f.hasAdded(name.String())
}

func (f *headFields) hasAdded(name string) bool {
	for i := range f.added {
		if sameName(f.added[i].Name, name) {
			return true
		}
	}
	return false
}

// sameName compares the names of fields. They are ASCII, so that those of one name have one length: most are told apart
// by that.
func sameName(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// Joined implements exchange.Fields.
func (f *headFields) Joined(name, sep string) (list string, has bool) {
	join := func(value string) {
		if has {
			list += sep
		}
		list, has = list+value, true
	}
	f.h.Each(name, func(e *http1.Field) bool {
		join(string(f.h.Value(e)))
		return true
	})
	for i := range f.added {
		if sameName(f.added[i].Name, name) {
			join(f.added[i].Value)
		}
	}
	return list, has
}

// Drop implements exchange.Fields. The fields that frame the message, and Host, stay: the engine writes them.
func (f *headFields) Drop(name string) {
	f.edited = true
	f.h.Each(name, func(e *http1.Field) bool {
		switch e.ID {
		case http1.FieldHost, http1.FieldContentLength, http1.FieldTransferEncoding:
		default:
			f.h.Omit(e)
		}
		return true
	})
	f.dropAdded(name)
}

// DropKnown implements exchange.Fields.
func (f *headFields) DropKnown(name exchange.Known) {
	if !f.Has(name) {
		return
	}
	f.edited = true
	f.h.Drop(knownIDs[name])
	f.dropAdded(name.String())
}

// dropAdded removes what was added under a name.
func (f *headFields) dropAdded(name string) {
	kept := f.added[:0]
	for _, a := range f.added {
		if !sameName(a.Name, name) {
			kept = append(kept, a)
		}
	}
	f.added = kept
}

// DropEnvoy implements exchange.Fields.
func (f *headFields) DropEnvoy(edge bool) {
	f.h.Drop(http1.FieldEnvoyInternal)
	if edge {
		f.h.Drop(http1.FieldEnvoy)
	}
}

// Add implements exchange.Fields.
func (f *headFields) Add(name, value string) {
	f.edited = true
	f.added = append(f.added, exchange.Field{Name: name, Value: value})
}

// addedField returns field i of those that were added, and whether there are as many.
func (f *headFields) addedField(i int) (name, value string, more bool) {
	if i >= len(f.added) {
		return "", "", false
	}
	return f.added[i].Name, f.added[i].Value, true
}

// AddRequestID implements exchange.Fields.
func (f *headFields) AddRequestID(id [36]byte) { f.id, f.hasID = id, true }

// append writes what is left of the head, and what was added.
func (f *headFields) append(out []byte) []byte {
	out = f.h.AppendFields(out)
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

// Has implements exchange.Fields.
func (l *fieldList) Has(name exchange.Known) bool {
	_, has := lookupField(*l, name.String())
	return has
}

// Drop implements exchange.Fields.
func (l *fieldList) Drop(name string) { *l = dropFields(*l, name) }

// DropKnown implements exchange.Fields.
func (l *fieldList) DropKnown(name exchange.Known) { l.Drop(name.String()) }

// DropEnvoy implements exchange.Fields.
func (l *fieldList) DropEnvoy(edge bool) { *l = dropEnvoy(*l, edge) }

// Add implements exchange.Fields.
func (l *fieldList) Add(name, value string) {
	*l = append(*l, hpack.HeaderField{Name: name, Value: value})
}

// AddRequestID implements exchange.Fields.
func (l *fieldList) AddRequestID(id [36]byte) { l.Add("x-request-id", string(id[:])) }
