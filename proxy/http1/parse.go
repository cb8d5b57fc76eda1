package http1

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// SyntaxError is a message that breaks HTTP/1 syntax or is ambiguous; Status is the answer to a request.
type SyntaxError struct {
	Status int
	Reason string
}

func (e *SyntaxError) Error() string { return e.Reason }

func badRequest(format string, args ...any) error {
	return &SyntaxError{Status: 400, Reason: fmt.Sprintf(format, args...)}
}

// tokenTable marks the token characters of RFC 9110 section 5.6.2.
const tokenChars = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var tokenTable = charsetOf(tokenChars)

func IsToken(b []byte) bool { return len(b) > 0 && tokenTable.holds(View(b)) }

// isFieldText reports whether b holds no control character but horizontal tab (RFC 9110 section 5.5).
func isFieldText(b []byte) bool {
	if len(b) < 8 {
		return isFieldTextSlow(b)
	}

	// Words are only collected here. The last one is whole as well, if need be with bytes that were looked at before.
	odd := oddText(binary.LittleEndian.Uint64(b[len(b)-8:]))
	for rest := b; len(rest) > 8; rest = rest[8:] {
		odd |= oddText(binary.LittleEndian.Uint64(rest))
	}
	return odd == 0 || isFieldTextSlow(b)
}

// oddText is 0 if all of the eight bytes of x are text. If not, there may be a control character, a tab, or a borrow
// from the byte before: look closer.
func oddText(x uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	del := x ^ (0x7f * ones)
	return ((x-0x20*ones)&^x | (del-ones)&^del) & highs
}

func isFieldTextSlow(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// findHeadEnd returns the length of the head at the start of b, or 0 when more bytes are needed. seen is how
// much of b earlier calls have looked at.
func findHeadEnd(b []byte, seen int) (int, error) {
	from := max(seen-3, 0)
	if n := emptyLineEnd(b, from); n > 0 {
		if n > MaxHead {
			return 0, &SyntaxError{431, fmt.Sprintf("the head is larger than %d bytes", MaxHead)}
		}
		return n, nil
	}
	if len(b) >= MaxHead {
		return 0, &SyntaxError{431, fmt.Sprintf("the head is larger than %d bytes", MaxHead)}
	}
	if len(b) > 0 && tokenTable[b[0]] == 0 {
		return 0, badRequest("the message does not start with a token")
	}
	if bytes.Contains(b[from:], []byte("\n\n")) {
		return 0, badRequest("a line ends in a bare line feed")
	}
	return 0, nil
}

// emptyLineEnd returns the offset behind the first CRLF CRLF at or after from, 0 where there is none. bytes.Index goes
// from line to line as well, but at twice the price, and every message comes through here.
func emptyLineEnd(b []byte, from int) int {
	for at := from; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0
		}
		at += i + 1
		if len(b)-at >= 2 && b[at] == '\r' && b[at+1] == '\n' && at-2 >= from && b[at-2] == '\r' {
			return at + 2
		}
	}
}

// ParseRequest parses raw, a whole request head as delimited by findHeadEnd, and checks all that two HTTP
// implementations could read differently (RFC 9112 section 11).
func (h *Head) ParseRequest(raw []byte) error {
	h.reset(raw)
	line, rest, err := cutLine(raw, 0)
	if err != nil {
		return err
	}
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 || !IsToken(line[:sp]) {
		return badRequest("the request line has no valid method")
	}
	h.Method = line[:sp]

	line = line[sp+1:]
	sp = bytes.IndexByte(line, ' ')
	if sp <= 0 {
		return badRequest("the request line has no target or no version")
	}
	h.Target = line[:sp]
	if !IsTarget(h.Target) {
		return badRequest("the request target holds a forbidden character")
	}
	if h.Minor, err = parseVersion(line[sp+1:]); err != nil {
		return err
	}

	if err := h.parseFields(rest); err != nil {
		return err
	}
	return h.checkRequest()
}

// ParseResponse parses raw, a whole response head; toHead says that the request was a HEAD.
func (h *Head) ParseResponse(raw []byte, toHead bool) error {
	h.reset(raw)
	line, rest, err := cutLine(raw, 0)
	if err != nil {
		return err
	}
	if len(line) < 12 || line[8] != ' ' || (len(line) > 12 && line[12] != ' ') {
		return badRequest("the status line is malformed")
	}
	if h.Minor, err = parseVersion(line[:8]); err != nil {
		return err
	}

	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return badRequest("the status code is not a number")
		}
		h.Status = h.Status*10 + int(c-'0')
	}
	if h.Status < 100 {
		return badRequest("the status code is below 100")
	}
	if len(line) > 13 {
		h.Reason = line[13:]
		if !isFieldText(h.Reason) {
			return badRequest("the reason phrase holds a control character")
		}
	}

	if err := h.parseFields(rest); err != nil {
		return err
	}
	return h.checkResponse(toHead)
}

func (h *Head) reset(raw []byte) {
	fields := h.Fields[:0]
	*h = Head{}
	h.raw, h.Fields = raw, fields
}

// cutLine returns the line that starts at from, without CRLF, and the offset after it.
func cutLine(raw []byte, from int) (line []byte, next int, err error) {
	i := bytes.IndexByte(raw[from:], '\n')
	if i < 1 || raw[from+i-1] != '\r' {
		return nil, 0, badRequest("a line ends in a bare line feed")
	}
	return raw[from : from+i-1], from + i + 1, nil
}

// parseVersion returns the minor version: 0, or 1 for all that is later, which speaks as 1.1 does (RFC 9110 section
// 2.5).
func parseVersion(v []byte) (minor int, err error) {
	if string(v) == "HTTP/1.1" {
		return 1, nil
	}
	const form = "HTTP/d.d"
	if len(v) != len(form) || string(v[:5]) != form[:5] || v[6] != '.' || !isDigit(v[5]) || !isDigit(v[7]) {
		return 0, badRequest("the HTTP version is malformed")
	}
	if v[5] != '1' {
		return 0, &SyntaxError{505, "the HTTP version is not 1"}
	}
	return int(min(v[7]-'0', 1)), nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// IsTarget accepts visible ASCII and bytes above 0x7f, as deployed clients send raw UTF-8, and no fragment.
func IsTarget(t []byte) bool {
	return targetTable.holds(View(t))
}

// targetTable marks what a target may hold.
var targetTable = func() (t charset) {
	for c := range len(t) {
		if c > 0x20 && c != 0x7f && c != '#' {
			t[c] = 1
		}
	}
	return t
}()

func (h *Head) parseFields(from int) error {
	h.fieldsFrom = uint32(from)
	raw := h.raw
	for {
		if raw[from] == '\r' && raw[from+1] == '\n' {
			if from+2 != len(raw) {
				return badRequest("an empty line stands inside the head")
			}
			return nil
		}
		if len(h.Fields) == MaxFields {
			return &SyntaxError{431, fmt.Sprintf("the head has more than %d fields", MaxFields)}
		}
		next, err := h.parseField(from)
		if err != nil {
			return err
		}
		from = next
	}
}

func (h *Head) parseField(from int) (next int, err error) {
	raw := h.raw
	colon := from + colonAt(raw[from:])
	if colon < from {
		return 0, badName(raw[from])
	}
	id := identify(raw[from:colon])
	if !id.isName() && !IsToken(raw[from:colon]) {
		return 0, badName(raw[from])
	}

	start := colon + 1
	eol := bytes.IndexByte(raw[start:], '\n') + start
	if raw[eol-1] != '\r' || eol-1 < start {
		return 0, badRequest("a line ends in a bare line feed")
	}

	next = eol + 1
	end := eol - 1
	for start < end && (raw[start] == ' ' || raw[start] == '\t') {
		start++
	}
	for end > start && (raw[end-1] == ' ' || raw[end-1] == '\t') {
		end--
	}
	if !isFieldText(raw[start:end]) {
		return 0, badRequest("header field %.64q holds a control character", raw[from:colon])
	}

	h.Fields = append(h.Fields, Field{
		line: uint32(from), nameEnd: uint32(colon),
		valueStart: uint32(start), valueEnd: uint32(end), next: uint32(next), ID: id,
	})
	switch {
	case id != OtherField:
		h.found(id)
	case IsAlias(View(raw[from:colon])):
		h.Omit(&h.Fields[len(h.Fields)-1])
	}
	return next, nil
}

// badName refuses a line that begins with c and not with a field name and a colon.
func badName(c byte) error {
	if c == ' ' || c == '\t' {
		return badRequest("a header field is folded over several lines")
	}
	return badRequest("a header field name is empty or holds a character that is not a token character")
}

// colonAt returns the offset of the first colon, -1 where there is none. Names are short: bytes.IndexByte would take
// longer to begin than this to end.
func colonAt(b []byte) int {
	const ones, highs, colons = 0x0101010101010101, 0x8080808080808080, 0x3a3a3a3a3a3a3a3a
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:]) ^ colons
		if zero := (x - ones) &^ x & highs; zero != 0 { // the lowest bit is that of the first byte that is 0
			return i + bits.TrailingZeros64(zero)/8
		}
	}
	for ; i < len(b); i++ {
		if b[i] == ':' {
			return i
		}
	}
	return -1
}
