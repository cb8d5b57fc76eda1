package http1

import "unsafe"

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

// String returns the lower-case name of a known field.
func (id FieldID) String() string {
	switch id {
	case FieldHost:
		return "host"
	case FieldConnection:
		return "connection"
	case FieldKeepAlive:
		return "keep-alive"
	case FieldProxyConnection:
		return "proxy-connection"
	case FieldTE:
		return "te"
	case FieldTrailer:
		return "trailer"
	case FieldTransferEncoding:
		return "transfer-encoding"
	case FieldUpgrade:
		return "upgrade"
	case FieldContentLength:
		return "content-length"
	case FieldContentType:
		return "content-type"
	case FieldExpect:
		return "expect"
	case FieldXFCC:
		return "x-forwarded-client-cert"
	case FieldRequestID:
		return "x-request-id"
	case FieldForwardedProto:
		return "x-forwarded-proto"
	case FieldServer:
		return "server"
	case FieldDate:
		return "date"
	case FieldHTTP2Settings:
		return "http2-settings"
	case FieldUserAgent:
		return "user-agent"
	case FieldForwardedFor:
		return "x-forwarded-for"
	case FieldFailed:
		return "x-isthmus-failed"
	case FieldEnvoyInternal: // one of several
		return "x-envoy-internal"
	case FieldEnvoy: // one of several
		return "x-envoy-attempt-count"
	}
	return ""
}

// identify returns the id of a field name whose bytes are all token characters (RFC 9110 section 5.6.2).
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

	if id != OtherField {
		// Most names come in lower case, the proxy's own always do: as they are, they compare several times as fast.
		if known := id.String(); string(name) == known || EqualLower(name, known) {
			return id
		}
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

// EqualLower reports whether token, made of token characters, equals lower without regard to case;
// lower must be lower case.
func EqualLower(token []byte, lower string) bool {
	if len(token) != len(lower) {
		return false
	}
	for i := range len(lower) {
		c := token[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// Field is one header line, as offsets into head.raw. line..next is the whole line with its CRLF.
type Field struct {
	line, nameEnd, valueStart, valueEnd, next uint32
	ID                                        FieldID
	Drop                                      bool
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

func (h *Head) has(id FieldID) bool { return h.first[id] != 0 }

// Lookup returns the value of the first field with a lower-case name, known or not.
func (h *Head) Lookup(lower string) (string, bool) {
	for i := range h.Fields {
		if f := &h.Fields[i]; EqualLower(h.Name(f), lower) {
			return string(h.Value(f)), true
		}
	}
	return "", false
}

// Drop leaves every field with that id out of AppendFields.
func (h *Head) Drop(id FieldID) {
	if h.first[id] == 0 {
		return
	}
	for i := int(h.first[id]) - 1; i < len(h.Fields); i++ {
		if h.Fields[i].ID == id {
			h.Fields[i].Drop = true
		}
	}
}

// AppendFields appends all fields that were not dropped, byte for byte as they came; neighbours are copied
// together.
func (h *Head) AppendFields(out []byte) []byte {
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
