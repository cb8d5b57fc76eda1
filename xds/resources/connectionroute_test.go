package resources

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/isthmus-mesh/isthmus/xds"
)

// matches lists the filter chains of a listener, sorted: what they match, and where they
// lead. The default one matches "else".
func (s *scene) matches(l *listenerv3.Listener) string {
	s.t.Helper()
	var lines []string
	for _, c := range l.GetFilterChains() {
		m := c.FilterChainMatch
		var match []string
		for _, p := range m.GetPrefixRanges() {
			match = append(match, fmt.Sprintf("%s/%d", p.AddressPrefix, p.PrefixLen.GetValue()))
		}
		match = append(match, m.GetServerNames()...)
		match = append(match, m.GetApplicationProtocols()...)
		lines = append(lines, strings.Join(match, " ")+": "+s.leads(c))
	}
	if l.GetDefaultFilterChain() != nil {
		lines = append(lines, "else: "+s.leads(l.DefaultFilterChain))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// leads is where a filter chain leads.
func (s *scene) leads(c *listenerv3.FilterChain) string {
	s.t.Helper()
	last := c.Filters[len(c.Filters)-1]
	tcp := &tcpv3.TcpProxy{}
	if last.GetTypedConfig().UnmarshalTo(tcp) != nil {
		return "http"
	}
	if split := tcp.GetWeightedClusters().GetClusters(); split != nil {
		var out []string
		for _, w := range split {
			out = append(out, fmt.Sprintf("%d*%s", w.Weight, w.Name))
		}
		return strings.Join(out, " + ")
	}
	return tcp.GetCluster()
}

// entryDoc is a ServiceEntry of namespace client.
func entryDoc(name, spec string) string {
	return "---\nkind: ServiceEntry\nmetadata: {name: " + name + ", namespace: client}\nspec: {location: MESH_EXTERNAL, " + spec + "}\n"
}

// TestVirtualServiceRoutesConnections: the listener on which clients in namespace client
// call the hosts, by what tls and tcp routes say of them.
func TestVirtualServiceRoutesConnections(t *testing.T) {
	const (
		secure = "---\nkind: Service\nmetadata: {name: secure, namespace: client}\nspec: {clusterIP: 10.96.0.20, ports: [{name: tls, port: 443}]}\n"
		db     = "---\nkind: Service\nmetadata: {name: db, namespace: client}\nspec: {clusterIP: 10.96.0.30, ports: [{name: tcp, port: 5432}]}\n"
		plain  = "---\nkind: Service\nmetadata: {name: plain, namespace: client}\nspec: {clusterIP: 10.96.0.40, ports: [{name: any, port: 9000}]}\n"

		secureHost = "outbound|443||secure.client.svc.cluster.local"
		dbHost     = "outbound|5432||db.client.svc.cluster.local"
	)
	cnn := entryDoc("cnn", `hosts: [edition.cnn.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS`)
	names := entryDoc("names", `hosts: [a.example, b.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS`)
	for name, c := range map[string]struct{ docs, listener, want string }{
		"by the server name, at an address": {
			docs: secure + virtualService("v", `{hosts: [secure], tls: [
				{match: [{sniHosts: [secure]}], route: [{destination: {host: secure, subset: v2}, weight: 25}, {destination: {host: db, port: {number: 5432}}, weight: 75}]}]}`),
			listener: "10.96.0.20_443",
			want: "else: " + secureHost + "\n" +
				"secure secure.client secure.client.svc secure.client.svc.cluster.local: 25*outbound|443|v2|secure.client.svc.cluster.local + 75*" + dbHost,
		},
		"to the egress gateway": {
			docs: cnn + virtualService("v", `{hosts: [edition.cnn.com], gateways: [mesh, egress], tls: [
				{match: [{gateways: [mesh], port: 443, sniHosts: [edition.cnn.com]}], route: [{destination: {host: web.shop.svc.cluster.local, subset: cnn, port: {number: 443}}}]},
				{match: [{gateways: [egress], port: 443, sniHosts: [edition.cnn.com]}], route: [{destination: {host: edition.cnn.com, port: {number: 443}}}]}]}`),
			listener: "0.0.0.0_443",
			want:     "edition.cnn.com: outbound|443|cnn|" + webHost + "\nelse: PassthroughCluster",
		},
		"the only port of a destination": {
			docs:     cnn + virtualService("v", `{hosts: [edition.cnn.com], tls: [{match: [{sniHosts: [edition.cnn.com]}], route: [{destination: {host: web.shop.svc.cluster.local}}]}]}`),
			listener: "0.0.0.0_443",
			want:     "edition.cnn.com: outbound|80||" + webHost + "\nelse: PassthroughCluster",
		},
		"about others": {
			docs: cnn + virtualService("v", `{hosts: [edition.cnn.com], tls: [
				{match: [{sniHosts: [edition.cnn.com], port: 8443}, {sniHosts: [edition.cnn.com], sourceNamespace: other}], route: [{destination: {host: web.shop.svc.cluster.local}}]}]}`),
			listener: "0.0.0.0_443",
			want:     "edition.cnn.com: outbound|443||edition.cnn.com\nelse: PassthroughCluster",
		},
		"one object for two hosts": {
			docs: names + virtualService("v", `{hosts: [a.example, b.example], tls: [
				{match: [{sniHosts: [a.example]}], route: [{destination: {host: b.example}}]}, {match: [{sniHosts: [b.example]}], route: [{destination: {host: a.example}}]}]}`),
			listener: "0.0.0.0_443",
			want:     "a.example: outbound|443||b.example\nb.example: outbound|443||a.example\nelse: PassthroughCluster",
		},
		"names below a wildcard; the first route counts": {
			docs: entryDoc("wild", `hosts: ["*.example.com"], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE`) +
				virtualService("v", `{hosts: ["*.example.com"], tls: [
				{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: db}}]},
				{match: [{sniHosts: ["*.b.example.com"]}], route: [{destination: {host: secure}}]},
				{match: [{sniHosts: [x.b.example.com]}], route: [{destination: {host: db}}]}]}`),
			listener: "0.0.0.0_443",
			want: "*.b.example.com: outbound|443||secure.client.svc.cluster.local\n*.example.com: outbound|443||*.example.com\n" +
				"a.example.com: outbound|443||db.client.svc.cluster.local\nelse: PassthroughCluster",
		},
		"subnets, beside other hosts": {
			docs: names + entryDoc("http", `hosts: [c.example], ports: [{number: 443, name: http, protocol: HTTP}], resolution: DNS`) +
				virtualService("v", `{hosts: [a.example], tls: [{match: [{sniHosts: [a.example], destinationSubnets: [203.0.113.0/24, 203.0.113.7]}], route: [{destination: {host: db}}]}]}`),
			listener: "0.0.0.0_443",
			want: "203.0.113.0/24 203.0.113.7/32 http/1.1 h2c: http\n" +
				"203.0.113.0/24 a.example: outbound|443||db.client.svc.cluster.local\n203.0.113.0/24 b.example: outbound|443||b.example\n" +
				"203.0.113.7/32 a.example: outbound|443||db.client.svc.cluster.local\n203.0.113.7/32 b.example: outbound|443||b.example\n" +
				"a.example: outbound|443||a.example\nb.example: outbound|443||b.example\nelse: PassthroughCluster\nhttp/1.1 h2c: http",
		},
		"hosts that share an address": {
			docs: entryDoc("shared", `hosts: [a.example, b.example], addresses: [203.0.113.5], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS`) +
				virtualService("v", `{hosts: [a.example], tls: [{match: [{sniHosts: [a.example]}], route: [{destination: {host: db, port: {number: 5432}}}]}]}`),
			listener: "203.0.113.5_443",
			want:     "a.example: " + dbHost + "\nb.example: outbound|443||b.example\nelse: PassthroughCluster",
		},
		"tcp": {
			docs:     db + virtualService("v", `{hosts: [db], tcp: [{match: [{port: 5432}], route: [{destination: {host: db, subset: v1}, weight: 80}, {destination: {host: db, subset: v2}, weight: 20}, {destination: {host: secure}}]}]}`),
			listener: "10.96.0.30_5432",
			want:     "else: 80*outbound|5432|v1|db.client.svc.cluster.local + 20*outbound|5432|v2|db.client.svc.cluster.local",
		},
		"tcp, by the address": {
			docs: db + virtualService("v", `{hosts: [db], tcp: [{match: [{destinationSubnets: [10.97.0.0/16]}], route: [{destination: {host: secure}}]},
				{match: [{destinationSubnets: [10.96.0.0/16]}], route: [{destination: {host: web.shop.svc.cluster.local}}]}]}`),
			listener: "10.96.0.30_5432",
			want:     "else: outbound|80||" + webHost,
		},
		"tcp to prefixes": {
			docs: entryDoc("range", `hosts: [range.example], addresses: [203.0.113.0/24], ports: [{number: 6000, name: tcp, protocol: TCP}], resolution: NONE`) +
				virtualService("v", `{hosts: [range.example], tcp: [{match: [{destinationSubnets: [203.0.113.128/25, 10.0.0.0/8]}], route: [{destination: {host: web.shop.svc.cluster.local}}]}]}`),
			listener: "0.0.0.0_6000",
			want:     "203.0.113.0/24: outbound|6000||range.example\n203.0.113.128/25: outbound|80||" + webHost + "\nelse: PassthroughCluster",
		},
		"tcp to any address": {
			docs: entryDoc("any", `hosts: [any.example], ports: [{number: 6000, name: tcp, protocol: TCP}], resolution: DNS`) +
				virtualService("v", `{hosts: [any.example], tcp: [{match: [{destinationSubnets: [203.0.113.0/24]}], route: [{destination: {host: web.shop.svc.cluster.local}}]}]}`),
			listener: "0.0.0.0_6000",
			want:     "203.0.113.0/24: outbound|80||" + webHost + "\nelse: outbound|6000||any.example",
		},
		"tcp on a port that declares nothing": {
			docs:     plain + virtualService("v", `{hosts: [plain], tcp: [{route: [{destination: {host: web.shop.svc.cluster.local}}]}]}`),
			listener: "10.96.0.40_9000",
			want:     "else: outbound|80||" + webHost + "\nhttp/1.1 h2c: http",
		},
		"tcp leaves TLS alone": {
			docs:     secure + virtualService("v", `{hosts: [secure], tcp: [{route: [{destination: {host: db}}]}]}`),
			listener: "10.96.0.20_443",
			want:     ": " + secureHost,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, c.docs)
			l := message[*listenerv3.Listener](s, s.client, xds.TypeListener, c.listener)
			if got := s.matches(l); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestConnectionRoutesFollowEdits: what listeners are made of changes with the object, and
// with the ports of where it leads.
func TestConnectionRoutesFollowEdits(t *testing.T) {
	const db = "---\nkind: Service\nmetadata: {name: db, namespace: client}\nspec: {clusterIP: 10.96.0.30, ports: [{name: tcp, port: 5432}]}\n"
	s := newScene(t, db)
	for _, step := range []struct{ doc, want string }{
		{virtualService("v", `{hosts: [db], tcp: [{route: [{destination: {host: web.shop.svc.cluster.local}}]}]}`), "else: outbound|80||" + webHost},
		{virtualService("v", `{hosts: [db], tcp: [{route: [{destination: {host: web.shop.svc.cluster.local, subset: v2}}]}]}`), "else: outbound|80|v2|" + webHost},
		{virtualService("v", `{hosts: [db], http: [{route: [{destination: {host: db}}]}]}`), ": outbound|5432||db.client.svc.cluster.local"},
	} {
		s.addObject([]byte(step.doc))
		if got := s.matches(message[*listenerv3.Listener](s, s.client, xds.TypeListener, "10.96.0.30_5432")); got != step.want {
			t.Errorf("got %s, want %s", got, step.want)
		}
	}
}

// TestRoutedConnectionsEnd: how long a connection lasts is what the DestinationRule of its
// destination says.
func TestRoutedConnectionsEnd(t *testing.T) {
	s := newScene(t, "---\nkind: Service\nmetadata: {name: db, namespace: client}\nspec: {clusterIP: 10.96.0.30, ports: [{name: tcp, port: 5432}]}\n"+
		"---\nkind: DestinationRule\nmetadata: {name: d, namespace: client}\nspec: {host: web.shop.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 7s}}}}\n"+
		virtualService("v", `{hosts: [db], tcp: [{route: [{destination: {host: web.shop.svc.cluster.local}}]}]}`))
	l := message[*listenerv3.Listener](s, s.client, xds.TypeListener, "10.96.0.30_5432")
	tcp := &tcpv3.TcpProxy{}
	if err := l.DefaultFilterChain.Filters[0].GetTypedConfig().UnmarshalTo(tcp); err != nil || tcp.IdleTimeout.GetSeconds() != 7 {
		t.Errorf("idle for %v, %v; want 7 s", tcp.IdleTimeout, err)
	}
}
