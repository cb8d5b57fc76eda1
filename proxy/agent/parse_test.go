package agent_test

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/isthmus-mesh/isthmus/proxy/agent"
)

func TestParseLabels(t *testing.T) {
	got, err := agent.ParseLabels("app=\"we\\\"b\"\n\nx.y/z=\"\"\n")
	check(t, err)
	if want := map[string]string{"app": `we"b`, "x.y/z": ""}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"app", "app=web", "=\"x\"", "app=\"web"} {
		if got, err := agent.ParseLabels(bad); err == nil {
			t.Errorf("ParseLabels(%q) = %v", bad, got)
		}
	}
}

func TestParseProbers(t *testing.T) {
	good := `{"/app-health/a/livez":{"httpGet":{"path":"/x","port":8080,"scheme":"HTTP","httpHeaders":[{"name":"A","value":"b"}]},"timeoutSeconds":3},
		"/app-health/a/readyz":{"tcpSocket":{"port":"9000"}},"/app-health/b/startupz":{"grpc":{"port":9,"service":null}}}`
	got, err := agent.ParseProbers(good)
	check(t, err)
	if len(got) != 3 || got["/app-health/a/readyz"].TCPSocket.Port != 9000 {
		t.Errorf("got %+v", got)
	}
	for name, bad := range map[string]string{
		"two kinds":  `{"/app-health/a/livez":{"tcpSocket":{"port":1},"grpc":{"port":1}}}`,
		"none":       `{"/app-health/a/livez":{}}`,
		"exec":       `{"/app-health/a/livez":{"exec":{"command":["x"]}}}`,
		"named port": `{"/app-health/a/livez":{"tcpSocket":{"port":"http"}}}`,
		"no port":    `{"/app-health/a/livez":{"httpGet":{"path":"/"}}}`,
		"scheme":     `{"/app-health/a/livez":{"httpGet":{"port":1,"scheme":"FTP"}}}`,
		"host":       `{"/app-health/a/livez":{"httpGet":{"port":1,"host":"example.org"}}}`,
		"path":       `{"/quitquitquit":{"tcpSocket":{"port":1}}}`,
		"more":       `{}{}`,
	} {
		if _, err := agent.ParseProbers(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParseProbers(f *testing.F) {
	f.Add(`{"/app-health/a/readyz":{"tcpSocket":{"port":"9000"}}}`)
	f.Fuzz(func(t *testing.T, s string) {
		all, err := agent.ParseProbers(s)
		for path := range all {
			if err != nil || !strings.HasPrefix(path, "/app-health/") {
				t.Errorf("%q: %v", path, err)
			}
		}
	})
}

func FuzzParseLabels(f *testing.F) {
	f.Add("app=\"web\"\n")
	f.Fuzz(func(t *testing.T, s string) { _, _ = agent.ParseLabels(s) })
}

// TestProbes runs the probes against real servers.
func TestProbes(t *testing.T) {
	tlsApp := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer tlsApp.Close()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/away":
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		case r.URL.Path == "/near":
			http.Redirect(w, r, "/ok?x=1", http.StatusFound)
		case r.URL.Path == "/secure":
			http.Redirect(w, r, tlsApp.URL+"/", http.StatusMovedPermanently)
		case r.URL.Path == "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		case r.URL.Path == "/twice":
			if len(r.Header.Values("X-Probe")) != 2 {
				w.WriteHeader(http.StatusTeapot)
			}
		case r.URL.Path == "/sick":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, strings.Repeat("the database is away ", 100_000))
		case r.URL.Path != "/ok" || r.Header.Get("X-Probe") != "yes" || r.Host != "app.test":
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer app.Close()
	hs := health.NewServer()
	hs.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	g := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(g, hs)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go g.Serve(lis)
	defer g.Stop()
	port := func(addr net.Addr) agent.Port { return agent.Port(netip.MustParseAddrPort(addr.String()).Port()) }
	http1, https, grpcPort := port(app.Listener.Addr()), port(tlsApp.Listener.Addr()), port(lis.Addr())
	down := "down"
	closedPort := deafPort(t)
	headers := []agent.Header{{Name: "X-Probe", Value: "yes"}, {Name: "host", Value: "app.test"}}

	d := newDiscovery(t, netip.MustParseAddrPort("127.0.0.1:1"))
	cases := []struct {
		name   string
		prober agent.Prober
		code   int
	}{
		{"ok", agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/ok", Port: http1, HTTPHeaders: headers}}, 200},
		{
			name:   "no-slash",
			prober: agent.Prober{HTTPGet: &agent.HTTPGet{Path: "ok", Port: http1, HTTPHeaders: headers}},
			code:   200,
		},
		{"teapot", agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/ok", Port: http1}}, 418},
		{"away", agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/away", Port: http1}}, 302},
		{
			name:   "near",
			prober: agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/near", Port: http1, HTTPHeaders: headers}},
			code:   200,
		},
		{"secure", agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/secure", Port: http1}}, 200},
		{"circle", agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/circle", Port: http1}}, 503},
		{
			name:   "twice",
			prober: agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/twice", Port: http1, HTTPHeaders: append(headers[:1:1], headers[0])}},
			code:   200,
		},
		{"sick", agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/sick", Port: http1}}, 500},
		{"https", agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/", Port: https, Scheme: "HTTPS"}}, 200},
		{"refused", agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/", Port: closedPort}}, 503},
		{"tcp", agent.Prober{TCPSocket: &agent.TCPSocket{Port: http1}}, 200},
		{"tcp-refused", agent.Prober{TCPSocket: &agent.TCPSocket{Port: closedPort}}, 503},
		{"grpc", agent.Prober{GRPC: &agent.GRPC{Port: grpcPort}}, 200},
		{"grpc-down", agent.Prober{GRPC: &agent.GRPC{Port: grpcPort, Service: &down}}, 503},
	}
	probers := map[string]agent.Prober{}
	for _, c := range cases {
		probers["/app-health/"+c.name+"/livez"] = c.prober
	}
	probers["/app-lifecycle/a/poststartz"] = agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/sick", Port: http1}}
	probers["/app-lifecycle/a/prestopz"] = agent.Prober{HTTPGet: &agent.HTTPGet{Path: "/", Port: closedPort}}
	for _, kind := range []agent.Kind{agent.Sidecar, agent.Router} {
		r := startAgent(t, d, t.TempDir(), func(c *agent.Config) { c.Probers, c.Kind = probers, kind })
		for _, c := range cases {
			if code, body := get(t, "GET", "http://"+r.addrs.Status+"/app-health/"+c.name+"/livez"); code != c.code {
				t.Errorf("%s %s: %d %s, want %d", kind, c.name, code, body, c.code)
			}
		}
		if code, _ := get(t, "GET", "http://"+r.addrs.Status+"/app-health/stranger/livez"); code != 404 {
			t.Errorf("unknown probe: %d", code)
		}
		if _, body := get(t, "GET", "http://"+r.addrs.Status+"/app-health/sick/livez"); len(body) < 10000 || len(body) > 10<<10 {
			t.Errorf("of the answer %d bytes are passed on, want 10 KiB: the kubelet shows them", len(body))
		}
		// Whatever the application answers to a hook is an answer; none is none.
		if code, _ := get(t, "GET", "http://"+r.addrs.Status+"/app-lifecycle/a/poststartz"); code != 500 {
			t.Errorf("hook: %d, want the application's 500", code)
		}
		if resp, err := http.Get("http://" + r.addrs.Status + "/app-lifecycle/a/prestopz"); err == nil {
			resp.Body.Close()
			t.Errorf("a hook that did not reach the application is answered with %s", resp.Status)
		}
		r.end(t)
	}
}

// deafPort is a port of 127.0.0.1 that is taken, so that nobody else gets it,
// and on which nobody listens.
func deafPort(t *testing.T) agent.Port {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	check(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := unix.Getsockname(fd)
	check(t, err)
	return agent.Port(at.(*unix.SockaddrInet4).Port)
}
