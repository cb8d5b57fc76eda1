package httpproxy

// maxHead bounds a request or response head, request line and fields included, in bytes.
const maxHead = 64 << 10

// maxFields bounds the number of header fields in one head.
const maxFields = 256

// fieldID names the header fields that the proxy itself looks at; all others are otherField and pass
// through untouched.
type fieldID uint8

const (
	otherField fieldID = iota
	fieldHost
	fieldConnection
	fieldKeepAlive
	fieldProxyConnection
	fieldTE
	fieldTrailer
	fieldTransferEncoding
	fieldUpgrade
	fieldContentLength
	fieldContentType
	fieldExpect
	fieldXFCC
	fieldRequestID
	fieldForwardedProto
	fieldServer
	fieldDate
	fieldHTTP2Settings
	fieldUserAgent
	fieldForwardedFor
	fieldFailed
	fieldEnvoyInternal // see envoyField
	fieldEnvoy
	fieldIDs
)

// fieldNames holds the lower-case name of each known field.
func (id fieldID) String() string {
	switch id {
	case fieldHost:
		return "host"
	case fieldConnection:
		return "connection"
	case fieldKeepAlive:
		return "keep-alive"
	case fieldProxyConnection:
		return "proxy-connection"
	case fieldTE:
		return "te"
	case fieldTrailer:
		return "trailer"
	case fieldTransferEncoding:
		return "transfer-encoding"
	case fieldUpgrade:
		return "upgrade"
	case fieldContentLength:
		return "content-length"
	case fieldContentType:
		return "content-type"
	case fieldExpect:
		return "expect"
	case fieldXFCC:
		return "x-forwarded-client-cert"
	case fieldRequestID:
		return "x-request-id"
	case fieldForwardedProto:
		return "x-forwarded-proto"
	case fieldServer:
		return "server"
	case fieldDate:
		return "date"
	case fieldHTTP2Settings:
		return "http2-settings"
	case fieldUserAgent:
		return "user-agent"
	case fieldForwardedFor:
		return "x-forwarded-for"
	case fieldFailed:
		return "x-isthmus-failed"
	case fieldEnvoyInternal: // one of several
		return "x-envoy-internal"
	case fieldEnvoy: // one of several
		return "x-envoy-attempt-count"
	}
	return ""
}

// identify returns the id of a field name whose bytes are all token characters (RFC 9110 section 5.6.2).
func identify(name []byte) fieldID {
	var id fieldID
	switch len(name) {
	case 2:
		id = fieldTE
	case 4:
		id = fieldHost
		if name[0]|0x20 == 'd' {
			id = fieldDate
		}
	case 6:
		id = fieldExpect
		if name[0]|0x20 == 's' {
			id = fieldServer
		}
	case 7:
		id = fieldUpgrade
		if name[0]|0x20 == 't' {
			id = fieldTrailer
		}
	case 10:
		id = identify10(name)
	case 12:
		id = fieldContentType
		if name[0]|0x20 == 'x' {
			id = fieldRequestID
		}
	case 14:
		id = fieldContentLength
		if name[0]|0x20 == 'h' {
			id = fieldHTTP2Settings
		}
	case 15:
		id = fieldForwardedFor
	case 16:
		id = fieldProxyConnection
		if name[0]|0x20 == 'x' {
			id = fieldFailed
		}
	case 17:
		id = fieldTransferEncoding
		if name[0]|0x20 == 'x' {
			id = fieldForwardedProto
		}
	case 23:
		id = fieldXFCC
	case 29:
	}
	if id != otherField && equalLower(name, id.String()) {
		return id
	}
	if len(name) > len("x-envoy-") && name[2]|0x20 == 'e' {
		return envoyField(name)
	}
	return otherField
}

func identify10(name []byte) fieldID {
	switch name[0] | 0x20 {
	case 'c':
		return fieldConnection
	case 'k':
		return fieldKeepAlive
	case 'u':
		return fieldUserAgent
	}
	return otherField
}

// equalLower reports whether token, made of token characters, equals lower without regard to case;
// lower must be lower case.
func equalLower(token []byte, lower string) bool {
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

// field is one header line, as offsets into head.raw. line..next is the whole line with its CRLF.
type field struct {
	line, nameEnd, valueStart, valueEnd, next uint32
	id                                        fieldID
	drop                                      bool
}

// head is a parsed HTTP/1 request or response head. Its slices alias the buffer it was parsed from and are
// valid until that buffer is read into again. A head is reused from message to message.
type head struct {
	raw    []byte // request or status line, fields, and the empty line
	fields []field

	method, target []byte // request only
	status         int    // response only
	reason         []byte // response only
	minor          int    // of HTTP/1.minor

	framing framing
	first   [fieldIDs]int16 // 1-based index of the first field with that id, 0 when absent
	// close is set when the sender ends the connection after this message.
	close bool
	// upgrade is set when Connection names "upgrade" and an Upgrade field is there.
	upgrade bool
	// trailersOK is set when TE lists "trailers".
	trailersOK bool
	fieldsFrom uint32
}

// bodyKind says how the end of a message body is found (RFC 9112 section 6).
type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunked
	bodyUntilClose
)

type framing struct {
	kind   bodyKind
	length int64 // for bodyLength
}

func (h *head) name(f *field) []byte  { return h.raw[f.line:f.nameEnd] }
func (h *head) value(f *field) []byte { return h.raw[f.valueStart:f.valueEnd] }

// get returns the value of the first field with a known id, or nil.
func (h *head) get(id fieldID) []byte {
	i := h.first[id]
	if i == 0 {
		return nil
	}
	return h.value(&h.fields[i-1])
}

// all returns the values of every field with a known id as one list (RFC 9110 section 5.3).
func (h *head) all(id fieldID) string {
	list := ""
	for i := int(h.first[id]) - 1; i >= 0 && i < len(h.fields); i++ {
		if h.fields[i].id == id {
			list = joinValues(list, string(h.value(&h.fields[i])))
		}
	}
	return list
}

func (h *head) has(id fieldID) bool { return h.first[id] != 0 }

// lookup returns the value of the first field with a lower-case name, known or not.
func (h *head) lookup(lower string) (string, bool) {
	for i := range h.fields {
		if f := &h.fields[i]; equalLower(h.name(f), lower) {
			return string(h.value(f)), true
		}
	}
	return "", false
}

// dropID leaves every field with that id out of appendFields.
func (h *head) dropID(id fieldID) {
	if h.first[id] == 0 {
		return
	}
	for i := int(h.first[id]) - 1; i < len(h.fields); i++ {
		if h.fields[i].id == id {
			h.fields[i].drop = true
		}
	}
}

// appendFields appends all fields that were not dropped, byte for byte as they came; neighbours are copied
// together.
func (h *head) appendFields(out []byte) []byte {
	from := h.fieldsFrom
	end := from
	for i := range h.fields {
		f := &h.fields[i]
		if f.drop {
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
