package boundary

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

// caller is someone at the gateway's port 15443.
type caller struct {
	name   string
	alpn   []string
	cert   *tls.Certificate
	member bool
}

// callers are all kinds of strangers, and a member of the mesh.
func (w *world) callers() []caller {
	mesh := []string{"istio"}
	return []caller{
		{name: "stranger, no certificate, no protocol name"},
		{name: "stranger, no certificate, a web browser's protocol names", alpn: []string{"h2", "http/1.1"}},
		{name: "stranger, no certificate, the mesh's protocol name", alpn: mesh},
		{
			name: "stranger, certificate of another root, the mesh's protocol name",
			alpn: mesh,
			cert: w.other.issue(w.t, "spiffe://cluster.local/ns/foo/sa/x"),
		},
		{
			name: "certificate of the mesh's root, not the mesh's protocol name",
			cert: w.root.issue(w.t, "spiffe://cluster.local/ns/foo/sa/x"),
		},
		{
			name:   "member",
			alpn:   mesh,
			cert:   w.root.issue(w.t, "spiffe://cluster.local/ns/foo/sa/x"),
			member: true,
		},
	}
}

// call tries to get the application's answer through the gateway, by the
// server name sni. A member's own TLS with the application is within that of
// the mesh; a stranger's is what the gateway passes on, if it does.
func (w *world) call(c caller, sni string) (string, error) {
	cfg := &tls.Config{ServerName: sni, NextProtos: c.alpn, InsecureSkipVerify: true} // the question is who gets in, not who answers
	if c.cert != nil {
		cfg.Certificates = []tls.Certificate{*c.cert}
	}
	conn, err := net.DialTimeout("tcp", w.gatewayAddr, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	secure := tls.Client(conn, cfg)
	if c.member {
		secure = tls.Client(secure, &tls.Config{ServerName: "vault", InsecureSkipVerify: true})
	}
	if _, err := fmt.Fprintln(secure, "GET /v1/secret"); err != nil {
		return "", err
	}
	return bufio.NewReader(secure).ReadString('\n')
}

// checkCallers asks for the application as every caller: strangers must get
// no answer, no connection to the application, and an end to the connection
// rather than silence.
func (w *world) checkCallers(t *testing.T, memberGetsIn bool) {
	for _, c := range w.callers() {
		t.Run(c.name, func(t *testing.T) {
			before := w.app.reached.Load()
			got, err := w.call(c, vault)
			if c.member && memberGetsIn {
				if err != nil || got != answer+"\n" {
					t.Fatalf("got %q, %v", got, err)
				}
				return
			}
			if err == nil {
				t.Errorf("got in: %q", got)
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("was left waiting: %v", err)
			}
			if n := w.app.reached.Load() - before; n != 0 {
				t.Errorf("%d connections got to the application", n)
			}
		})
	}
}

// TestStrangersDoNotGetThroughTheGateway: port 15443 faces other networks, and
// whoever sends a ClientHello chooses the service. Whatever a workload takes
// within its own network, from there it takes members of the mesh alone.
func TestStrangersDoNotGetThroughTheGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	t.Run("PERMISSIVE by default", func(t *testing.T) { w.checkCallers(t, true) })
	w.set(model.MTLSStrict)
	t.Run("STRICT", func(t *testing.T) { w.checkCallers(t, true) })
	// The application's sidecar takes no mutual TLS then: nobody can prove
	// who they are, so the gateway does not lead there.
	w.set(model.MTLSDisable)
	t.Run("DISABLE", func(t *testing.T) { w.checkCallers(t, false) })
	w.set(model.MTLSPermissive)
	t.Run("PERMISSIVE again", func(t *testing.T) { w.checkCallers(t, true) })
}

// TestNamedServiceIsPassedTo: a Service that a Gateway names with the mode
// PASSTHROUGH gets whoever asks for it by either of its names, and judges them
// itself; another name gets nowhere.
func TestNamedServiceIsPassedTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	stranger := caller{alpn: []string{"h2"}}
	for sni, want := range map[string]string{
		"istiod.istio-system.svc":               answer + "\n",
		"istiod.istio-system.svc.cluster.local": answer + "\n",
		"istiod.istio-system":                   "",
		"istiod.other.svc":                      "",
	} {
		got, err := w.call(stranger, sni)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", sni, got, err, want)
		}
	}
}

// TestGatewayDoesNotLeadToItself: the server name of the gateway's own service
// made it connect to itself, and that connection to itself again, without end:
// one ClientHello took every descriptor of the process.
func TestGatewayDoesNotLeadToItself(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		router bool
	}{
		{name: "discovery knows that the endpoint is a gateway", router: true},
		{name: "discovery does not, and the gateway knows its own listener", router: false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.router)
			callers := w.callers()
			member := callers[len(callers)-1]
			got, err := w.call(member, fmt.Sprintf("outbound_.%d_._.istio-ingressgateway.istio-system.global", gatewayPort))
			var timeout net.Error
			if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("the caller got %q, %v; want an end to its connection", got, err)
			}
			if n := w.gateway.Active(); n > 1 {
				t.Errorf("%d connections in the gateway after one call", n)
			}
			if got, err := w.call(member, vault); err != nil {
				t.Errorf("an honest member, meanwhile: %q, %v", got, err)
			}
		})
	}
}
