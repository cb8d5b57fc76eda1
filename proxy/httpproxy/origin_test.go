package httpproxy

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// TestOriginatesTLS: a request that came in the clear goes on by TLS to a server that
// proves its name; one that does not gets nothing of it.
func TestOriginatesTLS(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var served atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		_, _ = io.WriteString(w, r.Proto+" for "+r.TLS.ServerName)
	}))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{*ca.IssueServer(time.Now().Add(time.Hour), "www.example")}, NextProtos: []string{"h2", "http/1.1"},
	}
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)

	for name, c := range map[string]struct {
		expects string // the name that the certificate must have
		to      config.HTTPProtocol
		h2      bool
		status  int
		body    string
	}{
		"HTTP/1":                {"www.example", config.HTTP1, false, 200, "HTTP/1.1 for www.example"},
		"HTTP/2":                {"www.example", config.HTTP2, true, 200, "HTTP/2.0 for www.example"},
		"HTTP/1 to HTTP/2":      {"www.example", config.HTTP2, false, 200, "HTTP/2.0 for www.example"},
		"HTTP/1, somebody else": {"other.example", config.HTTP1, false, 503, ""},
		"HTTP/2, somebody else": {"other.example", config.HTTP2, true, 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			served.Store(0)
			cluster := staticCluster("c", c.to, server.Listener.Addr().String())
			cluster.Transport.TLS = &config.UpstreamTLS{
				SNI: "www.example", Roots: config.TrustRoots{Source: config.CertFile, Path: roots},
				SANs: []config.SANMatch{{Type: config.SANDNS, Match: config.StringMatch{Kind: config.MatchExact, Value: c.expects}}},
			}
			h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
			resp, err := client(t, h.addr, c.h2).Get("http://www.example/")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || c.body != "" && string(body) != c.body {
				t.Errorf("status %d, %q; want %d, %q", resp.StatusCode, body, c.status, c.body)
			}
			if c.status != 200 && served.Load() > 0 {
				t.Error("a server that did not prove its name was asked")
			}
		})
	}
}
