package proxy

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

const passthroughListener = `{"name":"0.0.0.0_15443","address":{"socket_address":{"address":"0.0.0.0","port_value":0}},` +
	`"listener_filters":[{"name":"tls",` + typed + `extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],` +
	`"filter_chains":[{"filters":[{"name":"sni",` + typed + `extensions.filters.network.sni_cluster.v3.SniCluster"}},` + tcpTo + `]}]}`

const toItself = `{"name":"outbound_.15443_._.gateway.istio-system.global","type":"STATIC","connect_timeout":"2s",` +
	`"load_assignment":{"cluster_name":"x","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"$ADDR","port_value":$PORT}}}}]}]}}`

// TestNoWayToItself: a cluster that leads to the proxy's own listener, whoever
// sent it, opens no connection. One ClientHello made ten thousands of them in a
// second, and they stayed when the client had gone.
func TestNoWayToItself(t *testing.T) {
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{"127.0.0.1", "127.9.9.9"}
	for _, a := range own {
		if p, ok := a.(*net.IPNet); ok && p.IP.To4() != nil {
			addresses = append(addresses, p.IP.String())
		}
	}
	for _, address := range addresses {
		t.Run(address, func(t *testing.T) {
			gw := start(t, mtlstest.NewCA(t, "root").Identity(serverID))
			gw.apply(typeListener, res(t, typeListener, passthroughListener, "CLUSTER", "none"))
			addr, _ := gw.Addr("0.0.0.0_15443")
			_, port, _ := strings.Cut(addr.String(), "]:")
			if port == "" {
				_, port, _ = strings.Cut(addr.String(), ":")
			}
			gw.apply(typeCluster, res(t, typeCluster, toItself, "ADDR", address, "PORT", port))

			raw, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: "outbound_.15443_._.gateway.istio-system.global"})
			if err := c.Handshake(); err == nil {
				t.Fatal("the gateway shook hands")
			}
			if n := count(t, gw, "isthmus_proxy_own_listener_refused_total"); n < 1 || n > 3 {
				t.Errorf("%v refusals are counted, want one for each attempt", n)
			}
			for deadline := time.Now().Add(5 * time.Second); gw.Active() > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d connections are left", gw.Active())
				}
			}
		})
	}
}

// count sums a counter of the proxy.
func count(t *testing.T, n *node, name string) (sum float64) {
	t.Helper()
	families, err := n.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
