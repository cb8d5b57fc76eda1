package httpproxy

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
	if digits == 0 || len(ext) > 0 && ext[0] != ';' || !isFieldText(ext) {
		return 0, badRequest("a chunk-size line is malformed")
	}
	s.left = size
	s.state = chunkData
	if size == 0 {
		s.state = chunkTrailers
	}
	return eol + 1, nil
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
func (s *chunkScanner) trailers(b []byte, h *head) (n int, err error) {
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
	for i := range h.fields {
		if f := &h.fields[i]; !trailerAllowed(f.id) {
			f.drop = true
		}
	}
	s.state = chunkDone
	return end, nil
}

func trailerAllowed(id fieldID) bool { return id == otherField }
