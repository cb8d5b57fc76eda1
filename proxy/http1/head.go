package http1

import (
	"bytes"
	"encoding/binary"
	"unsafe"
)

// MaxHead bounds a request or response head, request line and fields included, in bytes.
const MaxHead = 64 << 10

// MaxFields bounds the number of header fields in one head.
const MaxFields = 256

// FieldID names the header fields that the proxy itself looks at; all others are OtherField and pass
// through untouched.
type FieldID uint8

const (
	OtherField FieldID = iota
	FieldHost
	FieldConnection
	FieldKeepAlive
	FieldProxyConnection
	FieldTE
	FieldTrailer
	FieldTransferEncoding
	FieldUpgrade
	FieldContentLength
	FieldContentType
	FieldExpect
	FieldXFCC
	FieldRequestID
	FieldForwardedProto
	FieldServer
	FieldDate
	FieldHTTP2Settings
	FieldUserAgent
	FieldForwardedFor
	FieldFailed
	FieldEnvoyInternal // see EnvoyField
	FieldEnvoy
	fieldIDs
)

// fieldSet is a set of known fields, a bit for each.
type fieldSet uint32

const _ = uint(32 - fieldIDs) // does not compile when they are too many

func (s fieldSet) holds(id FieldID) bool { return s&(1<<id) != 0 }

// fieldNames are the names of the known fields, in lower case.
var fieldNames = [fieldIDs]string{
	FieldHost:             "host",
	FieldConnection:       "connection",
	FieldKeepAlive:        "keep-alive",
	FieldProxyConnection:  "proxy-connection",
	FieldTE:               "te",
	FieldTrailer:          "trailer",
	FieldTransferEncoding: "transfer-encoding",
	FieldUpgrade:          "upgrade",
	FieldContentLength:    "content-length",
	FieldContentType:      "content-type",
	FieldExpect:           "expect",
	FieldXFCC:             "x-forwarded-client-cert",
	FieldRequestID:        "x-request-id",
	FieldForwardedProto:   "x-forwarded-proto",
	FieldServer:           "server",
	FieldDate:             "date",
	FieldHTTP2Settings:    "http2-settings",
	FieldUserAgent:        "user-agent",
	FieldForwardedFor:     "x-forwarded-for",
	FieldFailed:           "x-isthmus-failed",
	FieldEnvoyInternal:    "x-envoy-internal",      // one of several
	FieldEnvoy:            "x-envoy-attempt-count", // one of several
}

// String returns the lower-case name of a known field; "" for OtherField.
func (id FieldID) String() string {
	if id >= fieldIDs {
		return ""
	}
	return fieldNames[id]
}

// isName reports whether one name alone has the id. FieldEnvoy is told by its prefix.
func (id FieldID) isName() bool { return id != OtherField && id != FieldEnvoy }

// identify returns the id of a field name. Only one of isName says that the bytes are a name at all.
func identify(name []byte) FieldID {
	// The length and a letter leave one candidate.
	var id FieldID
	switch len(name) {
	case 2:
		id = FieldTE
	case 4:
		id = FieldHost
		if name[0]|0x20 == 'd' {
			id = FieldDate
		}
	case 6:
		id = FieldExpect
		if name[0]|0x20 == 's' {
			id = FieldServer
		}
	case 7:
		id = FieldUpgrade
		if name[0]|0x20 == 't' {
			id = FieldTrailer
		}
	case 10:
		id = identify10(name)
	case 12:
		id = FieldContentType
		if name[0]|0x20 == 'x' {
			id = FieldRequestID
		}
	case 14:
		id = FieldContentLength
		if name[0]|0x20 == 'h' {
			id = FieldHTTP2Settings
		}
	case 15:
		id = FieldForwardedFor
	case 16:
		id = FieldProxyConnection
		if name[0]|0x20 == 'x' {
			id = FieldFailed
		}
	case 17:
		id = FieldTransferEncoding
		if name[0]|0x20 == 'x' {
			id = FieldForwardedProto
		}
	case 23:
		id = FieldXFCC
	}

	if id != OtherField && EqualLower(name, fieldNames[id]) {
		return id
	}
	if len(name) > len("x-envoy-") && name[2]|0x20 == 'e' {
		return EnvoyField(name)
	}
	return OtherField
}

func identify10(name []byte) FieldID {
	switch name[0] | 0x20 {
	case 'c':
		return FieldConnection
	case 'k':
		return FieldKeepAlive
	case 'u':
		return FieldUserAgent
	}
	return OtherField
}

// EqualLower reports whether token equals lower without regard to case. lower must be lower case, of letters, digits
// and hyphens.
//
// Of all bytes but control characters, only the two cases of a letter become that letter when bit 0x20 is set, and digits
// and hyphens have it set. So eight bytes are compared at once: every field of every message comes through here.
func EqualLower(token []byte, lower string) bool {
	n := len(lower)
	if len(token) != n {
		return false
	}
	if n < 8 {
		for i := range n {
			if c := token[i]; c|0x20 != lower[i] || c < 0x20 {
				return false
			}
		}
		return true
	}

	// The last word is a whole one as well, if need be with bytes that were compared before.
	w := binary.LittleEndian.Uint64(token[n-8:])
	differ, seen := unlike(w, firstWord(lower[n-8:])), w|w<<1
	for ; len(lower) > 8; token, lower = token[8:], lower[8:] {
		w = binary.LittleEndian.Uint64(token)
		differ |= unlike(w, firstWord(lower))
		seen &= w | w<<1
	}
	const visible = 0x4040404040404040 // 0x20 or 0x40 was set in every byte
	return differ == 0 && seen&visible == visible
}

// unlike is 0 where eight bytes equal others in lower case, control characters apart.
func unlike(w, lower uint64) uint64 { return (w | 0x2020202020202020) ^ lower }

// firstWord is the first eight bytes of s, which the compiler loads at once.
func firstWord(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// Field is one header line, as offsets into head.raw. line..next is the whole line with its CRLF.
type Field struct {
	line, nameEnd, valueStart, valueEnd, next uint32
	ID                                        FieldID
	Drop                                      bool // set by Head.Omit
}

// Head is a parsed HTTP/1 request or response head. Its slices alias the buffer it was parsed from and are
// valid until that buffer is read into again. A head is reused from message to message.
type Head struct {
	raw    []byte // request or status line, fields, and the empty line
	Fields []Field

	Method, Target []byte // request only
	Status         int    // response only
	Reason         []byte // response only
	Minor          int    // of HTTP/1.minor

	Framing Framing
	first   [fieldIDs]int16 // 1-based index of the first field with that id, 0 when absent
	// there are the ids that came, repeated those that came more than once.
	there, repeated fieldSet
	// omits tells that a field is not passed on.
	omits bool
	// Close is set when the sender ends the connection after this message.
	Close bool
	// Upgrade is set when Connection names "upgrade" and an Upgrade field is there.
	Upgrade bool
	// TrailersOK is set when TE lists "trailers".
	TrailersOK bool
	fieldsFrom uint32
}

// BodyKind says how the end of a message body is found (RFC 9112 section 6).
type BodyKind uint8

const (
	BodyNone BodyKind = iota
	BodyLength
	BodyChunked
	BodyUntilClose
)

type Framing struct {
	Kind   BodyKind
	Length int64 // of BodyLength, in bytes
}

// Detach makes a request head independent of the buffer that it was parsed from.
func (h *Head) Detach() {
	h.raw = bytes.Clone(h.raw)
	h.Method = h.raw[:len(h.Method)]
	target := len(h.Method) + 1 // behind a space
	h.Target = h.raw[target : target+len(h.Target)]
}

func (h *Head) Name(f *Field) []byte  { return h.raw[f.line:f.nameEnd] }
func (h *Head) Value(f *Field) []byte { return h.raw[f.valueStart:f.valueEnd] }

// Get returns the value of the first field with a known id, or nil.
func (h *Head) Get(id FieldID) []byte {
	i := h.first[id]
	if i == 0 {
		return nil
	}
	return h.Value(&h.Fields[i-1])
}

func (h *Head) has(id FieldID) bool { return h.there.holds(id) }

// found notes that the last field has a known id.
func (h *Head) found(id FieldID) {
	if h.has(id) {
		h.repeated |= 1 << id
		return
	}
	h.there |= 1 << id
	h.first[id] = int16(len(h.Fields))
}

// Keeps reports whether a field with that id came and is passed on.
func (h *Head) Keeps(id FieldID) bool {
	if !h.has(id) {
		return false
	}
	for i := int(h.first[id]) - 1; i < len(h.Fields); i++ {
		if f := &h.Fields[i]; f.ID == id && !f.Drop {
			return true
		}
	}
	return false
}

// Lookup returns the value of the first field with a lower-case name, known or not.
func (h *Head) Lookup(lower string) (string, bool) {
	for i := range h.Fields {
		if f := &h.Fields[i]; EqualLower(h.Name(f), lower) {
			return string(h.Value(f)), true
		}
	}
	return "", false
}

// Joined returns the values of all fields with a lower-case name as one list (RFC 9110 section 5.3), and whether there
// are any.
func (h *Head) Joined(lower string) (list string, has bool) {
	for i := range h.Fields {
		f := &h.Fields[i]
		if !EqualLower(h.Name(f), lower) {
			continue
		}
		if has {
			list += ","
		}
		list, has = list+string(h.Value(f)), true
	}
	return list, has
}

// Drop leaves every field with that id out of AppendFields.
func (h *Head) Drop(id FieldID) {
	if !h.has(id) {
		return
	}
	for i := int(h.first[id]) - 1; i < len(h.Fields); i++ {
		if h.Fields[i].ID == id {
			h.Omit(&h.Fields[i])
		}
	}
}

// Omit leaves one field out of AppendFields.
func (h *Head) Omit(f *Field) { f.Drop, h.omits = true, true }

// AppendFields appends all fields that were not dropped, byte for byte as they came; neighbours are copied
// together.
func (h *Head) AppendFields(out []byte) []byte {
	if n := len(h.Fields); n > 0 && !h.omits {
		return append(out, h.raw[h.fieldsFrom:h.Fields[n-1].next]...)
	}

	from := h.fieldsFrom
	end := from
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Drop {
			out = append(out, h.raw[from:end]...)
			from = f.next
		}
		end = f.next
	}
	if from < end {
		out = append(out, h.raw[from:end]...)
	}
	return out
}

// Each calls do with every field of a name that came and was not dropped, until it returns false.
func (h *Head) Each(name string, do func(*Field) bool) {
	id := identify([]byte(name))
	from := 0
	if id != OtherField {
		if from = int(h.first[id]) - 1; from < 0 {
			return
		}
	}
	for i := from; i < len(h.Fields); i++ {
		e := &h.Fields[i]
		if e.Drop || e.ID != id || id == OtherField && !EqualLower(h.Name(e), name) {
			continue
		}
		if !do(e) {
			return
		}
	}
}

// View returns b as a string without copying; it is valid as long as b is.
func View(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
