package dns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/isthmus-mesh/isthmus/xds/nds"
)

// ask writes a query as most resolvers do.
func ask(t testing.TB, name string, qtype dnsmessage.Type, edit ...func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: 0x1234, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(name), Type: qtype, Class: dnsmessage.ClassINET,
		}},
	}
	for _, e := range edit {
		e(&m)
	}
	out, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// withEDNS adds an OPT record.
func withEDNS(size int, dnssec bool) func(*dnsmessage.Message) {
	return func(m *dnsmessage.Message) {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(size, dnsmessage.RCodeSuccess, dnssec); err != nil {
			panic(err)
		}
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
	}
}

func TestParse(t *testing.T) {
	var q query
	if err := q.parse(ask(t, "WeB.Foo.", dnsmessage.TypeAAAA, withEDNS(1400, true))); err != nil {
		t.Fatal(err)
	}
	if string(q.name) != "web.foo" || q.qtype != dnsmessage.TypeAAAA || !q.edns || !q.dnssec || q.size != 1400 || !q.ours() {
		t.Errorf("%q %v %v %v %d %v", q.name, q.qtype, q.edns, q.dnssec, q.size, q.ours())
	}
	if got := string(q.question()[:9]); got != "\x03WeB\x03Foo\x00" {
		t.Errorf("the question's spelling is lost: %q", got)
	}

	good := ask(t, "web.", dnsmessage.TypeA)
	if err := q.parse(good); err != nil || q.edns || q.size != 512 {
		t.Errorf("without EDNS: %v %v %d", err, q.edns, q.size)
	}
	change := func(at int, b byte) []byte {
		out := slices.Clone(good)
		out[at] = b
		return out
	}
	for name, tt := range map[string]struct {
		msg  []byte
		want error
	}{
		"nothing":             {msg: nil, want: errSilence},
		"half a header":       {msg: good[:11], want: errSilence},
		"a response":          {msg: change(2, 0x80), want: errSilence},
		"no question":         {msg: change(5, 0), want: errFormat},
		"two questions":       {msg: change(5, 2), want: errFormat},
		"cut in the name":     {msg: good[:14], want: errFormat},
		"cut before the type": {msg: good[:18], want: errFormat},
		"a pointer":           {msg: change(12, 0xC0), want: errFormat},
		"a reserved label":    {msg: change(12, 0x40), want: errFormat},
		"a missing record":    {msg: change(11, 1), want: errFormat},
	} {
		if err := q.parse(tt.msg); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// TestNotOurs: what the table has no say in.
func TestNotOurs(t *testing.T) {
	for name, msg := range map[string][]byte{
		"another class":    ask(t, "web.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }),
		"an update":        ask(t, "web.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.OpCode = 5 }),
		"the root":         ask(t, ".", dnsmessage.TypeNS),
		"another EDNS":     ask(t, "web.", dnsmessage.TypeA, withEDNS(1232, false), func(m *dnsmessage.Message) { m.Additionals[0].Header.TTL |= 1 << 16 }),
		"a dot in a label": []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03a.b\x00\x00\x01\x00\x01"),
	} {
		var q query
		if err := q.parse(msg); err != nil || q.ours() {
			t.Errorf("%s: %v, ours: %v", name, err, q.ours())
		}
	}
}

// read takes an answer apart.
func read(t testing.TB, msg []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(msg); err != nil {
		t.Fatalf("%x: %v", msg, err)
	}
	return m
}

// show writes the records of an answer.
func show(m dnsmessage.Message) string {
	var out []string
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, fmt.Sprintf("%s %d.%d.%d.%d", r.Header.Name, b.A[0], b.A[1], b.A[2], b.A[3]))
		case *dnsmessage.AAAAResource:
			out = append(out, fmt.Sprintf("%s %x", r.Header.Name, b.AAAA))
		case *dnsmessage.CNAMEResource:
			out = append(out, fmt.Sprintf("%s = %s", r.Header.Name, b.CNAME))
		default:
			out = append(out, r.Header.Type.String())
		}
	}
	return strings.Join(out, ", ")
}

func TestAnswers(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.SetTable(newTable(t, map[string]*nds.NameTable_NameInfo{
		"web.foo.svc.cluster.local": kubernetes("10.0.0.1"),
		"httpbin.bar.global":        external("240.0.0.2", "2001:db8::2"),
	}))
	for _, tt := range []struct {
		name  string
		qtype dnsmessage.Type
		want  string // "-": passed on
	}{
		{
			name:  "Web.Foo.svc.cluster.local.",
			qtype: dnsmessage.TypeA,
			want:  "Web.Foo.svc.cluster.local. 10.0.0.1",
		},
		{
			name:  "web.foo.svc.cluster.local.",
			qtype: dnsmessage.TypeAAAA,
			want:  "",
		},
		{
			name:  "web.foo.svc.cluster.local.",
			qtype: dnsmessage.TypeTXT,
			want:  "",
		},
		{
			name:  "httpbin.bar.global.",
			qtype: dnsmessage.TypeAAAA,
			want:  "httpbin.bar.global. 20010db8000000000000000000000002",
		},
		{
			name:  "httpbin.bar.global.",
			qtype: dnsmessage.TypeALL,
			want:  "httpbin.bar.global. 240.0.0.2, httpbin.bar.global. 20010db8000000000000000000000002",
		},
		{
			name:  "httpbin.bar.global.",
			qtype: typeHTTPS,
			want:  "",
		},
		{
			name:  "httpbin.bar.global.",
			qtype: dnsmessage.TypeMX,
			want:  "-",
		},
		{
			name:  "HTTPbin.bar.global.foo.svc.cluster.local.",
			qtype: dnsmessage.TypeA,
			want:  "HTTPbin.bar.global.foo.svc.cluster.local. = HTTPbin.bar.global., HTTPbin.bar.global. 240.0.0.2",
		},
		{
			name:  "unknown.example.com.",
			qtype: dnsmessage.TypeA,
			want:  "-",
		},
	} {
		var q query
		msg, forward := s.local(nil, &q, ask(t, tt.name, tt.qtype, withEDNS(1232, true)), packetLimit)
		if forward {
			if tt.want != "-" {
				t.Errorf("%s %s: passed on, want %q", tt.name, tt.qtype, tt.want)
			}
			continue
		}
		m := read(t, msg)
		if got := show(m); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.name, tt.qtype, got, tt.want)
		}
		if m.ID != 0x1234 || !m.Response || !m.Authoritative || !m.RecursionDesired || !m.RecursionAvailable || m.RCode != 0 || m.Truncated {
			t.Errorf("%s %s: header %+v", tt.name, tt.qtype, m.Header)
		}
		if q := m.Questions; len(q) != 1 || q[0].Name.String() != tt.name || q[0].Type != tt.qtype {
			t.Errorf("%s %s: the question came back as %v", tt.name, tt.qtype, q)
		}
		if len(m.Additionals) != 1 || m.Additionals[0].Header.Class != ednsSize || !m.Additionals[0].Header.DNSSECAllowed() {
			t.Errorf("%s %s: OPT %v", tt.name, tt.qtype, m.Additionals)
		}
	}
}

// TestSizes: over UDP as many addresses as the client takes, over TCP all.
func TestSizes(t *testing.T) {
	var ips []string
	for i := range 200 {
		ips = append(ips, fmt.Sprintf("10.1.%d.%d", i/100, i%100))
	}
	table := newTable(t, map[string]*nds.NameTable_NameInfo{
		"db.foo.svc.cluster.local": kubernetes(ips...),
		"very-long-name-that-hardly-fits.with-a-long-second-label-in-it.example.com": external("10.0.0.1"),
	})
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.SetTable(table)
	for _, tt := range []struct {
		edns  int // 0: none
		limit func(*query) int
		max   int
		count int
	}{
		{
			limit: packetLimit,
			max:   512,
			count: (512 - 12 - 30) / 16,
		},
		{
			edns:  100, // less than everybody takes
			limit: packetLimit,
			max:   512,
			count: (512 - 12 - 30 - 11) / 16,
		},
		{
			edns:  1232,
			limit: packetLimit,
			max:   1232,
			count: (1232 - 12 - 30 - 11) / 16,
		},
		{
			edns:  65000,
			limit: packetLimit,
			max:   65000,
			count: 200,
		},
		{
			limit: streamLimit,
			max:   maxMessage,
			count: 200,
		},
	} {
		var edit []func(*dnsmessage.Message)
		if tt.edns > 0 {
			edit = append(edit, withEDNS(tt.edns, false))
		}
		var q query
		msg, _ := s.local(nil, &q, ask(t, "db.foo.svc.cluster.local.", dnsmessage.TypeA, edit...), tt.limit)
		m := read(t, msg)
		if len(m.Answers) != tt.count || len(msg) > tt.max || m.Truncated != (tt.count < 200) {
			t.Errorf("%d bytes: %d addresses in %d bytes, truncated %v; want %d", tt.max, len(m.Answers), len(msg), m.Truncated, tt.count)
		}
	}

	// Each address comes first in its turn.
	first := map[string]bool{}
	for range 2000 {
		var q query
		msg, _ := s.local(nil, &q, ask(t, "db.", dnsmessage.TypeA), streamLimit)
		b := read(t, msg).Answers[0].Body.(*dnsmessage.AResource).A
		first[string(b[:])] = true
	}
	if len(first) < 150 {
		t.Errorf("only %d of 200 addresses came first", len(first))
	}
}

func TestAnswerDoesNotAllocate(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.SetTable(newTable(t, map[string]*nds.NameTable_NameInfo{"httpbin.bar.global": external("240.0.0.2", "240.0.0.3")}))
	out := make([]byte, 0, maxMessage)
	var q query
	for _, name := range []string{"httpbin.bar.global.", "httpbin.bar.global.foo.svc.cluster.local."} {
		msg := ask(t, name, dnsmessage.TypeA, withEDNS(1232, false))
		if n := testing.AllocsPerRun(200, func() { s.local(out, &q, msg, packetLimit) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// FuzzQuery: whatever comes, what is answered is a message, to the question that
// another parser reads too, and no longer than the client takes.
func FuzzQuery(f *testing.F) {
	s, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	many := make([]string, 300)
	for i := range many {
		many[i] = fmt.Sprintf("10.2.%d.%d", i/200, i%200)
	}
	s.SetTable(newTable(f, map[string]*nds.NameTable_NameInfo{
		"web.foo.svc.cluster.local": kubernetes(many...), "*.com": external("240.0.0.1", "2001:db8::1"),
	}))
	f.Add(ask(f, "web.", dnsmessage.TypeA))
	f.Add(ask(f, "a.com.foo.svc.cluster.local.", dnsmessage.TypeALL, withEDNS(600, true)))
	f.Add(ask(f, ".", dnsmessage.TypeNS))
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := slices.Clone(msg)
		var q query
		answer, forward := s.local(nil, &q, msg, packetLimit)
		if !slices.Equal(before, msg) {
			t.Fatal("the query was changed")
		}

		var p dnsmessage.Parser
		h, err := p.Start(msg)
		if forward {
			if err != nil || h.Response {
				t.Fatalf("passed on: %v", err)
			}
			// A forged answer must not be taken, nor one without the question.
			if answersTo(msg, msg) {
				t.Fatal("a query passes for its own answer")
			}
			reply := slices.Clone(msg)
			reply[2] |= bitResponse >> 8
			if !answersTo(reply, msg) {
				t.Fatal("the answer to the question is not recognised")
			}
			return
		}
		if len(answer) == 0 {
			return
		}
		question, asked := p.Question()
		if asked != nil {
			// The other parser reads no label with a dot in it, which DNS allows. Such a
			// question comes back as it was, with a refusal.
			var reply dnsmessage.Parser
			head, err := reply.Start(answer)
			if err != nil || head.RCode == dnsmessage.RCodeSuccess || head.ID != h.ID || !head.Response {
				t.Fatalf("answered %+v (%v) to a question that cannot be read: %v", head, err, asked)
			}
			return
		}

		m := read(t, answer)
		if len(answer) > q.size || m.ID != h.ID || !m.Response {
			t.Fatalf("%d bytes of %d: %+v", len(answer), q.size, m.Header)
		}
		if m.RCode != dnsmessage.RCodeSuccess {
			return
		}
		if len(m.Questions) != 1 || m.Questions[0] != question {
			t.Fatalf("answered %v, asked %v", m.Questions, question)
		}
	})
}
