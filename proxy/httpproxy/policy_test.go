package httpproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
)

// headerBackend answers with the request headers as JSON.
func headerBackend(t testing.TB) string {
	return backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Host", r.Host)
		r.Header.Set(":path", r.RequestURI)
		_ = json.NewEncoder(w).Encode(r.Header)
	}))
}

// seen sends a request through a hop and returns the headers that the endpoint saw.
func seen(t *testing.T, h *hop, h2 bool, set http.Header) http.Header {
	t.Helper()
	req, _ := http.NewRequest("GET", "http://server.bar:8000/path", nil)
	for k, v := range set {
		req.Header[k] = v
	}
	resp, err := client(t, h.addr, h2).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got http.Header
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	return got
}

// bothVersions runs a test with HTTP/1 and HTTP/2 on both sides.
func bothVersions(t *testing.T, run func(t *testing.T, h2 bool, proto config.HTTPProtocol)) {
	t.Run("HTTP/1", func(t *testing.T) { run(t, false, config.HTTP1) })
	t.Run("HTTP/2", func(t *testing.T) { run(t, true, config.HTTP2) })
}

func TestForwardedClientCert(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	peer := ca.Identity("spiffe://cluster.local/ns/foo/sa/client").Certificate()
	withTLS := func(i *downstream.Info) {
		i.Direction = config.DirectionInbound
		i.TLS = &downstream.TLS{Peer: peer.Leaf, PeerURI: "spiffe://cluster.local/ns/foo/sa/client", OwnURI: "spiffe://cluster.local/ns/bar/sa/server"}
	}
	const spoof = "By=spiffe://x;URI=spiffe://cluster.local/ns/admin/sa/root"
	const own = "By=spiffe://cluster.local/ns/bar/sa/server;Hash="
	for _, tt := range []struct {
		mode   config.ForwardClientCert
		mtls   bool
		prefix string // of what the endpoint sees; empty: no header
		suffix string
	}{
		{
			mode:   config.ForwardClientCertSanitize,
			mtls:   true,
			prefix: "",
			suffix: "",
		},
		{
			mode:   config.ForwardClientCertSanitize,
			mtls:   false,
			prefix: "",
			suffix: "",
		},
		{
			mode:   config.ForwardClientCertSanitizeSet,
			mtls:   true,
			prefix: own,
			suffix: `;Subject="";URI=spiffe://cluster.local/ns/foo/sa/client`,
		},
		{
			mode:   config.ForwardClientCertSanitizeSet,
			mtls:   false,
			prefix: "",
			suffix: "",
		},
		{
			mode:   config.ForwardClientCertAppendForward,
			mtls:   true,
			prefix: spoof + "," + own,
			suffix: "URI=spiffe://cluster.local/ns/foo/sa/client",
		},
		{
			mode:   config.ForwardClientCertAppendForward,
			mtls:   false,
			prefix: "",
			suffix: "",
		},
		{
			mode:   config.ForwardClientCertForwardOnly,
			mtls:   true,
			prefix: spoof,
			suffix: spoof,
		},
		{
			mode:   config.ForwardClientCertForwardOnly,
			mtls:   false,
			prefix: "",
			suffix: "",
		},
		{
			mode:   config.ForwardClientCertAlwaysForwardOnly,
			mtls:   false,
			prefix: spoof,
			suffix: spoof,
		},
	} {
		bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
			s := setup{
				hcm: config.HCM{Routes: toCluster("c"), ForwardClientCert: tt.mode,
					ClientCertDetails: config.ClientCertDetails{Subject: true, URI: true}},
				clusters: []*config.Cluster{staticCluster("c", proto, headerBackend(t))},
			}
			if tt.mtls {
				s.info = withTLS
			}
			h := startHop(t, s)
			got := seen(t, h, h2, http.Header{"X-Forwarded-Client-Cert": {spoof}, "Connection": nil})
			all := got["X-Forwarded-Client-Cert"]
			value := strings.Join(all, "|")
			if tt.prefix == "" && len(all) > 0 || !strings.HasPrefix(value, tt.prefix) || !strings.HasSuffix(value, tt.suffix) || len(all) > 1 {
				t.Errorf("mode %d, mTLS %v: the endpoint saw %q", tt.mode, tt.mtls, all)
			}
		})
	}
}

func TestHeaderPolicy(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		routes := toCluster("c")
		routes.Headers.RequestAdd = []config.HeaderEdit{{Name: "X-Level", Value: "config"}}
		rt := routes.VirtualHosts[0].Routes[0]
		rt.Action.HostRewrite = "rewritten"
		rt.Action.PrefixRewrite = "/new/"
		rt.Headers = config.HeaderEdits{
			RequestAdd:     []config.HeaderEdit{{Name: "X-Level", Value: "route"}, {Name: "X-Have", Value: "no", IfAbsent: true}, {Name: "X-Both", Value: "2", Append: true}},
			RequestRemove:  []string{"X-Secret"},
			ResponseAdd:    []config.HeaderEdit{{Name: "X-Resp", Value: "yes"}},
			ResponseRemove: []string{"Content-Type"},
		}
		h := startHop(t, setup{
			hcm:      config.HCM{Routes: routes, UseRemoteAddress: true, GenerateRequestID: true},
			clusters: []*config.Cluster{staticCluster("c", proto, headerBackend(t))},
		})
		got := seen(t, h, h2, http.Header{
			"X-Have": {"yes"}, "X-Both": {"1"}, "X-Secret": {"s"}, "X-Forwarded-For": {"9.9.9.9"}, "X-Forwarded-Proto": {"https"},
			"X-Request-Id": {"mine"},
		})
		for k, want := range map[string]string{
			// As in Envoy, the widest level comes last.
			"X-Level": "config", "X-Have": "yes", "X-Both": "1,2", "X-Secret": "", "Host": "rewritten", ":path": "/new/path",
			"X-Forwarded-For": "9.9.9.9, 127.0.0.1", "X-Forwarded-Proto": "http", "X-Request-Id": "mine",
		} {
			if v := strings.Join(got[k], ","); v != want {
				t.Errorf("%s is %q, want %q", k, v, want)
			}
		}
		resp, err := client(t, h.addr, h2).Get("http://a/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Header.Get("X-Resp") != "yes" || resp.Header.Get("Content-Type") != "" {
			t.Errorf("response headers %v", resp.Header)
		}
	})
}

func TestDirectResponseAndRedirect(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, _ config.HTTPProtocol) {
		rc := &config.RouteConfig{VirtualHosts: []*config.VirtualHost{{Domains: []string{"*"}, Routes: []*config.Route{
			{Match: config.RouteMatch{Path: "/blocked"}, Direct: &config.DirectResponse{Status: 502, Body: "blocked"}},
			{Match: config.RouteMatch{Prefix: "/"}, Redirect: &config.Redirect{Status: 301, HTTPS: true, Port: 8443}},
		}}}}
		h := startHop(t, setup{hcm: config.HCM{Routes: rc, ServerName: "istio-envoy"}})
		c := client(t, h.addr, h2)
		resp, err := c.Get("http://a/blocked")
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 502 || string(b) != "blocked" || resp.Header.Get("Server") != "istio-envoy" {
			t.Errorf("%d %q %v", resp.StatusCode, b, resp.Header)
		}
		resp.Body.Close()
		if resp, err = c.Get("http://a:80/x?y=z"); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if l := resp.Header.Get("Location"); resp.StatusCode != 301 || l != "https://a:8443/x?y=z" {
			t.Errorf("%d %q", resp.StatusCode, l)
		}
	})
}

func TestAbsoluteForm(t *testing.T) {
	addr := headerBackend(t)
	dst := &config.Cluster{Name: "dst", Type: config.ClusterOriginalDst, ConnectTimeout: 1e9}
	routes := toCluster("dst")
	routes.VirtualHosts = append(routes.VirtualHosts, &config.VirtualHost{Domains: []string{"mesh"}, Routes: []*config.Route{
		{Match: config.RouteMatch{Prefix: "/"}, Action: &config.RouteAction{Cluster: "c"}},
	}})
	h := startHop(t, setup{
		hcm:      config.HCM{Routes: routes},
		clusters: []*config.Cluster{staticCluster("c", config.HTTP1, addr), dst},
		info:     func(i *downstream.Info) { i.Local = netip.MustParseAddrPort(addr) },
	})
	got := raw(t, h.addr, "GET http://mesh/a HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n")
	if !strings.Contains(got, `":path":["/a"]`) || !strings.Contains(got, `"Host":["mesh"]`) {
		t.Errorf("to a mesh service: %s", got)
	}
	// What goes to the original destination may be meant for a proxy there.
	got = raw(t, h.addr, "GET http://outside/a HTTP/1.1\r\nHost: outside\r\nConnection: close\r\n\r\n")
	if !strings.Contains(got, `":path":["http://outside/a"]`) {
		t.Errorf("to the original destination: %s", got)
	}
}

// syncBuffer is an access log in memory.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// TestTelemetryOverTwoHops checks what a client and a server sidecar report of the same calls.
func TestTelemetryOverTwoHops(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		ca := mtlstest.NewCA(t, "root")
		up, down := meshTLS(ca, proto)
		const serverID, clientID = "spiffe://cluster.local/ns/bar/sa/server", "spiffe://cluster.local/ns/foo/sa/client"
		server, err := mtls.NewServer(down, ca.Identity(serverID), nil)
		if err != nil {
			t.Fatal(err)
		}
		addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Cert", r.Header.Get("X-Forwarded-Client-Cert"))
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "short and stout")
		}))
		in := startHop(t, setup{
			hcm: config.HCM{Routes: toCluster("c"), ForwardClientCert: config.ForwardClientCertSanitizeSet,
				ClientCertDetails: config.ClientCertDetails{Subject: true, URI: true}},
			clusters: []*config.Cluster{staticCluster("c", proto, addr)},
			tls:      func(offered []string) *tls.Config { return server.Config(offered) },
			info:     func(i *downstream.Info) { i.Direction = config.DirectionInbound },
			self:     telemetry.Party{Workload: "server-v1", Namespace: "bar", App: "server", Version: "v1", Cluster: "c2", Principal: serverID},
		})
		cluster := staticCluster("c", proto, in.addr)
		cluster.Transport = config.Transport{Name: "tls", TLS: up}
		log := &syncBuffer{}
		out := startHop(t, setup{
			hcm: config.HCM{Routes: toCluster("c"), GenerateRequestID: true, AccessLogs: []config.AccessLog{{
				Path: "/dev/stdout", JSON: map[string]string{
					"code": "%RESPONSE_CODE%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "cert": "%RESP(x-cert)%",
					"flags": "%RESPONSE_FLAGS%", "upstream": "%UPSTREAM_HOST%", "what": "%REQ(:METHOD)% %PROTOCOL%", "sent": "%BYTES_SENT%",
				},
			}}},
			clusters: []*config.Cluster{cluster}, identity: ca.Identity(clientID),
			self:    telemetry.Party{Workload: "client-v1", Namespace: "foo", App: "client", Version: "v1", Cluster: "c1", Principal: clientID},
			openLog: func(string) (io.Writer, error) { return log, nil },
		})
		for range 3 {
			resp, err := client(t, out.addr, h2).Post("http://server.bar:8000/p", "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusTeapot || !strings.Contains(resp.Header.Get("X-Cert"), "URI="+clientID) {
				t.Fatalf("status %d, certificate %q", resp.StatusCode, resp.Header.Get("X-Cert"))
			}
		}
		common := map[string]string{
			"source_principal": clientID, "source_workload_namespace": "foo",
			"destination_principal": serverID, "destination_workload": "server-v1", "destination_workload_namespace": "bar",
			"destination_service": "server.bar.svc.cluster.local", "destination_service_name": "server",
			"response_code": "418", "response_flags": "-", "request_protocol": "http", "connection_security_policy": "mutual_tls",
		}
		source := map[string]string{"reporter": "source", "source_workload": "client-v1"}
		destination := map[string]string{"reporter": "destination", "source_workload": "unknown"}
		for k, v := range common {
			source[k], destination[k] = v, v
		}
		checkMetric(t, out, source, 3)
		checkMetric(t, in, destination, 3)
		stopped, stop := context.WithCancel(t.Context())
		stop()
		if err := out.tel.Run(stopped); err != nil { // writes out what is gathered
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(log.b.String(), "\n")
		version := "HTTP/1.1"
		if h2 {
			version = "HTTP/2"
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		for k, want := range map[string]any{"code": 418.0, "path": "/p", "flags": "-", "upstream": in.addr, "what": "POST " + version, "sent": 15.0} {
			if got[k] != want {
				t.Errorf("access log: %s is %v, want %v", k, got[k], want)
			}
		}
	})
}

// checkMetric waits until istio_requests_total with those labels has a value, and checks that the sizes agree.
func checkMetric(t *testing.T, h *hop, labels map[string]string, want float64) {
	t.Helper()
	last := ""
	eventually(t, fmt.Sprintf("%s to report %v requests", labels["reporter"], want), func() bool {
		families, err := h.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "istio_requests_total" {
				continue
			}
			for _, m := range f.GetMetric() {
				last = m.String()
				have := map[string]string{}
				for _, l := range m.GetLabel() {
					have[l.GetName()] = l.GetValue()
				}
				match := true
				for k, v := range labels {
					match = match && have[k] == v
				}
				if match && m.GetCounter().GetValue() == want {
					return true
				}
			}
		}
		return false
	})
	if t.Failed() {
		t.Logf("the last series seen: %s", last)
	}
}
