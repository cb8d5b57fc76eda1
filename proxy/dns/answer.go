package dns

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// ttl is for how many seconds an answer may be kept: as long as CoreDNS allows in a
// cluster, and short enough that the addresses of pods do not outlive them by much.
const ttl = 30

// ednsSize is what this server takes over UDP: a datagram that needs no fragments
// on any network (DNS flag day 2020).
const ednsSize = 1232

// optSize is the length of an OPT record without options.
const optSize = 11

// Types of records that dnsmessage has no name for: how a host is to be reached
// (RFC 9460). They would lead clients past the address that the mesh gives.
const (
	typeSVCB  dnsmessage.Type = 64
	typeHTTPS dnsmessage.Type = 65
)

// answers tells whether a record answers for the type. For a Kubernetes name
// nothing else is known anywhere; the names of ServiceEntries are often real ones,
// with mail servers and texts that their own name server knows.
func (r *record) answers(t dnsmessage.Type) bool {
	switch t {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA, typeSVCB, typeHTTPS, dnsmessage.TypeALL:
		return true
	}
	return r.kubernetes
}

// appendAnswer appends the reply to a question that the record answers, of limit
// bytes at the most. Without an address of the family it says that there is none
// (NODATA). Where there are too many addresses it has as many as fit, and the bit
// that says so.
func (q *query) appendAnswer(out []byte, rec *record, target []byte, limit int) []byte {
	start := len(out)
	limit -= q.optLen()
	out = q.appendHead(out, bitAuthoritative, dnsmessage.RCodeSuccess)
	owner, count, full := headerSize, 0, false

	if target != nil {
		if len(out)-start+rrHead+len(target)+2 > limit {
			out[start+2] |= bitTruncated >> 8
			return q.appendOPT(out)
		}
		out = appendRR(out, owner, dnsmessage.TypeCNAME, len(target)+2)
		owner = len(out) - start
		// The name is the question's without the search path, so that it is
		// spelled as it was asked.
		out = append(out, q.msg[headerSize:headerSize+len(target)+1]...)
		out = append(out, 0)
		count++
	}

	for _, family := range [][]netip.Addr{rec.v4, rec.v6} {
		if full || len(family) == 0 || !wants(q.qtype, family[0]) {
			continue
		}
		// Clients take the first one: each is first in its turn.
		first := rand.IntN(len(family))
		for i := range family {
			ip := family[(first+i)%len(family)]
			size := ip.BitLen() / 8
			if full = len(out)-start+rrHead+size > limit; full {
				break
			}
			out = appendRR(out, owner, typeOf(ip), size)
			out = append(out, ip.AsSlice()...)
			count++
		}
	}

	if full {
		out[start+2] |= bitTruncated >> 8
	}
	binary.BigEndian.PutUint16(out[start+6:], uint16(count))
	return q.appendOPT(out)
}

// wants tells whether a type of question is for addresses of ip's family.
func wants(t dnsmessage.Type, ip netip.Addr) bool {
	return t == typeOf(ip) || t == dnsmessage.TypeALL
}

func typeOf(ip netip.Addr) dnsmessage.Type {
	if ip.Is4() {
		return dnsmessage.TypeA
	}
	return dnsmessage.TypeAAAA
}

// appendFailure appends a reply without an answer.
func (q *query) appendFailure(out []byte, code dnsmessage.RCode) []byte {
	return q.appendOPT(q.appendHead(out, 0, code))
}

// appendHead appends header and question.
func (q *query) appendHead(out []byte, bits uint16, code dnsmessage.RCode) []byte {
	kept := q.flags & (opcodeMask | bitRecursionDesired | bitCheckingDisabled)
	questions, extra := byte(0), byte(0)
	if q.end > headerSize {
		questions = 1
	}
	if q.edns {
		extra = 1
	}

	out = append(out, q.msg[:2]...)
	out = binary.BigEndian.AppendUint16(out, bitResponse|bitRecursionAvailable|kept|bits|uint16(code))
	out = append(out, 0, questions, 0, 0, 0, 0, 0, extra)
	return append(out, q.question()...)
}

// rrHead is the length of a record's fixed part, its name being a pointer.
const rrHead = 12

// appendRR appends a record's fixed part (RFC 1035, section 4.1.3). Its name is the
// one at the offset owner.
func appendRR(out []byte, owner int, t dnsmessage.Type, size int) []byte {
	out = binary.BigEndian.AppendUint16(out, 0xC000|uint16(owner))
	out = binary.BigEndian.AppendUint16(out, uint16(t))
	out = binary.BigEndian.AppendUint16(out, uint16(dnsmessage.ClassINET))
	out = binary.BigEndian.AppendUint32(out, ttl)
	return binary.BigEndian.AppendUint16(out, uint16(size))
}

// optLen is what appendOPT will append.
func (q *query) optLen() int {
	if !q.edns {
		return 0
	}
	return optSize
}

// appendOPT appends an OPT record to the reply to a query that had one (RFC 6891,
// section 6.1.1), with the bit DO as it was (RFC 3225, section 3).
func (q *query) appendOPT(out []byte) []byte {
	if !q.edns {
		return out
	}
	out = append(out, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(dnsmessage.TypeOPT))
	out = binary.BigEndian.AppendUint16(out, ednsSize)
	var flags uint32
	if q.dnssec {
		flags = 1 << 15
	}
	out = binary.BigEndian.AppendUint32(out, flags)
	return append(out, 0, 0)
}
