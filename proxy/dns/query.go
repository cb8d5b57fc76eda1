package dns

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/dns/dnsmessage"
)

// Sizes of RFC 1035, section 2.3.4 and 4.2, and RFC 6891.
const (
	headerSize = 12
	maxLabel   = 63
	// maxName is a name's length in text without its trailing dot.
	maxName = 253
	// plainUDP is what a client takes over UDP that does not say otherwise.
	plainUDP = 512
	// maxMessage is what TCP can carry, and no query or answer is longer.
	maxMessage = 65535
)

// Bits of the header's second line (RFC 1035, section 4.1.1; RFC 4035, section 3).
const (
	bitResponse           = 1 << 15
	bitAuthoritative      = 1 << 10
	bitTruncated          = 1 << 9
	bitRecursionDesired   = 1 << 8
	bitRecursionAvailable = 1 << 7
	bitCheckingDisabled   = 1 << 4
	opcodeMask            = 0xF << 11
	rcodeMask             = 0xF
)

// Reasons why a message gets no answer, or none out of the table.
var (
	// errSilence is for what must not be answered: a response would make two
	// servers talk to each other for ever.
	errSilence = errors.New("no query")
	errFormat  = errors.New("the message is malformed")
)

// query is one question. It refers to the message that it was read from.
type query struct {
	msg   []byte
	flags uint16
	// end is where the question ends; what comes before is the header and the
	// question, as they were asked.
	end    int
	qtype  dnsmessage.Type
	qclass dnsmessage.Class
	// name is in lower case, without a trailing dot; empty for the root and for
	// names with characters that no host has.
	name  []byte
	space [maxName + 2]byte

	// edns tells that there is an OPT record (RFC 6891), of the version; size is
	// the longest answer that the client takes over UDP.
	edns        bool
	ednsVersion uint8
	dnssec      bool
	size        int
}

// parse reads a message. With errFormat the header may be used, and end tells
// whether the question may.
func (q *query) parse(msg []byte) error {
	q.msg, q.end, q.name, q.edns, q.dnssec, q.ednsVersion, q.size = msg, headerSize, nil, false, false, 0, plainUDP
	if len(msg) < headerSize {
		return errSilence
	}
	q.flags = binary.BigEndian.Uint16(msg[2:])
	if q.flags&bitResponse != 0 {
		return errSilence
	}

	// More than one question is an error by RFC 9619, and none has no answer
	// here.
	if binary.BigEndian.Uint16(msg[4:]) != 1 {
		return errFormat
	}
	end, ok := q.readName(headerSize)
	if !ok || len(msg) < end+4 {
		return errFormat
	}
	q.qtype = dnsmessage.Type(binary.BigEndian.Uint16(msg[end:]))
	q.qclass = dnsmessage.Class(binary.BigEndian.Uint16(msg[end+2:]))
	q.end = end + 4
	return q.readOPT()
}

// readName reads the question's name. There is nothing before it that a pointer
// could refer to.
func (q *query) readName(at int) (end int, ok bool) {
	name, strange := q.space[:0], false
	for {
		if at >= len(q.msg) {
			return 0, false
		}
		n := int(q.msg[at])
		at++
		switch {
		case n == 0:
			if strange {
				name = nil
			}
			q.name = name
			return at, true
		case n > maxLabel || at+n > len(q.msg) || len(name)+1+n > maxName+1:
			return 0, false
		}

		if len(name) > 0 {
			name = append(name, '.')
		}
		for _, c := range q.msg[at : at+n] {
			strange = strange || c == '.' || c <= ' '
			name = append(name, lower(c))
		}
		at += n
	}
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// readOPT finds the OPT record, which stands behind the question in most queries.
func (q *query) readOPT() error {
	if binary.BigEndian.Uint16(q.msg[10:]) == 0 {
		return nil
	}
	var p dnsmessage.Parser
	if _, err := p.Start(q.msg); err != nil {
		return errFormat
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return errFormat
	}

	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		}
		if err != nil || p.SkipAdditional() != nil {
			return errFormat
		}
		if h.Type == dnsmessage.TypeOPT {
			q.edns = true
			q.size = max(plainUDP, int(h.Class))
			q.ednsVersion = uint8(h.TTL >> 16)
			q.dnssec = h.DNSSECAllowed()
		}
	}
}

// question is the question as it was asked, letter by letter.
func (q *query) question() []byte { return q.msg[headerSize:q.end] }

// ours tells whether the query may be answered out of the table: a plain question
// for something of the Internet.
func (q *query) ours() bool {
	inet := q.qclass == dnsmessage.ClassINET || q.qclass == dnsmessage.ClassANY
	return q.flags&opcodeMask == 0 && inet && q.ednsVersion == 0 && len(q.name) > 0
}
