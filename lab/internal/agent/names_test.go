package agent

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// query is a DNS query for "a.example", type A, with recursion desired.
func query() []byte {
	q := []byte{0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0}
	q = append(q, "\x01a\x07example\x00"...)
	return append(q, 0, 1, 0, 1)
}

func TestDenyNameAnswersAQuestion(t *testing.T) {
	withEDNS := append(query(), 0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0)
	withEDNS[11] = 1
	for _, q := range [][]byte{query(), withEDNS} {
		got := denyName(q)
		if got == nil {
			t.Fatal("no answer")
		}
		if flags := binary.BigEndian.Uint16(got[2:]); flags != 0x8183 {
			t.Errorf("flags are %#x, want response, RD, RA, name error", flags)
		}
		if !bytes.Equal(got[:2], q[:2]) || !bytes.Equal(got[12:], query()[12:]) {
			t.Errorf("id or question is not that of the query: %x", got)
		}
		if !bytes.Equal(got[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("counts are %x", got[4:12])
		}
	}
}

func TestDenyNameIgnoresWhatIsNoQuery(t *testing.T) {
	response := query()
	response[2] |= 0x80
	twoQuestions := query()
	twoQuestions[5] = 2
	pointer := append(query()[:12], 0xc0, 12, 0, 1, 0, 1)
	for name, q := range map[string][]byte{
		"empty": nil, "short": query()[:11], "response": response, "two questions": twoQuestions,
		"pointer": pointer, "cut in the name": query()[:16], "cut in the type": query()[:24],
	} {
		if got := denyName(q); got != nil {
			t.Errorf("%s: answered %x", name, got)
		}
	}
}

func FuzzDenyName(f *testing.F) {
	f.Add(query())
	f.Fuzz(func(t *testing.T, q []byte) {
		reply := denyName(q)
		if reply == nil {
			return
		}
		if len(reply) > len(q) || reply[2]&0x80 == 0 || !bytes.Equal(reply[:2], q[:2]) {
			t.Errorf("%x answers %x", reply, q)
		}
	})
}
