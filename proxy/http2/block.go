package http2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// MaxHead bounds a decoded header block, counted as SETTINGS_MAX_HEADER_LIST_SIZE does, unless the configuration
	// says less.
	MaxHead = 64 << 10
	// MaxBlock bounds a header block as it comes, in bytes. One that is larger than MaxHead once it is decoded
	// is read to its end and refused alone, for the compression state must stay in step with the peer's
	// (RFC 9113 sections 4.3 and 10.5.1); one beyond MaxBlock costs the connection.
	MaxBlock = 8 * MaxHead
	// keptFields is how many fields the buffer for heads that are not kept may hold when it is not in use.
	keptFields = 128
)

// Head is a decoded header block: a head, or trailers.
type Head struct {
	id       uint32
	Fields   []hpack.HeaderField
	End      bool  // the stream ends with it
	TooLarge bool  // it exceeds the limit: fields are missing
	invalid  error // what of RFC 9113 section 8 it breaks, or nil; fields are missing then
}

// pseudo reports whether it has pseudo fields.
func (h *Head) pseudo() bool { return len(h.Fields) > 0 && h.Fields[0].IsPseudo() }

// interim reports whether it is the head of a response that is not the last one.
func (h *Head) interim() bool {
	return len(h.Fields) > 0 && h.Fields[0].Name == ":status" && len(h.Fields[0].Value) == 3 && h.Fields[0].Value[0] == '1'
}

// blockReader puts header blocks together and decodes them. The goroutine that reads the connection uses it.
type blockReader struct {
	dec   *hpack.Decoder
	limit uint32 // of a decoded block, counted as SETTINGS_MAX_HEADER_LIST_SIZE does

	head    Head
	came    int    // bytes of the block so far
	left    uint32 // of limit
	regular bool   // a field that is no pseudo field came
	expect  int    // how many fields the last block had
}

func newBlockReader(limit uint32) *blockReader {
	b := &blockReader{limit: limit}
	b.dec = hpack.NewDecoder(4096, b.take)
	b.dec.SetMaxStringLength(2 * MaxBlock) // Huffman codes make strings longer, by 8/5 at most
	return b
}

// begin starts a block. keep says that its fields outlive the next block.
func (b *blockReader) begin(f *http2.HeadersFrame, keep bool) error {
	fields := b.head.Fields[:0]
	if keep || cap(fields) > keptFields {
		fields = make([]hpack.HeaderField, 0, min(b.expect, keptFields))
	}
	b.head = Head{id: f.StreamID, End: f.StreamEnded(), Fields: fields}
	b.came, b.left, b.regular = 0, b.limit, false
	b.dec.SetEmitEnabled(true)
	return b.add(f.HeaderBlockFragment())
}

// add decodes the next part of the block.
func (b *blockReader) add(p []byte) error {
	if b.came += len(p); b.came > MaxBlock {
		return connectionFault(http2.ErrCodeEnhanceYourCalm, "a header block is larger than %d bytes", MaxBlock)
	}
	if _, err := b.dec.Write(p); err != nil {
		return connectionFault(http2.ErrCodeCompression, "a header block cannot be decoded: %v", err)
	}
	return nil
}

// finish returns the decoded block, which is valid until the next one begins.
func (b *blockReader) finish(response bool) (*Head, error) {
	if err := b.dec.Close(); err != nil {
		return nil, connectionFault(http2.ErrCodeCompression, "a header block cannot be decoded: %v", err)
	}
	h := &b.head
	b.expect = len(h.Fields)
	if h.invalid == nil {
		h.invalid = checkPseudo(h.Fields, response)
	}
	return h, nil
}

var (
	errFieldName   = errors.New("a field name is not lower-case letters, digits and the marks of tokens")
	errFieldValue  = errors.New("a field value holds a forbidden character")
	errPseudoOrder = errors.New("a pseudo field stands behind other fields")
)

// take receives one decoded field.
func (b *blockReader) take(f hpack.HeaderField) {
	h := &b.head
	pseudo := f.IsPseudo()
	switch {
	case !httpguts.ValidHeaderFieldValue(f.Value):
		h.invalid = errFieldValue
	case pseudo && b.regular:
		h.invalid = errPseudoOrder
	case !pseudo && !isLowerToken(f.Name):
		h.invalid = errFieldName
	}
	b.regular = b.regular || !pseudo
	if size := f.Size(); size > b.left {
		h.TooLarge = true
	} else {
		b.left -= size
	}
	if h.invalid != nil || h.TooLarge {
		b.dec.SetEmitEnabled(false) // the rest only keeps the compression state in step
		return
	}
	h.Fields = append(h.Fields, f)
}

func isLowerToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' || c >= 0x80 || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return s != ""
}

// checkPseudo checks that no pseudo field comes twice or belongs to the other kind of message (RFC 9113 section 8.3).
func checkPseudo(fields []hpack.HeaderField, response bool) error {
	for i := range fields {
		name := fields[i].Name
		if !fields[i].IsPseudo() {
			return nil
		}
		known := false
		switch name {
		case ":status":
			known = response
		case ":method", ":path", ":scheme", ":authority", ":protocol":
			known = !response
		}
		if !known {
			return fmt.Errorf("the pseudo field %.64q has no place in it", name)
		}
		for j := range i {
			if fields[j].Name == name {
				return fmt.Errorf("the pseudo field %q comes twice", name)
			}
		}
	}
	return nil
}
