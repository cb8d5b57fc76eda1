package dns

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/test/leak"
)

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// upstream is a DNS server that answers every question with 192.0.2.53.
func upstream(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(192, 0, 2, 53)}}
		_ = w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	t.Cleanup(func() {
		if err := srv.Shutdown(); err != nil {
			t.Errorf("upstream: %v", err)
		}
		<-done
	})
	return pc.LocalAddr().String()
}

// TestServer runs the real CoreDNS on loopback, with a Corefile that uses the
// plugin, and asks it over UDP and TCP. CoreDNS can run once in a process, so
// the cases share it.
func TestServer(t *testing.T) {
	running := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		// The forward plugin ends its connection pools by finalizer.
		leak.None(t, running, goleak.IgnoreTopFunction("github.com/coredns/coredns/plugin/pkg/proxy.(*Transport).connManager"))
	})
	port, ready := freePort(t), freePort(t)
	file := filepath.Join(t.TempDir(), "Corefile")
	text := fmt.Sprintf(".:%d {\n errors\n ready 127.0.0.1:%d\n isthmus global. mesh.example {\n  ttl 7\n }\n cache 30\n forward . %s {\n  prefer_udp\n }\n}\n", port, ready, upstream(t))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	names := &Names{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, Config{Names: names, CorefilePath: file}) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	waitFor(t, addr)

	if got := ask(t, "udp", addr, "httpbin.bar.global.", dns.TypeA); got.Rcode != dns.RcodeServerFailure {
		t.Errorf("before the first table: %s; a denial would be remembered", dns.RcodeToString[got.Rcode])
	}
	if code := readiness(t, ready); code != http.StatusServiceUnavailable {
		t.Errorf("ready before the first table: %d", code)
	}
	names.Set(NewTable([]Host{
		{"httpbin.bar.global", []netip.Addr{netip.MustParseAddr("240.0.0.2"), netip.MustParseAddr("fd00::2")}},
		{"v4.bar.global", []netip.Addr{netip.MustParseAddr("240.0.0.3")}},
		{"*.wild.global", []netip.Addr{netip.MustParseAddr("240.0.0.4")}},
		{"api.example.com", []netip.Addr{netip.MustParseAddr("240.0.0.5")}},
		{"direct.example.com", nil},
	}))
	if code := readiness(t, ready); code != http.StatusOK {
		t.Errorf("not ready with a table: %d", code)
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, c := range []struct {
			name   string
			qtype  uint16
			rcode  int
			answer string // of the first record; "" for none
			soa    string // apex in the authority section
		}{
			{"httpbin.bar.global.", dns.TypeA, dns.RcodeSuccess, "240.0.0.2", ""},
			{"HttpBin.Bar.Global.", dns.TypeA, dns.RcodeSuccess, "240.0.0.2", ""},
			{"httpbin.bar.global.", dns.TypeAAAA, dns.RcodeSuccess, "fd00::2", ""},
			{"v4.bar.global.", dns.TypeAAAA, dns.RcodeSuccess, "", "global."},
			{"v4.bar.global.", dns.TypeMX, dns.RcodeSuccess, "", "global."},
			{"bar.global.", dns.TypeA, dns.RcodeSuccess, "", "global."},
			{"global.", dns.TypeA, dns.RcodeSuccess, "", "global."},
			{"global.", dns.TypeNS, dns.RcodeSuccess, "ns.dns.global.", ""},
			{"missing.bar.global.", dns.TypeA, dns.RcodeNameError, "", "global."},
			{"httpbin.bar.global.global.", dns.TypeA, dns.RcodeNameError, "", "global."},
			{"any.thing.wild.global.", dns.TypeA, dns.RcodeSuccess, "240.0.0.4", ""},
			{"x.mesh.example.", dns.TypeA, dns.RcodeNameError, "", "mesh.example."},
			{ProbeLabel + ".global.", dns.TypeTXT, dns.RcodeSuccess, "isthmus", ""},
			{ProbeLabel + ".global.", dns.TypeA, dns.RcodeSuccess, "", "global."},
			{"api.example.com.", dns.TypeA, dns.RcodeSuccess, "240.0.0.5", ""},
			{"api.example.com.", dns.TypeAAAA, dns.RcodeSuccess, "", "api.example.com."},
			{"api.example.com.", dns.TypeMX, dns.RcodeSuccess, "192.0.2.53", ""},
			{"direct.example.com.", dns.TypeA, dns.RcodeSuccess, "192.0.2.53", ""},
			{"elsewhere.example.org.", dns.TypeA, dns.RcodeSuccess, "192.0.2.53", ""},
		} {
			got := ask(t, network, addr, c.name, c.qtype)
			what := fmt.Sprintf("%s %s %s", network, c.name, dns.TypeToString[c.qtype])
			if got.Rcode != c.rcode {
				t.Errorf("%s: %s, want %s", what, dns.RcodeToString[got.Rcode], dns.RcodeToString[c.rcode])
			}
			switch {
			case c.answer == "" && len(got.Answer) > 0:
				t.Errorf("%s: answered %v", what, got.Answer)
			case c.answer != "" && (len(got.Answer) == 0 || !strings.Contains(got.Answer[0].String(), c.answer)):
				t.Errorf("%s: answered %v, want %s", what, got.Answer, c.answer)
			case c.answer != "" && got.Answer[0].Header().Name != c.name:
				t.Errorf("%s: answered for %s", what, got.Answer[0].Header().Name)
			}
			if c.soa != "" {
				soa, ok := firstNS(got).(*dns.SOA)
				if !ok || soa.Hdr.Name != c.soa || soa.Minttl != 7 || !got.Authoritative {
					t.Errorf("%s: authority %v, want the SOA of %s", what, got.Ns, c.soa)
				}
			}
		}
	}
}

func firstNS(m *dns.Msg) dns.RR {
	if len(m.Ns) == 0 {
		return nil
	}
	return m.Ns[0]
}

func ask(t *testing.T, network, addr, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	in, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(m, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", network, name, err)
	}
	return in
}

func waitFor(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
	}
	t.Fatal("the server does not listen")
}

func readiness(t *testing.T, port int) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", port))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func TestConfig(t *testing.T) {
	c := Config{Names: &Names{}, Forward: "/etc/resolv.conf"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := ".:10053 {\n    errors\n    health :8080\n    ready :8181\n    prometheus :9153\n    isthmus global\n    cache 30\n    forward . /etc/resolv.conf\n}\n"
	if got := c.Corefile(); got != want {
		t.Errorf("Corefile\n%s\nwant\n%s", got, want)
	}
	for name, bad := range map[string]Config{
		"names":  {},
		"port":   {Names: &Names{}, Listen: 70000},
		"zone":   {Names: &Names{}, Zones: []string{"a b"}},
		"inject": {Names: &Names{}, Forward: "1.1.1.1\n}"},
	} {
		if err := bad.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
