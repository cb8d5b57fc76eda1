package envoy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
)

// TestEnvoyAndIsthmus sends every kind of traffic between the two data planes.
func TestEnvoyAndIsthmus(t *testing.T) {
	w := newWorld(t)
	for _, from := range kinds() {
		for _, to := range kinds() {
			t.Run(from+" to "+to, func(t *testing.T) { w.testPair(t, w.pods[from], to) })
		}
		t.Run(from+" through a gateway of "+from, func(t *testing.T) { w.testGateway(t, w.pods[from], other(from)) })
		t.Run(from+" through a gateway of "+other(from), func(t *testing.T) { w.testGateway(t, w.pods[from], from) })
		t.Run(from+" to another network by "+from, func(t *testing.T) { w.testNetwork(t, w.pods[from], other(from)) })
		t.Run(from+" to another network by "+other(from), func(t *testing.T) { w.testNetwork(t, w.pods[from], from) })
		t.Run(from+" refuses plaintext", func(t *testing.T) { w.testPlaintext(t, w.pods[from]) })
		t.Run("gateway of "+from+" refuses strangers", func(t *testing.T) { w.testStrangers(t, w.gateways[from]) })
	}
	t.Run("names", w.testNames)
	t.Run("nothing refused", w.testNothingRefused)
}

func (w *world) testPair(t *testing.T, from *pod, to string) {
	vip, host := w.service(to)
	caller := "URI=spiffe://cluster.local/ns/" + namespace + "/sa/" + from.kind
	t.Run("HTTP/1.1", func(t *testing.T) {
		from.testHTTP(t, netip.AddrPortFrom(vip, portHTTP), host, false, caller)
	})
	t.Run("HTTP/2", func(t *testing.T) {
		from.testHTTP(t, netip.AddrPortFrom(vip, portH2), host, true, caller)
	})
	t.Run("gRPC", func(t *testing.T) { from.testGRPC(t, netip.AddrPortFrom(vip, portGRPC), host) })
	t.Run("TCP", func(t *testing.T) { from.testTCP(t, netip.AddrPortFrom(vip, portTCP)) })
}

// testHTTP sends a body and wants the answer of the application, which tells
// the client's identity as the far proxy has verified it.
func (p *pod) testHTTP(t *testing.T, addr netip.AddrPort, host string, h2 bool, caller string) {
	t.Helper()
	proto, got := "HTTP/1.1", ""
	var protocols http.Protocols
	if h2 {
		proto = "HTTP/2.0"
		protocols.SetUnencryptedHTTP2(true)
	} else {
		protocols.SetHTTP1(true)
	}
	tr := &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return p.node.Dial(addr.String())
	}}
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	const size = 300_000
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://%s:%d/who", host, addr.Port()), bytes.NewReader(make([]byte, size)))
	must(t, err)
	req.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://cluster.local/ns/forged/sa/forged")
	resp, err := tr.RoundTrip(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	got = string(body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, got)
	}
	lines := strings.Split(got, "\n")
	if lines[0] != proto {
		t.Errorf("the application was called over %s, want %s", lines[0], proto)
	}
	if !strings.Contains(lines[2], caller) || strings.Contains(lines[2], "forged") {
		t.Errorf("x-forwarded-client-cert: %q, want %s and nothing that the client sent", lines[2], caller)
	}
	if lines[3] != fmt.Sprint(size) {
		t.Errorf("the application got %s bytes, want %d", lines[3], size)
	}
}

func (p *pod) testGRPC(t *testing.T, addr netip.AddrPort, host string) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr.String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority(fmt.Sprintf("%s:%d", host, addr.Port())),
		grpc.WithContextDialer(func(_ context.Context, addr string) (net.Conn, error) { return p.node.Dial(addr) }))
	must(t, err)
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	want := bytes.Repeat([]byte("isthmus "), 20_000)
	for range 3 {
		resp, err := grpc_testing.NewBenchmarkServiceClient(cc).UnaryCall(ctx,
			&grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: want}})
		must(t, err)
		if !bytes.Equal(resp.GetPayload().GetBody(), want) {
			t.Fatal("the answer is not what was sent")
		}
	}
}

// testTCP sends a megabyte, ends its half, and wants all of it back.
func (p *pod) testTCP(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	c, err := p.node.Dial(addr.String())
	must(t, err)
	defer func() { _ = c.Close() }()
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(want)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	must(t, err)
	must(t, <-sent)
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came back, want the %d that were sent", len(got), len(want))
	}
}

// testGateway calls the pod behind the gateway of the kind, by the name under
// which another cluster would: the gateway sees nothing but the SNI, and the far
// proxy the client's own identity.
func (w *world) testGateway(t *testing.T, from *pod, to string) {
	for _, e := range w.scene.Entries {
		if e.Host == globalHost(to) {
			from.testHTTP(t, netip.AddrPortFrom(e.VIP, portHTTP), e.Host, false,
				"URI=spiffe://cluster.local/ns/"+namespace+"/sa/"+from.kind)
			return
		}
	}
	t.Fatalf("no entry leads to %s", to)
}

// testNetwork calls a service that only another cluster has, on another network, by
// its ordinary name: the client's proxy goes to the gateway of that network. Who
// sends requests where they go is the Host header; the address leads to nobody.
func (w *world) testNetwork(t *testing.T, from *pod, to string) {
	nobody := netip.MustParseAddr("242.9.9.9")
	host := "far-" + to + "." + namespace + ".svc.cluster.local"
	caller := "URI=spiffe://cluster.local/ns/" + namespace + "/sa/" + from.kind
	from.testHTTP(t, netip.AddrPortFrom(nobody, portHTTP), host, false, caller)
	from.testHTTP(t, netip.AddrPortFrom(nobody, portH2), host, true, caller)
	from.testGRPC(t, netip.AddrPortFrom(nobody, portGRPC), host)
}

// testPlaintext calls the pod from outside the mesh: not a byte may come back.
func (w *world) testPlaintext(t *testing.T, to *pod) {
	for _, port := range []uint16{portHTTP, portTCP} {
		w.wantClosed(t, netip.AddrPortFrom(to.node.Addr, port), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
}

// testStrangers talks to the gateway without TLS, and so without an SNI.
func (w *world) testStrangers(t *testing.T, gateway *pod) {
	w.wantClosed(t, netip.AddrPortFrom(gateway.node.Addr, portGateway), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
}

func (w *world) wantClosed(t *testing.T, addr netip.AddrPort, say []byte) {
	t.Helper()
	c, err := w.outsider.Dial(addr.String())
	must(t, err)
	defer func() { _ = c.Close() }()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	if _, err := c.Write(say); err != nil {
		return
	}
	got, err := io.ReadAll(c)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Fatalf("%s neither answered nor closed", addr)
	}
	if len(got) > 0 {
		t.Fatalf("%s answered %q", addr, got)
	}
}

// testNothingRefused looks at both ends: discovery heard no refusal, and Envoy
// counts none and waits for nothing.
func (w *world) testNothingRefused(t *testing.T) {
	for _, line := range w.refusals.list() {
		t.Errorf("discovery: %s", line)
	}
	for _, p := range []*pod{w.pods["envoy"], w.gateways["envoy"]} {
		for line := range strings.Lines(p.admin(t, "/stats?filter=update_rejected|listeners_warming|warming_clusters|create_failure")) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if value != "0" {
				t.Errorf("envoy on %s: %s is %s", p.node.Name, name, value)
			}
		}
	}
}
