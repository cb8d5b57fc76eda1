package resources

import (
	"fmt"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// TestTargetPortWithoutResolution: a connection keeps the address that the client
// chose, and gets the targetPort.
func TestTargetPortWithoutResolution(t *testing.T) {
	const entry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: client}
spec: {hosts: [api.example.com], addresses: [10.20.0.1], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP%s}]}
`
	for target, want := range map[string]uint32{"": 0, ", targetPort: 80": 0, ", targetPort: 8080": 8080} {
		s := newScene(t, fmt.Sprintf(entry, target))
		c := s.cluster(s.client, "outbound|80||api.example.com")
		if got := c.GetOriginalDstLbConfig().GetUpstreamPortOverride().GetValue(); got != want || c.GetType() != clusterv3.Cluster_ORIGINAL_DST {
			t.Errorf("%q: port %d, want %d", target, got, want)
		}
	}
}

// chains tells where a listener's filter chains lead: by prefix and server name,
// the default chain as "else".
func (s *scene) chains(name string) string {
	l := message[*listenerv3.Listener](s, s.client, xds.TypeListener, name)
	leads := func(fc *listenerv3.FilterChain) string {
		tcp := &tcpv3.TcpProxy{}
		if err := fc.Filters[0].GetTypedConfig().UnmarshalTo(tcp); err != nil {
			s.t.Fatal(err)
		}
		return tcp.GetCluster()
	}
	var out []string
	for _, fc := range l.GetFilterChains() {
		m := fc.GetFilterChainMatch()
		var on []string
		for _, p := range m.GetPrefixRanges() {
			on = append(on, fmt.Sprintf("%s/%d", p.AddressPrefix, p.PrefixLen.GetValue()))
		}
		on = append(on, m.GetServerNames()...)
		out = append(out, strings.Join(on, " ")+" -> "+leads(fc))
	}
	if fc := l.GetDefaultFilterChain(); fc != nil {
		out = append(out, "else -> "+leads(fc))
	}
	return strings.Join(out, "\n")
}

// entryAt is a ServiceEntry for a host at an address.
func entryAt(name, address, protocol string) string {
	return fmt.Sprintf(`---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s, namespace: client}
spec: {hosts: [%[1]s.example.com], addresses: [%[2]s], resolution: STATIC, ports: [{number: 443, name: p, protocol: %[3]s}], endpoints: [{address: 10.9.0.1}]}
`, name, address, protocol)
}

// TestHostsThatShareAnAddress: two hosts that speak TLS are told apart by the
// server name, at one address as at a prefix; one alone has all connections.
func TestHostsThatShareAnAddress(t *testing.T) {
	const a, b = "outbound|443||a.example.com", "outbound|443||b.example.com"
	for _, tt := range []struct {
		name     string
		entries  string
		listener string
		want     string
	}{
		{
			name:     "one at an address",
			entries:  entryAt("a", "10.20.0.1", "TLS"),
			listener: "10.20.0.1_443",
			want:     " -> " + a,
		},
		{
			name:     "two at an address",
			entries:  entryAt("a", "10.20.0.1", "TLS") + entryAt("b", "10.20.0.1", "TLS"),
			listener: "10.20.0.1_443",
			want:     "a.example.com -> " + a + "\nb.example.com -> " + b + "\nelse -> " + passthroughCluster,
		},
		{
			name:     "TLS beside TCP",
			entries:  entryAt("a", "10.20.0.1", "TCP") + entryAt("b", "10.20.0.1", "TLS"),
			listener: "10.20.0.1_443",
			want:     "b.example.com -> " + b + "\nelse -> " + a,
		},
		{
			name:     "two of TCP",
			entries:  entryAt("a", "10.20.0.1", "TCP") + entryAt("b", "10.20.0.1", "TCP"),
			listener: "10.20.0.1_443",
			want:     " -> " + a,
		},
		{
			name:     "one at a prefix",
			entries:  entryAt("a", "10.20.0.0/16", "TLS"),
			listener: "0.0.0.0_443",
			want:     "10.20.0.0/16 -> " + a + "\nelse -> " + passthroughCluster,
		},
		{
			name:     "two at a prefix",
			entries:  entryAt("a", "10.20.0.0/16", "TLS") + entryAt("b", "10.20.0.0/16", "TLS"),
			listener: "0.0.0.0_443",
			want:     "10.20.0.0/16 a.example.com -> " + a + "\n10.20.0.0/16 b.example.com -> " + b + "\nelse -> " + passthroughCluster,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, tt.entries)
			if got := s.chains(tt.listener); got != tt.want {
				t.Errorf("chains:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

// TestPortSettingsInheritNothing: what a port's settings leave out has its
// default, not what the rule says for other ports.
func TestPortSettingsInheritNothing(t *testing.T) {
	rule := func(policy string) *clusterv3.Cluster {
		s := newScene(t, "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\n"+
			"spec: {host: web, trafficPolicy: {"+policy+"}}")
		return s.cluster(s.client, "outbound|80||"+webHost)
	}
	byPort := "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]"
	if c := rule("tls: {mode: DISABLE}, " + byPort); len(c.GetTransportSocketMatches()) == 0 || c.GetLbPolicy() != clusterv3.Cluster_RANDOM {
		t.Error("the rule's tls holds for a port that has settings of its own")
	}
	byPort = "portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]"
	if c := rule("loadBalancer: {simple: ROUND_ROBIN}, " + byPort); c.GetTransportSocket() == nil || c.GetLbPolicy() != clusterv3.Cluster_LEAST_REQUEST {
		t.Error("the rule's load balancing holds for a port that has settings of its own")
	}
	byPort = "portLevelSettings: [{port: {number: 81}, tls: {mode: ISTIO_MUTUAL}}]"
	if c := rule("loadBalancer: {simple: ROUND_ROBIN}, " + byPort); c.GetTransportSocket() != nil || c.GetLbPolicy() != clusterv3.Cluster_ROUND_ROBIN {
		t.Error("the settings of another port hold")
	}
}

// TestPartialWildcardsHarmNoOther: a name that no filter chain can match leaves
// the listener of its port to the others. The webhook refuses such a name; this
// is for one that came past it.
func TestPartialWildcardsHarmNoOther(t *testing.T) {
	s := newScene(t, "")
	for _, host := range []string{"*-api.example.com", "*.example.org"} {
		insert(s.mesh, s.store.Services, &model.Service{
			Host: host, Cluster: testCluster, Namespace: "client", Name: host, Origin: model.FromServiceEntry,
			Resolution: model.ByDestination, Ports: []model.Port{port("p", 443, model.TLS, 443)},
		})
	}
	if got, want := s.chains("0.0.0.0_443"), "*.example.org -> outbound|443||*.example.org\nelse -> "+passthroughCluster; got != want {
		t.Errorf("chains:\n%s\nwant:\n%s", got, want)
	}
	insert(s.mesh, s.store.Gateways, &model.Gateway{
		Cluster: testCluster, Namespace: "istio-system", Name: "g", Selector: map[string]string{"istio": "ingressgateway"},
		Servers: []model.GatewayServer{{Port: 15443, Hosts: []string{"*-api.global", "*.local"}}},
	})
	s.gateway = s.view(node("router", "istio-system", "gw-1", map[string]string{"istio": "ingressgateway"}))
	l := message[*listenerv3.Listener](s, s.gateway, xds.TypeListener, "0.0.0.0_15443")
	if len(l.GetFilterChains()) != 1 {
		t.Fatalf("the gateway's listener: %v", l)
	}
	if got := l.GetFilterChains()[0].GetFilterChainMatch().GetServerNames(); len(got) != 1 || got[0] != "*.local" {
		t.Errorf("the gateway matches %v", got)
	}
}
