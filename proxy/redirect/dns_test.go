package redirect_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/hosts"
	miekg "github.com/miekg/dns"
	"github.com/vishvananda/netns"

	"github.com/isthmus-mesh/isthmus/proxy/dns"
	"github.com/isthmus-mesh/isthmus/proxy/redirect"
	"github.com/isthmus-mesh/isthmus/xds/nds"
)

// The tests here have the parts of a pod as processes: the sidecar's name server
// under the proxy's user, and CoreDNS outside. The test itself is the application.

// roleEnv makes the test binary one of the processes instead of running tests.
const roleEnv = "ISTHMUS_TEST_ROLE"

func TestMain(m *testing.M) {
	role, arg, _ := strings.Cut(os.Getenv(roleEnv), " ")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var err error
	switch role {
	case "":
		os.Exit(m.Run())
	case "sidecar":
		err = beSidecar(ctx)
	case "coredns":
		err = beCoreDNS(ctx)
	case "ask":
		err = askFrom(arg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// beSidecar answers for a few names.
func beSidecar(ctx context.Context) error {
	kubernetes := func(ips ...string) *nds.NameTable_NameInfo {
		return &nds.NameTable_NameInfo{Ips: ips, Registry: "Kubernetes"}
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("10.1.0.%d", i))
	}
	table, err := dns.NewTable(&nds.NameTable{Table: map[string]*nds.NameTable_NameInfo{
		"web.foo.svc.cluster.local":       kubernetes("10.96.0.1", "fd96::1"),
		"httpbin.bar.svc.cluster.local":   kubernetes("242.7.7.7"),
		"db.foo.svc.cluster.local":        kubernetes("10.1.0.1", "10.1.0.2"),
		"db-0.db.foo.svc.cluster.local":   kubernetes("10.1.0.1"),
		"many.foo.svc.cluster.local":      kubernetes(many...),
		"httpbin.bar.global":              {Ips: []string{"240.0.0.2"}, Registry: "External"},
		"*.wild.example.com":              {Ips: []string{"240.0.0.3"}, Registry: "External"},
		"plain-over-there.example.com":    {Registry: "External"},
		"overridden-by-mesh.example.com.": {Ips: []string{"240.0.0.4"}, Registry: "External"},
	}}, dns.Home{Namespace: "foo", Domain: "cluster.local", Search: "foo.svc.cluster.local"})
	if err != nil {
		return err
	}

	s, err := dns.New(dns.Config{
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:15053"), netip.MustParseAddrPort("[::1]:15053")},
		Resolvers: []netip.AddrPort{
			netip.MustParseAddrPort("10.77.0.1:53"), netip.MustParseAddrPort("[fd77::1]:53"),
		},
	})
	if err != nil {
		return err
	}
	s.SetTable(table)
	fmt.Println("ready")
	return s.Run(ctx)
}

// beCoreDNS is the cluster's name server. It has a wildcard for the search path, as
// the name servers of companies do.
func beCoreDNS(ctx context.Context) error {
	caddy.Quiet, dnsserver.Quiet = true, true
	dnsserver.Directives = []string{"bind", "hosts"}
	instance, err := caddy.Start(caddy.CaddyfileInput{ServerTypeName: "dns", Contents: []byte(`.:53 {
	hosts {
		192.0.2.1 www.example.org
		2001:db8::1 www.example.org
		192.0.2.2 plain-over-there.example.com
		192.0.2.3 overridden-by-mesh.example.com
		192.0.2.4 httpbin.bar.global.foo.svc.cluster.local
	}
}`)})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	return instance.Stop()
}

// askFrom asks for an address of www.example.org from a given port, and prints it.
func askFrom(port string) error {
	local, err := net.ResolveUDPAddr("udp", "10.77.0.2:"+port)
	if err != nil {
		return err
	}
	got, err := lookup(&net.Dialer{LocalAddr: local}, "udp", "10.77.0.1:53", "web.foo.svc.cluster.local.", miekg.TypeA)
	fmt.Println(got)
	return err
}

// lookup asks a name server and writes what it says.
func lookup(d *net.Dialer, network, server, name string, qtype uint16) (string, error) {
	c := miekg.Client{Net: network, Timeout: 3 * time.Second, Dialer: d}
	m, _, err := c.Exchange(new(miekg.Msg).SetQuestion(name, qtype), server)
	if err != nil {
		return err.Error(), err
	}
	out := miekg.RcodeToString[m.Rcode]
	if m.Truncated {
		out += " truncated"
	}
	var records []string
	for _, rr := range m.Answer {
		records = append(records, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(records)
	if len(records) > 5 {
		records = []string{fmt.Sprint(len(records), " records")}
	}
	return strings.TrimSpace(out + " " + strings.Join(records, " ")), nil
}

// process makes a process of the test binary in the namespace of this thread.
func process(role string, uid uint32) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// start runs a process until the test ends, and waits until it is ready.
func start(t testing.TB, role string, uid uint32) (stop func()) {
	t.Helper()
	cmd := process(role, uid)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%s says %q, %v", role, line, err)
	}
	return stop
}

// captured is a pod whose queries are led to its sidecar.
func captured(t testing.TB) (p *pod, stopCoreDNS func()) {
	t.Helper()
	p = newPod(t)
	p.in(p.outside, func() { stopCoreDNS = start(t, "coredns", 0) })
	p.apply(dnsConfig())
	start(t, "sidecar", 1337)
	return p, stopCoreDNS
}

// apply puts rules in force in the pod, and never where the test was started: a
// sub-test has a thread of its own, which is not in the pod.
func (p *pod) apply(cfg redirect.Config) {
	p.t.Helper()
	here, err := netns.Get()
	check(p.t, err)
	defer here.Close()
	if !here.Equal(p.pod) {
		p.t.Fatal("this thread is not in the pod")
	}
	check(p.t, redirect.Apply(cfg))
}

func dnsConfig() redirect.Config {
	return redirect.Config{
		OutboundPort: 15001, InboundPort: 15006, ProxyUID: 1337, AllOutbound: true, AllInbound: true,
		DNSPort: 15053, DNSServers: []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd77::1")},
	}
}

// TestDNSIsCaptured: queries to the pod's name servers are answered by the sidecar,
// over both protocols and both families, and those that it passes on get through.
func TestDNSIsCaptured(t *testing.T) {
	_, stopCoreDNS := captured(t)
	type probe struct {
		name  string
		qtype uint16
		want  string
	}
	run := func(network, server string, probes []probe) {
		t.Helper()
		for _, pr := range probes {
			got, _ := lookup(&net.Dialer{}, network, server, pr.name, pr.qtype)
			if got != pr.want {
				t.Errorf("%s %s, %s: %q, want %q", network, server, pr.name, got, pr.want)
			}
		}
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, server := range []string{"10.77.0.1:53", "[fd77::1]:53"} {
			run(network, server, []probe{
				{"web.foo.svc.cluster.local.", miekg.TypeA, "NOERROR 10.96.0.1"},
				{"WEB.", miekg.TypeAAAA, "NOERROR fd96::1"},
				{"httpbin.bar.", miekg.TypeA, "NOERROR 242.7.7.7"},
				{"httpbin.bar.svc.cluster.local.", miekg.TypeAAAA, "NOERROR"},
				{"db.foo.", miekg.TypeA, "NOERROR 10.1.0.1 10.1.0.2"},
				{"db-0.db.", miekg.TypeA, "NOERROR 10.1.0.1"},
				{"a.wild.example.com.", miekg.TypeA, "NOERROR 240.0.0.3"},
				{"overridden-by-mesh.example.com.", miekg.TypeA, "NOERROR 240.0.0.4"},
				{"plain-over-there.example.com.", miekg.TypeA, "NOERROR 192.0.2.2"},
				{"www.example.org.", miekg.TypeA, "NOERROR 192.0.2.1"},
				{"www.example.org.", miekg.TypeAAAA, "NOERROR 2001:db8::1"},
				{"nobody.example.org.", miekg.TypeA, "SERVFAIL"}, // of CoreDNS: it has no other plugin to ask
			})
		}
	}
	run("udp", "10.77.0.1:53", []probe{{"many.", miekg.TypeA, "NOERROR truncated 30 records"}})
	run("tcp", "10.77.0.1:53", []probe{{"many.", miekg.TypeA, "NOERROR 100 records"}})

	// With the resolver gone, the mesh's names stay.
	stopCoreDNS()
	start := time.Now()
	run("udp", "10.77.0.1:53", []probe{
		{"web.foo.", miekg.TypeA, "NOERROR 10.96.0.1"},
		{"www.example.org.", miekg.TypeA, "SERVFAIL"},
	})
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("a resolver that is gone was told of after %s", took)
	}
}

// TestResolversOfLibraries: names as applications look them up, with the pod's search
// path, through the C library.
func TestResolversOfLibraries(t *testing.T) {
	captured(t)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	check(t, os.WriteFile(conf, []byte("search foo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.77.0.1\noptions ndots:5\n"), 0o644))
	for name, want := range map[string]string{
		"web":                           "10.96.0.1 fd96::1",
		"web.foo":                       "10.96.0.1 fd96::1",
		"httpbin.bar":                   "242.7.7.7",
		"httpbin.bar.svc.cluster.local": "242.7.7.7",
		"httpbin.bar.global":            "240.0.0.2", // not what the search path would lead to
		"db":                            "10.1.0.1 10.1.0.2",
		"db-0.db.foo":                   "10.1.0.1",
		"x.wild.example.com":            "240.0.0.3",
		"www.example.org.":              "192.0.2.1 2001:db8::1",
	} {
		// Its own mounts, for the pod's resolv.conf; nscd would answer for another
		// namespace.
		cmd := exec.Command("unshare", "--mount", "sh", "-c",
			`mount --bind "$1" /etc/resolv.conf && mount -t tmpfs none /run && getent ahosts "$2"`, "sh", conf, name)
		out, err := cmd.CombinedOutput()
		var got []string
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) > 1 && f[1] == "STREAM" {
				got = append(got, f[0])
			}
		}
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", name, out, err, want)
		}
	}
}

// TestBothFamiliesAtOnce: musl asks for both from one socket, and takes the first name
// of the search path that either answers for.
func TestBothFamiliesAtOnce(t *testing.T) {
	captured(t)
	conn, err := net.Dial("udp", "10.77.0.1:53")
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	c := &miekg.Conn{Conn: conn}
	for _, name := range []string{"httpbin.bar.global.foo.svc.cluster.local.", "www.example.org."} {
		for _, qtype := range []uint16{miekg.TypeA, miekg.TypeAAAA} {
			check(t, c.WriteMsg(new(miekg.Msg).SetQuestion(name, qtype)))
		}
		for range 2 {
			m, err := c.ReadMsg()
			check(t, err)
			if m.Rcode != miekg.RcodeSuccess || m.Question[0].Name != name {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// TestDNSIsLeftAlone: other name servers, what is excluded, and the proxy's own.
func TestDNSIsLeftAlone(t *testing.T) {
	p, _ := captured(t)
	p.in(p.outside, func() { configureAddress(t, "peer0", "10.77.0.9/24") })
	ask := func(network, server string) string {
		t.Helper()
		got, _ := lookup(&net.Dialer{}, network, server, "web.foo.svc.cluster.local.", miekg.TypeA)
		return got
	}
	if got := ask("udp", "10.77.0.9:53"); got != "SERVFAIL" {
		t.Errorf("a name server that is none of the pod's: %s", got)
	}

	for name, edit := range map[string]func(*redirect.Config){
		"the port is excluded": func(c *redirect.Config) { c.ExcludeOutboundPorts = []uint16{53} },
		"the address is excluded": func(c *redirect.Config) {
			c.ExcludeOutboundCIDRs = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/30")}
		},
		"it is off":      func(c *redirect.Config) { c.DNSPort, c.AllOutbound = 0, false },
		"the proxy asks": func(c *redirect.Config) { c.ProxyUID = 0 },
	} {
		cfg := dnsConfig()
		edit(&cfg)
		p.apply(cfg)
		for _, network := range []string{"udp", "tcp"} {
			if got := ask(network, "10.77.0.1:53"); got != "SERVFAIL" {
				t.Errorf("%s, %s: %s", name, network, got)
			}
		}
	}
}

// TestGivenAddressesAreCaught: what the name server gives out leads to the proxy, also
// for pods that redirect little or nothing; with no name server nothing changes.
func TestGivenAddressesAreCaught(t *testing.T) {
	p := newPod(t)
	listen(t, "tcp", ":15001", "outbound")
	p.in(p.outside, func() { listen(t, "tcp", ":80", "outside") })
	for name, tt := range map[string]struct {
		edit  func(*redirect.Config)
		given string
		other string
	}{
		"all": {
			edit:  func(*redirect.Config) {},
			given: "outbound 242.1.2.3:80",
			other: "outbound 10.77.0.1:80",
		},
		"a port less": {
			edit:  func(c *redirect.Config) { c.ExcludeOutboundPorts = []uint16{80} },
			given: "outbound 242.1.2.3:80",
			other: "outside 10.77.0.1:80",
		},
		"nothing": {
			edit:  func(c *redirect.Config) { c.AllOutbound = false },
			given: "outbound 242.1.2.3:80",
			other: "outside 10.77.0.1:80",
		},
		"nothing, and no DNS": {
			edit:  func(c *redirect.Config) { c.AllOutbound, c.DNSPort = false, 0 },
			given: "no route",
			other: "outside 10.77.0.1:80",
		},
	} {
		cfg := dnsConfig()
		cfg.GivenCIDRs = []netip.Prefix{netip.MustParsePrefix("242.0.0.0/8")}
		tt.edit(&cfg)
		p.apply(cfg)
		if got := call("10.77.0.1:80", ""); got != tt.other {
			t.Errorf("%s: %s, want %s", name, got, tt.other)
		}
		if got := call("242.1.2.3:80", ""); got != tt.given && (tt.given != "no route" || strings.HasPrefix(got, "outbound")) {
			t.Errorf("%s: %s, want %s", name, got, tt.given)
		}
	}
}

// TestProxyWithTheApplicationsPort: the kernel may draw the port for the proxy's query
// that the application had for its own a moment before. Tracked, the query would be
// led to the proxy itself, which would ask again, for ever.
func TestProxyWithTheApplicationsPort(t *testing.T) {
	captured(t)
	local := &net.UDPAddr{IP: net.IPv4(10, 77, 0, 2), Port: 40404}
	if got, _ := lookup(&net.Dialer{LocalAddr: local}, "udp", "10.77.0.1:53", "web.foo.svc.cluster.local.", miekg.TypeA); got != "NOERROR 10.96.0.1" {
		t.Fatalf("the application is told %s", got)
	}
	out, err := process("ask 40404", 1337).Output()
	if got := strings.TrimSpace(string(out)); got != "SERVFAIL" {
		t.Errorf("the proxy is told %q, %v: that is not the resolver", got, err)
	}
	if got, _ := lookup(&net.Dialer{LocalAddr: local}, "udp", "10.77.0.1:53", "web.foo.svc.cluster.local.", miekg.TypeA); got != "NOERROR 10.96.0.1" {
		t.Errorf("the application is told %s after the proxy has asked", got)
	}
}

// BenchmarkDNS compares look-ups through the capture with CoreDNS asked directly, from
// one client that waits for each answer.
func BenchmarkDNS(b *testing.B) {
	for _, part := range []struct{ name, host string }{
		{name: "captured, name of the mesh", host: "web.foo.svc.cluster.local."},
		{name: "captured, passed on to CoreDNS", host: "www.example.org."},
		{name: "CoreDNS directly", host: "www.example.org."},
	} {
		b.Run(part.name, func(b *testing.B) {
			p, _ := captured(b)
			if part.name == "CoreDNS directly" {
				cfg := dnsConfig()
				cfg.DNSPort = 0
				p.apply(cfg)
			}
			conn, err := net.Dial("udp", "10.77.0.1:53")
			check(b, err)
			defer conn.Close()
			query, err := new(miekg.Msg).SetQuestion(part.host, miekg.TypeA).Pack()
			check(b, err)

			in := make([]byte, 1000)
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				_ = conn.SetReadDeadline(start.Add(3 * time.Second))
				if _, err := conn.Write(query); err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Read(in); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
