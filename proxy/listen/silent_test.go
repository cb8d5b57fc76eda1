package listen

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

const firstLine = "GET / HTTP/1.1\r\n"

// namedHTTP answers every connection with the name of its chain.
type namedHTTP struct{}

func (h namedHTTP) Handler(*config.HCM) (HTTPHandler, error) { return h, nil }

func (namedHTTP) ServeConn(c net.Conn, info *downstream.Info) {
	b := make([]byte, len(firstLine))
	if _, err := io.ReadFull(c, b); err == nil {
		_, _ = io.WriteString(c, info.Chain)
	}
}

// TestLateTLS: where plaintext and TLS are taken for HTTP, a client that is
// silent for longer than the inspection waits is not taken for a plaintext one.
func TestLateTLS(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	id := ca.Identity(serverID)
	set := upstream.NewSet(upstream.Options{Identity: id, Logger: slog.New(slog.DiscardHandler)})
	m := New(Options{Clusters: set, Identity: id, HTTP: namedHTTP{}, Telemetry: &record{},
		Logger: slog.New(slog.DiscardHandler), DrainTime: 100 * time.Millisecond, OriginalDst: originalDst})
	t.Cleanup(func() {
		m.Close()
		set.Close()
	})
	chain := func(name, transport string, tls *config.DownstreamTLS) *config.FilterChain {
		return &config.FilterChain{Name: name, Version: name, HandshakeTimeout: 2 * time.Second, TLS: tls,
			HTTP: &config.HCM{}, Match: config.ChainMatch{TransportProtocol: transport}}
	}
	for name, err := range m.Update([]*config.Listener{tcpListener("l", chain("mutual", "tls", serverTLS()), chain("plain", "raw_buffer", nil))}, nil) {
		t.Fatal(name, err)
	}
	addr, _ := m.Addr("l")
	cert := ca.Identity(clientID).Certificate()
	for _, wait := range []time.Duration{0, 150 * time.Millisecond} {
		secure, plain := dial(t, addr), dial(t, addr)
		time.Sleep(wait)
		for want, c := range map[string]net.Conn{
			"mutual": tls.Client(secure, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert}}),
			"plain":  plain,
		} {
			if _, err := io.WriteString(c, firstLine); err != nil {
				t.Fatalf("after %s, %s: %v", wait, want, err)
			}
			got, err := io.ReadAll(c)
			if string(got) != want {
				t.Errorf("after %s the chain %q was chosen (%v), want %q", wait, got, err, want)
			}
		}
	}
}
