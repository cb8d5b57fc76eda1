package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

const twoPlaces = `{"cluster_name":"outbound|8000||web.bar","endpoints":[
	{"priority":0,"lb_endpoints":[{"metadata":{"filter_metadata":{"istio":{"workload":"web-1;bar;web;v1;near"}}},"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":$NEAR}}}}]},
	{"priority":1,"lb_endpoints":[{"metadata":{"filter_metadata":{"istio":{"workload":"web-2;bar;web;v1;far"}}},"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":$FAR}}}}]}]}`

// named is a backend that says who it is.
func named(t *testing.T, who string) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, who) })}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { s.Close() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// ofTwoPlaces is a client's proxy that has web.bar in two clusters.
func ofTwoPlaces(t *testing.T) *node {
	t.Helper()
	n := start(t, mtlstest.NewCA(t, "root").Identity(clientID))
	n.apply(typeListener,
		res(t, typeListener, virtualOutbound, "CLUSTER", "PassthroughCluster"),
		res(t, typeListener, serviceHTTP, "CLUSTER", "outbound|8000||web.bar"))
	n.apply(typeCluster, res(t, typeCluster, passthrough), res(t, typeCluster, outbound, "ALPN", `"istio"`))
	n.apply(typeEndpoint, res(t, typeEndpoint, twoPlaces,
		"NEAR", fmt.Sprint(named(t, "near").Port()), "FAR", fmt.Sprint(named(t, "far").Port())))
	n.apply(typeRoute, res(t, typeRoute, routes8000))
	n.goingTo(netip.MustParseAddrPort("10.1.2.3:8000"))
	return n
}

// answers asks once, and says who answered.
func (n *node) answers() string {
	n.t.Helper()
	code, body, err := n.get("web.bar:8000")
	if err != nil || code != 200 {
		n.t.Fatalf("status %d, %v: %s", code, err, body)
	}
	return body
}

// comesBack waits until the near cluster answers again.
func (n *node) comesBack() {
	n.t.Helper()
	for end := time.Now().Add(20 * time.Second); n.answers() != "near"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatal("calls do not come back to the near cluster")
		}
	}
}

// TestDrill: calls go to the other cluster while a drill goes on, none fails, and they
// come back after it, also when nobody ends it.
func TestDrill(t *testing.T) {
	for name, c := range map[string]struct {
		lease time.Duration
		end   func(*node)
	}{
		"ended":          {longestLease, func(n *node) { n.EndDrill() }},
		"left to itself": {time.Second, func(*node) {}},
	} {
		t.Run(name, func(t *testing.T) {
			n := ofTwoPlaces(t)
			if got := n.answers(); got != "near" {
				t.Fatalf("%s answers before", got)
			}
			if err := n.Drill("web.bar", "near", c.lease); err != nil {
				t.Fatal(err)
			}
			if got := n.answers(); got != "far" {
				t.Errorf("%s answers during the drill", got)
			}
			c.end(n)
			n.comesBack()
		})
	}
}

// TestDrillRefused: what would cost calls, or last, is refused and changes nothing.
func TestDrillRefused(t *testing.T) {
	n := ofTwoPlaces(t)
	for want, err := range map[string]error{
		"has no endpoints":         n.Drill("web.bar", "nowhere", time.Second),
		"has no endpoints in":      n.Drill("other.bar", "near", time.Second),
		"a lease of 1m0s":          n.Drill("web.bar", "near", time.Minute),
		"needs a host and cluster": n.Drill("", "near", time.Second),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}

	if err := n.Drill("web.bar", "near", longestLease); err != nil {
		t.Fatal(err)
	}
	if err := n.Drill("web.bar", "near", longestLease); err != nil {
		t.Errorf("it is not renewed: %v", err)
	}
	if err := n.Drill("web.bar", "far", longestLease); err == nil || !strings.Contains(err.Error(), "goes on") {
		t.Errorf("two at a time: %v", err)
	}
	n.EndDrill()

	// Alone it may not be failed.
	n.apply(typeEndpoint, res(t, typeEndpoint, endpoints, "MODE", "none", "PORT", fmt.Sprint(named(t, "only").Port())))
	if err := n.Drill("web.bar", "cluster-2", time.Second); err == nil || !strings.Contains(err.Error(), "calls would fail") {
		t.Errorf("the last cluster: %v", err)
	}
	if got := n.answers(); got != "only" {
		t.Errorf("%s answers", got)
	}
}
