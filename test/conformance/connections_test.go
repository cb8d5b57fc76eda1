package conformance

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// secureServer is a TLS server outside of the mesh that says its name to everybody.
func secureServer(p *pair, ca *mtlstest.CA, name string) {
	p.t.Helper()
	cert := ca.IssueServer(time.Now().Add(time.Hour), name, "x."+name)
	l, err := tls.Listen("tcp", appAddress+":0", &tls.Config{Certificates: []tls.Certificate{*cert}})
	if err != nil {
		p.t.Fatal(err)
	}
	greeter(p, l, name, model.TLS, 443)
}

// plainServer says its name to everybody who connects.
func plainServer(p *pair, name string) {
	p.t.Helper()
	l, err := net.Listen("tcp", appAddress+":0")
	if err != nil {
		p.t.Fatal(err)
	}
	greeter(p, l, name, model.TCP, 6000)
}

// greeter serves a listener, which is a host with a port of the mesh's clients.
func greeter(p *pair, l net.Listener, name string, protocol model.Protocol, port uint16) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.WriteString(c, name)
			_ = c.Close()
		}
	}()
	p.t.Cleanup(func() { _ = l.Close(); <-done })

	svc := &model.Service{
		Host: name, Cluster: cluster, Namespace: "client", Name: name, Origin: model.FromServiceEntry, External: true,
		Ports: []model.Port{{Name: "p", Number: port, Protocol: protocol, Target: uint16(l.Addr().(*net.TCPAddr).Port)}},
	}
	if protocol == model.TCP {
		svc.Addresses = []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}
	}
	put(p, p.store.Services, svc)
	put(p, p.store.Endpoints, &model.EndpointSet{Host: svc.Host, Cluster: cluster, Namespace: svc.Namespace, Name: svc.Name,
		Endpoints: []model.Endpoint{{Address: appAddress, Ports: map[string]uint16{"p": svc.Ports[0].Target}}}})
}

// routes puts VirtualServices of namespace client in force, each given by its spec.
func (p *pair) routes(specs ...string) {
	p.t.Helper()
	for i, spec := range specs {
		doc := fmt.Sprintf(`{"kind": "VirtualService", "metadata": {"name": "v%d", "namespace": "client"}, "spec": %s}`, i, spec)
		obj, err := api.Decode([]byte(doc))
		if err != nil {
			p.t.Fatalf("%v in\n%s", err, doc)
		}
		put(p, p.store.Virtuals, compile.VirtualService(cluster, obj, "cluster.local"))
	}
	p.configure()
}

// reads connects as the client's application to an address, and reads all that is said.
// With a name it speaks TLS.
func (p *pair) reads(address string, port uint16, ca *mtlstest.CA, name string) (string, error) {
	p.t.Helper()
	p.client.wants(address, port)
	addr, ok := p.client.Addr("virtualOutbound")
	if !ok {
		p.t.Fatal("the client has no listener")
	}
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if name != "" {
		c = tls.Client(c, &tls.Config{ServerName: name, RootCAs: ca.Pool(), InsecureSkipVerify: true})
	}
	said, err := io.ReadAll(c)
	return string(said), err
}

// TestVirtualServiceRoutesConnections: from the object to the server that answers, by the
// server name and by the address.
func TestVirtualServiceRoutesConnections(t *testing.T) {
	p := newPair(t)
	ca := mtlstest.NewCA(t, "web")
	for _, name := range []string{"a.example", "b.example", "*.c.example"} {
		secureServer(p, ca, name)
	}
	plainServer(p, "tcp.example")
	p.routes(
		`{"hosts": ["a.example", "b.example", "*.c.example"], "tls": [
			{"match": [{"sniHosts": ["b.example"]}, {"sniHosts": ["x.c.example"], "destinationSubnets": ["203.0.113.0/24"]}], "route": [{"destination": {"host": "a.example"}}]}]}`,
		`{"hosts": ["tcp.example"], "tcp": [{"route": [{"destination": {"host": "web.shop.svc.cluster.local", "port": {"number": 80}}}]}]}`)

	for _, c := range []struct{ what, address, name, want string }{
		{"unrouted", "198.51.100.1", "a.example", "a.example"},
		{"by its name", "198.51.100.1", "b.example", "a.example"},
		{"by a name to another address", "198.51.100.1", "x.c.example", "*.c.example"},
		{"by a name to an address", "203.0.113.1", "x.c.example", "a.example"},
		{"another name to that address", "203.0.113.1", "y.c.example", "*.c.example"},
		{"another host at that address", "203.0.113.1", "b.example", "a.example"},
	} {
		if got, err := p.reads(c.address, 443, ca, c.name); got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.what, got, err, c.want)
		}
	}
	if status, _, body := p.ask("203.0.113.7", 6000, "GET /tcp HTTP/1.1\r\nHost: any\r\n"); status != 200 {
		t.Errorf("a TCP connection led to a service of the mesh: %d %s", status, body)
	}
}

// TestVirtualServiceSplitsConnections: each share of a split has its part.
func TestVirtualServiceSplitsConnections(t *testing.T) {
	p := newPair(t)
	ca := mtlstest.NewCA(t, "web")
	secureServer(p, ca, "a.example")
	secureServer(p, ca, "b.example")
	p.routes(`{"hosts": ["a.example"], "tls": [{"match": [{"sniHosts": ["a.example"]}], "route": [
		{"destination": {"host": "a.example"}, "weight": 50}, {"destination": {"host": "b.example"}, "weight": 50}, {"destination": {"host": "nobody.example"}}]}]}`)

	seen := map[string]int{}
	for range 1000 {
		got, err := p.reads("198.51.100.1", 443, ca, "a.example")
		if err != nil {
			t.Fatal(err)
		}
		if seen[got]++; len(seen) == 2 {
			return
		}
	}
	t.Errorf("after a thousand connections, %v", seen)
}
