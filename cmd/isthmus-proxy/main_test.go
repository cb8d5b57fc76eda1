package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/agent"
)

// invoke runs a command line with an environment.
func invoke(env map[string]string, args ...string) (string, error) {
	var out bytes.Buffer
	err := run(context.Background(), args, func(k string) (string, bool) { v, ok := env[k]; return v, ok }, &out)
	return out.String(), err
}

func TestCommandLine(t *testing.T) {
	tests := []struct {
		args       string
		out, fails string
	}{
		{args: "", out: "Commands:"},
		{args: "--help", out: "redirect"},
		{args: "version", out: "dev\n"},
		{args: "redirect --help", out: "--exclude-inbound-ports"},
		{args: "sidecar --help", out: "[$PROXY_CONFIG]"},
		{args: "dance", fails: `unknown command "dance"`},
		{args: "version now", fails: "takes 0 arguments"},
		{args: "redirect --exclude-outbound-ports x", fails: "--exclude-outbound-ports: \"x\" is not a port"},
		{args: "redirect --exclude-inbound-ports *", fails: "excludes everything"},
		{args: "redirect --include-outbound-cidrs 10.0.0.0/99", fails: "neither a CIDR nor an address"},
		{args: "redirect --dns --resolv-conf /", fails: "/: read /: is a directory"},
		{args: "sidecar --ip 10.0.0.1 --dns-capture perhaps", fails: `dns-capture "perhaps": want true or false`},
		{args: "sidecar --ip 10.0.0.1 --dns-auto-allocate perhaps", fails: `dns-auto-allocate "perhaps": want true or false`},
		{args: "sidecar --ip 10.0.0.1 --dns-capture true --resolv-conf /", fails: "/: read /: is a directory"},
		{args: "sidecar --proxy-config {", fails: "proxy-config"},
		{args: `sidecar --proxy-config {"tracing":1}`, fails: "unknown field"},
		{args: "sidecar --log-level loud", fails: `log-level "loud"`},
		{args: "sidecar --jwt-policy none", fails: "jwt-policy"},
		{args: "sidecar --cert-provider vault", fails: "only istiod"},
		{args: "sidecar --ip 10.0.0.1 --native perhaps", fails: `native "perhaps": want true or false`},
		{args: "sidecar --ip 10.0.0.1 --exit-on-zero-active-connections 1s", fails: "exit-on-zero-active-connections \"1s\": want true or false"},
		{args: "sidecar --ip 10.0.0.1 --minimum-drain-duration -5s", fails: "minimum-drain-duration \"-5s\": want a duration like 5s"},
		{args: "sidecar --ip 10.0.0.1 --application-stop-delay soon", fails: "application-stop-delay \"soon\": want a duration like 2s"},
		{args: "router --ip 10.0.0.1", fails: "the pod name (POD_NAME) is missing"},
		{args: "router --ip 10.0.0.x", fails: "ip:"},
		{args: "request GET", fails: "takes 2 arguments"},
	}
	for _, tt := range tests {
		out, err := invoke(nil, strings.Fields(tt.args)...)
		if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
			t.Errorf("%q: error %v, want %q", tt.args, err, tt.fails)
		}
		if !strings.Contains(out, tt.out) {
			t.Errorf("%q prints %q, want %q in it", tt.args, out, tt.out)
		}
	}
}

func TestWaitAndRequest(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch {
		case r.URL.Path == "/slow" && asked < 3, r.URL.Path == "/never":
			http.Error(w, "not ready: no certificate yet", http.StatusServiceUnavailable)
		default:
			_, _ = w.Write([]byte(r.Method + " " + r.URL.String()))
		}
	}))
	defer srv.Close()
	if _, err := invoke(nil, "wait", "--url", srv.URL+"/slow", "--period", "1ms"); err != nil {
		t.Error(err)
	}
	_, err := invoke(nil, "wait", "--url", srv.URL+"/never", "--timeout", "50ms", "--period", "5ms")
	if err == nil || !strings.Contains(err.Error(), "no certificate yet") {
		t.Errorf("wait says %v", err)
	}
	out, err := invoke(nil, "request", "--url", srv.URL, "post", "logging?level=debug")
	if err != nil || out != "POST /logging?level=debug" {
		t.Errorf("request prints %q, %v", out, err)
	}
	if _, err := invoke(nil, "request", "--url", srv.URL, "GET", "/never"); err == nil {
		t.Error("request has no error for 503")
	}
}

func TestSettings(t *testing.T) {
	env := map[string]string{
		"POD_NAME": "web-1", "POD_NAMESPACE": "shop", "SERVICE_ACCOUNT": "web", "INSTANCE_IP": "10.1.2.3,fd00::3",
		"PROXY_CONFIG": `{"discoveryAddress":"istiod-remote.istio-system.svc:15012","terminationDrainDuration":"7s","concurrency":0}`,
		"JWT_POLICY":   "first-party-jwt", "LOG_LEVEL": "default:warning,xds:debug",
	}
	var got agent.Config
	probe := command{name: "probe", run: func(_ context.Context, c *call) error {
		var s settings
		s.bind(c)
		if err := c.parse(0); err != nil {
			return err
		}
		pc, err := parseProxyConfig(s.proxyConfig)
		if err != nil {
			return err
		}
		got, err = s.agentConfig(agent.Sidecar, pc)
		return err
	}}
	if err := probe.run(context.Background(), newCall(probe, []string{"--pod-name", "other"}, env)); err != nil {
		t.Fatal(err)
	}
	if got.Pod != "other" || got.Namespace != "shop" || got.IP.String() != "10.1.2.3" || got.TokenFile != firstPartyToken ||
		got.DrainFor != 7*time.Second || got.DrainAtLeast != 7*time.Second || got.Discovery != "istiod-remote.istio-system.svc:15012" {
		t.Errorf("got %+v", got)
	}
	if got.Level.Level().String() != "WARN" {
		t.Errorf("level %s", got.Level.Level())
	}
	if _, err := agent.NewIdentity(got); err != nil {
		t.Error(err)
	}
}

// TestDrainTimes: how long connections are taken, and waited for, at the end.
func TestDrainTimes(t *testing.T) {
	for _, tt := range []struct {
		what                string
		kind                agent.Kind
		native, config      string
		atLeast, longest    time.Duration
		waitsForApplication bool
	}{
		{"gateway", agent.Router, "false", `{}`, 5 * time.Second, 20 * time.Second, false},
		{"gateway, as told", agent.Router, "false", `{"terminationDrainDuration":"9s"}`, 9 * time.Second, 9 * time.Second, false},
		{"native sidecar", agent.Sidecar, "true", `{}`, time.Second, 5 * time.Second, false},
		{"plain sidecar", agent.Sidecar, "false", `{}`, 5 * time.Second, 5 * time.Second, true},
	} {
		s := settings{native: tt.native, untilIdle: "false", drainAtLeast: "5s", stopDelay: "2s"}
		pc, err := parseProxyConfig(tt.config)
		if err != nil {
			t.Fatal(err)
		}
		cfg := agent.Config{Kind: tt.kind, DrainFor: defaultDrain}
		if err := s.drainTimes(&cfg, pc); err != nil {
			t.Fatal(err)
		}
		if cfg.DrainAtLeast != tt.atLeast || cfg.DrainFor != tt.longest || (cfg.AppListens != nil) != tt.waitsForApplication || cfg.StopDelay != 2*time.Second {
			t.Errorf("%s: %+v", tt.what, cfg)
		}
	}
}

// TestNameServer: who answers DNS, and whom it asks.
func TestNameServer(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("search shop.svc.cluster.local svc.cluster.local\nnameserver 127.0.0.1\nnameserver 10.96.0.10\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(kind agent.Kind, capture string) *agent.DNS {
		t.Helper()
		s := settings{namespace: "shop", dnsDomain: "cluster.local", dnsCapture: capture, dnsAutoAllocate: "true", resolvConf: conf}
		out, err := s.nameServer(kind)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	got := read(agent.Sidecar, "true")
	if got == nil || fmt.Sprint(*got) != "{15053 [10.96.0.10] {shop cluster.local shop.svc.cluster.local}}" {
		t.Errorf("%+v", got)
	}
	conf = "/nowhere"
	if got := read(agent.Sidecar, "true"); got == nil || len(got.Resolvers) > 0 {
		t.Errorf("without a resolv.conf: %+v", got)
	}
	if read(agent.Sidecar, "false") != nil || read(agent.Router, "true") != nil {
		t.Error("a name server where there should be none")
	}
}

func newCall(cmd command, args []string, env map[string]string) *call {
	c := &call{}
	*c = call{cmd: cmd, args: args, out: &bytes.Buffer{}, env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	c.flags = newFlags(c)
	return c
}

func TestMetadata(t *testing.T) {
	got := metadata([]string{"ISTIO_META_CLUSTER_ID=c1", "ISTIO_META_=x", "ISTIO_META_NETWORK=", "PATH=/bin", "ISTIO_META_OWNER=a=b"})
	if want := map[string]string{"CLUSTER_ID": "c1", "OWNER": "a=b"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
