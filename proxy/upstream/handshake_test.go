package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// TestRefusedEndpointsAreCounted: an endpoint of another root, of another name
// or with an expired certificate is refused, and somebody is told why.
func TestRefusedEndpointsAreCounted(t *testing.T) {
	const server = "spiffe://cluster.local/ns/bar/sa/server"
	ours := mtlstest.NewCA(t, "ours")
	for _, c := range []struct {
		name string
		cert *tls.Certificate
		want mtls.Reason
	}{
		{"right", ours.Issue(server, time.Now().Add(time.Hour)), ""},
		{
			name: "another root",
			cert: mtlstest.NewCA(t, "other").Issue(server, time.Now().Add(time.Hour)),
			want: mtls.ReasonUnknownCA,
		},
		{"expired", ours.Issue(server, time.Now().Add(-time.Hour)), mtls.ReasonExpired},
		{
			name: "another name",
			cert: ours.Issue("spiffe://cluster.local/ns/bar/sa/else", time.Now().Add(time.Hour)),
			want: mtls.ReasonSANMismatch,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told []mtls.Reason
			set := newTestSet(t, Options{
				Identity:        ours.Identity("spiffe://cluster.local/ns/foo/sa/client"),
				HandshakeFailed: func(r mtls.Reason) { told = append(told, r) },
			})
			addr := tlsServer(t, c.cert)
			cluster := apply(t, set, &config.Cluster{
				Name: "c", Type: config.ClusterEDS, EDSName: "c",
				Transport: config.Transport{TLS: &config.UpstreamTLS{
					SNI: "x", Cert: config.CertMesh, Roots: config.TrustRoots{Source: config.CertMesh},
					SANs: []config.SANMatch{{Type: config.SANURI, Match: config.StringMatch{Value: server}}},
				}},
			})
			set.ApplyEndpoints(eds("c", locality(0, config.Endpoint{
				Addr: addr.AddrPort().Addr(), Port: addr.AddrPort().Port(), Weight: 1, Healthy: true,
			})))
			ep, err := cluster.Pick(Hint{})
			if err != nil {
				t.Fatal(err)
			}
			conn, _, err := ep.Dial(context.Background(), config.ProtocolTCP)
			if conn != nil {
				conn.Close()
			}
			if (err == nil) != (c.want == "") {
				t.Fatalf("dial: %v", err)
			}
			if c.want == "" && len(told) != 0 || c.want != "" && (len(told) != 1 || told[0] != c.want) {
				t.Errorf("told %q, want %q once (%v)", told, c.want, err)
			}
		})
	}
}

// tlsServer answers one handshake with the certificate.
func tlsServer(t *testing.T, cert *tls.Certificate) *net.TCPAddr {
	t.Helper()
	ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.(*tls.Conn).Handshake()
		_, _ = conn.Read(make([]byte, 1)) // until the client has gone
	}()
	return ln.Addr().(*net.TCPAddr)
}
