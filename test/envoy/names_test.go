package envoy

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// strangerAddr is what the name server outside says of every name.
const strangerAddr = "192.0.2.53"

// nameServer is the one that a pod has without the mesh, and the resolv.conf that
// names it. It knows every name, so that a test sees whom a pod has asked.
func (w *world) nameServer(t *testing.T) (resolvConf string) {
	t.Helper()
	addr := netip.AddrPortFrom(w.control.Addr, 53).String()
	var packets net.PacketConn
	must(t, w.control.Do(func() (err error) {
		packets, err = net.ListenPacket("udp", addr)
		return err
	}))
	answer := dns.HandlerFunc(func(rw dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if r.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
				A:   net.ParseIP(strangerAddr),
			})
		}
		_ = rw.WriteMsg(m)
	})
	server := &dns.Server{PacketConn: packets, Handler: answer}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = packets.Close() })

	resolvConf = filepath.Join(w.dir, "resolv.conf")
	lines := "search " + namespace + ".svc.cluster.local svc.cluster.local cluster.local\nnameserver " + w.control.Addr.String() + "\n"
	must(t, os.WriteFile(resolvConf, []byte(lines), 0o644))
	return resolvConf
}

// testNames: a pod with isthmus-proxy asks its own name server, and is answered by the
// mesh for what the mesh knows. Envoy's pod is answered by the name server alone, and
// its Envoy, which asked for no names, has refused none (testNothingRefused).
func (w *world) testNames(t *testing.T) {
	vip, host := w.service("envoy")
	for _, tt := range []struct {
		pod, name, want string
	}{
		{pod: "isthmus", name: host, want: vip.String()},
		{pod: "isthmus", name: "envoy", want: vip.String()},
		{pod: "isthmus", name: "envoy." + namespace, want: vip.String()},
		{pod: "isthmus", name: globalHost("envoy"), want: w.entry(globalHost("envoy"))},
		{pod: "isthmus", name: globalHost("envoy") + "." + namespace + ".svc.cluster.local", want: w.entry(globalHost("envoy"))},
		{pod: "isthmus", name: "www.example.org", want: strangerAddr},
		{pod: "envoy", name: host, want: strangerAddr},
	} {
		if got := w.resolve(t, w.pods[tt.pod], tt.name); got != tt.want {
			t.Errorf("%s's pod resolves %s to %s, want %s", tt.pod, tt.name, got, tt.want)
		}
	}
}

// entry is the address of a host beyond a gateway.
func (w *world) entry(host string) string {
	for _, e := range w.scene.Entries {
		if e.Host == host {
			return e.VIP.String()
		}
	}
	panic("no entry " + host)
}

// resolve asks the pod's name server for an IPv4 address, as its application.
func (w *world) resolve(t *testing.T, p *pod, name string) string {
	t.Helper()
	var conn net.Conn
	must(t, p.node.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(w.control.Addr, 53).String())
		return err
	}))
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	c := &dns.Conn{Conn: conn}
	must(t, c.WriteMsg(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)))
	m, err := c.ReadMsg()
	must(t, err)
	var out []string
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			out = append(out, a.A.String())
		}
	}
	return strings.Join(out, " ")
}
