package lookup

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestSystemTellsTTL: the least TTL of an answer, aliases included, by
// UDP, and by TCP where the answer is too long for a datagram.
func TestSystemTellsTTL(t *testing.T) {
	zone := map[string][]string{
		"plain.example.": {
			"plain.example. 30 A 10.0.0.1",
			"plain.example. 20 AAAA fd00::1",
		},
		"alias.example.": {
			"alias.example. 7 CNAME plain.example.",
			"plain.example. 30 A 10.0.0.1",
		},
		"zero.example.": {
			"zero.example. 0 A 10.0.0.1",
			"zero.example. 30 A 10.0.0.2",
		},
		"huge.example.": {
			"huge.example. 4294967295 A 10.0.0.1",
		},
	}
	for n := range 200 {
		zone["long.example."] = append(zone["long.example."], fmt.Sprintf("long.example. %d A 10.0.1.%d", 300+n, n))
	}
	r := &System{dial: serveZone(t, zone)}

	for _, tt := range []struct {
		host  string
		ttl   time.Duration
		addrs int
	}{
		{host: "plain.example.", ttl: 20 * time.Second, addrs: 2},
		{host: "alias.example.", ttl: 7 * time.Second, addrs: 1},
		{host: "zero.example.", ttl: 0, addrs: 2},
		{host: "huge.example.", ttl: 0, addrs: 1},
		{host: "long.example.", ttl: 300 * time.Second, addrs: 200},
	} {
		addrs, ttl, err := r.Resolve(t.Context(), tt.host)
		if err != nil || ttl != tt.ttl || len(addrs) != tt.addrs {
			t.Errorf("%s: %d addresses for %v, %v, want %d for %v", tt.host, len(addrs), ttl, err, tt.addrs, tt.ttl)
		}
	}

	if _, ttl, err := r.Resolve(t.Context(), "none.example."); err == nil || ttl != 0 {
		t.Errorf("a name that is not there: %v, %v", ttl, err)
	}
}

// TestLeastTTLOfForeignAnswers: what does not answer the question that was asked
// says nothing.
func TestLeastTTLOfForeignAnswers(t *testing.T) {
	m := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	m.Id, m.Response = 7, true
	rr, err := dns.NewRR("a.example. 30 A 10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	m.Answer = append(m.Answer, rr)
	answer, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	m.Response = false
	question, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}

	if ttl, ok := leastTTL(answer, 7); !ok || ttl != 30*time.Second {
		t.Errorf("the answer: %v, %v", ttl, ok)
	}
	if ttl, ok := leastTTL(answer, 8); ok {
		t.Errorf("the answer to another query: %v", ttl)
	}
	if ttl, ok := leastTTL(question, 7); ok {
		t.Errorf("a query: %v", ttl)
	}
	for n := range answer {
		leastTTL(answer[:n], 7) // must not panic
	}
}

// serveZone answers from a zone, by UDP and TCP, and returns what connects to it
// in place of every other server.
func serveZone(t *testing.T, zone map[string][]string) func(ctx context.Context, network, address string) (net.Conn, error) {
	t.Helper()
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		records, known := zone[strings.ToLower(q.Question[0].Name)]
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		for _, text := range records {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
				continue
			}
			asked := q.Question[0].Qtype
			if h := rr.Header(); h.Rrtype == asked || h.Rrtype == dns.TypeCNAME && slices.Contains([]uint16{dns.TypeA, dns.TypeAAAA}, asked) {
				m.Answer = append(m.Answer, rr)
			}
		}
		if w.LocalAddr().Network() == "udp" {
			m.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(m)
	})

	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{
		PacketConn: packets,
		Handler:    answer,
	}, {
		Listener: stream,
		Handler:  answer,
	}} {
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}

	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, packets.LocalAddr().String())
	}
}
