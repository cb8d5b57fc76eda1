package dns

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xds/nds"
)

// BenchmarkLocal is the processor's part of an answer out of the table.
func BenchmarkLocal(b *testing.B) {
	s, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	s.SetTable(newTable(b, map[string]*nds.NameTable_NameInfo{"httpbin.bar.svc.cluster.local": kubernetes("10.0.0.1")}))
	msg, out := ask(b, "httpbin.bar.svc.cluster.local.", dnsmessage.TypeA), make([]byte, 0, maxMessage)
	var q query
	b.ReportAllocs()
	for b.Loop() {
		s.local(out, &q, msg, packetLimit)
	}
}

// BenchmarkUDP compares look-ups over loopback: out of the table, passed on to a
// resolver (of the library that CoreDNS is made with), and that resolver asked
// directly.
func BenchmarkUDP(b *testing.B) {
	up := resolver(b, says("A 192.0.2.1"))
	s := serve(b, Config{Resolvers: []netip.AddrPort{up}})
	s.SetTable(newTable(b, map[string]*nds.NameTable_NameInfo{"web.foo.svc.cluster.local": kubernetes("10.0.0.1")}))
	for _, part := range []struct {
		name, host string
		at         netip.AddrPort
	}{
		{name: "table", host: "web.foo.svc.cluster.local.", at: s.Addr()},
		{name: "passed on", host: "example.com.", at: s.Addr()},
		{name: "resolver", host: "example.com.", at: up},
	} {
		b.Run(part.name, func(b *testing.B) {
			conn, err := net.Dial("udp", part.at.String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			msg, err := new(miekg.Msg).SetQuestion(part.host, miekg.TypeA).Pack()
			if err != nil {
				b.Fatal(err)
			}
			in := make([]byte, 1000)
			var took []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				if _, err := conn.Write(msg); err != nil {
					b.Fatal(err)
				}
				_ = conn.SetReadDeadline(start.Add(2 * time.Second))
				if _, err := conn.Read(in); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
		})
	}
}

// BenchmarkNewTable is what an update costs a proxy, and what a table holds on to.
func BenchmarkNewTable(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint("names=", n), func(b *testing.B) {
			in := &nds.NameTable{Table: map[string]*nds.NameTable_NameInfo{}}
			for i := range n {
				in.Table[fmt.Sprintf("svc-%d.ns%d.svc.cluster.local", i, i%100)] = kubernetes(fmt.Sprintf("10.%d.%d.1", i/250, i%250))
			}
			body, err := proto.Marshal(in)
			if err != nil {
				b.Fatal(err)
			}
			var table *Table
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			b.ReportAllocs()
			for b.Loop() {
				decoded := &nds.NameTable{}
				if err := proto.Unmarshal(body, decoded); err != nil {
					b.Fatal(err)
				}
				if table, err = NewTable(decoded, home); err != nil {
					b.Fatal(err)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "kept-B/name")
			runtime.KeepAlive(table)
		})
	}
}
