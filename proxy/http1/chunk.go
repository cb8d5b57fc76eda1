package http1

import (
	"bytes"
)

// maxChunkLine bounds a chunk-size line with its extensions, in bytes.
const maxChunkLine = 4 << 10

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkDataEnd
	chunkTrailers
	chunkDone
)

// chunkScanner walks a chunked body (RFC 9112 section 7.1) and never holds any of it.
type chunkScanner struct {
	state chunkState
	left  int64 // data bytes of the current chunk still to come
	// extra is how many bytes before the CRLF of the last size line are no part of the size: extensions, which end
	// at this hop (RFC 9112 section 7.1.1), or padding. Who passes the line on leaves them out and sets it to 0.
	extra int
	// padded accepts white space after a size, as old servers send it.
	padded bool
}

// next consumes from the front of b: first frame bytes of framing, then data bytes of content. Both 0 means
// that more input is needed, or that the state is chunkTrailers or chunkDone.
func (s *chunkScanner) next(b []byte) (frame, data int, err error) {
	for {
		switch s.state {
		case chunkSize:
			n, err := s.sizeLine(b[frame:])
			if n == 0 || err != nil {
				return frame, 0, err
			}
			frame += n
		case chunkData:
			data = int(min(s.left, int64(len(b)-frame)))
			s.left -= int64(data)
			if s.left == 0 {
				s.state = chunkDataEnd
			}
			return frame, data, nil
		case chunkDataEnd:
			if len(b)-frame < 2 {
				return frame, 0, nil
			}
			if b[frame] != '\r' || b[frame+1] != '\n' {
				return frame, 0, badRequest("a chunk does not end in CRLF")
			}
			frame += 2
			s.state = chunkSize
		default:
			return frame, 0, nil
		}
	}
}

func (s *chunkScanner) sizeLine(b []byte) (n int, err error) {
	eol := bytes.IndexByte(b, '\n')
	if eol < 0 {
		if len(b) > maxChunkLine {
			return 0, badRequest("a chunk-size line is larger than %d bytes", maxChunkLine)
		}
		return 0, nil
	}
	if eol < 1 || b[eol-1] != '\r' {
		return 0, badRequest("a chunk-size line ends in a bare line feed")
	}

	line := b[:eol-1]
	var size int64
	digits := 0
	for digits < len(line) {
		d := hexDigit(line[digits])
		if d < 0 {
			break
		}
		if digits++; digits > 15 {
			return 0, badRequest("a chunk size is too large")
		}
		size = size<<4 | int64(d)
	}

	ext := line[digits:]
	if digits == 0 || !isChunkExt(ext) && !(s.padded && len(trimSpace(ext)) == 0) {
		return 0, badRequest("a chunk-size line is malformed")
	}

	s.left, s.extra = size, len(ext)
	s.state = chunkData
	if size == 0 {
		s.state = chunkTrailers
	}
	return eol + 1, nil
}

// isChunkExt reports whether b is a list of chunk extensions: each a semicolon, a name, and perhaps a value, with
// white space about that senders should not send but recipients must accept (RFC 9112 section 7.1.1, RFC 9110 section
// 5.6.3).
func isChunkExt(b []byte) bool {
	for len(b) > 0 {
		b = trimSpace(b)
		if len(b) == 0 || b[0] != ';' {
			return false
		}
		b = trimSpace(b[1:])
		n := tokenLength(b)
		if n == 0 {
			return false
		}
		rest := trimSpace(b[n:])
		if b = b[n:]; len(rest) == 0 || rest[0] != '=' {
			continue
		}
		rest = trimSpace(rest[1:])
		if n = tokenLength(rest); n == 0 {
			n = quotedLength(rest)
		}
		if n == 0 {
			return false
		}
		b = rest[n:]
	}
	return true
}

// trimSpace removes spaces and tabs from the front.
func trimSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t") }

// tokenLength returns the length of the token at the front of b.
func tokenLength(b []byte) int {
	n := 0
	for n < len(b) && tokenTable[b[n]] != 0 {
		n++
	}
	return n
}

// quotedLength returns the length of the quoted string at the front of b (RFC 9110 section 5.6.4), 0 for none.
func quotedLength(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\' && i+1 < len(b):
			i++
		case c == '\\':
			return 0
		}
		if !isFieldTextSlow(b[i : i+1]) {
			return 0
		}
	}
	return 0
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// trailers parses the trailer section at the front of b into h and returns its length with the final empty
// line, or 0 when more bytes are needed. Fields that must not stand in a trailer are dropped
// (RFC 9110 section 6.5.1).
func (s *chunkScanner) trailers(b []byte, h *Head) (n int, err error) {
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		h.reset(b[:2])
		s.state = chunkDone
		return 2, nil
	}
	if len(b) < 2 {
		return 0, nil
	}

	end, err := findHeadEnd(b, 0)
	if end == 0 || err != nil {
		return 0, err
	}

	h.reset(b[:end])
	if err := h.parseFields(0); err != nil {
		return 0, err
	}
	for i := range h.Fields {
		if f := &h.Fields[i]; !trailerAllowed(f.ID) {
			h.Omit(f)
		}
	}
	s.state = chunkDone
	return end, nil
}

func trailerAllowed(id FieldID) bool { return id == OtherField }

// MayTrail reports whether a field of that name may stand in a trailer section.
func MayTrail(name string) bool { return trailerAllowed(identify([]byte(name))) }
