package resources

import (
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// edgeLines lists the filter chains of a gateway's listener, sorted: server names, the
// protocol below, whether TLS ends there, and where they lead.
func (s *scene) edgeLines(port string) string {
	s.t.Helper()
	l := message[*listenerv3.Listener](s, s.gateway, xds.TypeListener, "0.0.0.0_"+port)
	var lines []string
	for _, c := range l.GetFilterChains() {
		line := strings.Join(c.FilterChainMatch.GetServerNames(), " ") + " " + c.FilterChainMatch.GetTransportProtocol()
		if c.TransportSocket != nil {
			line += " ended"
		}
		lines = append(lines, strings.TrimSpace(line)+": "+s.leads(c))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// tlsPort is a server on port 443 that passes TLS on.
func tlsPort(hosts string) string {
	return "{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: [" + hosts + "]}"
}

// TestGatewayLeadsConnections: which connections of a gateway's clients go where.
func TestGatewayLeadsConnections(t *testing.T) {
	const (
		toWeb  = `route: [{destination: {host: web.shop.svc.cluster.local, port: {number: 80}}}]`
		web    = "outbound|80||" + webHost
		toDB   = `route: [{destination: {host: db.shop.svc.cluster.local}}]`
		db     = "outbound|5432||db.shop.svc.cluster.local"
		dbDoc  = "---\nkind: Service\nmetadata: {name: db, namespace: shop}\nspec: {clusterIP: 10.96.0.30, ports: [{name: tcp, port: 5432}]}\n"
		tcp    = `{port: {number: 443, name: tcp, protocol: TCP}, hosts: ["*"]}`
		simple = `{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: SIMPLE, credentialName: shop}, hosts: ["*.example"]}`
	)
	for name, c := range map[string]struct{ docs, want string }{
		"nothing is bound": {
			docs: gatewayDoc("shop", "front", early, tlsPort(`"*"`)),
		},
		"TLS passed on": {
			docs: gatewayDoc("shop", "front", early, tlsPort(`"*.example", other.test`)) +
				routeDoc("shop", "v", early, `gateways: [front], hosts: ["*.example", other.test], tls: [
					{match: [{port: 443, sniHosts: [a.example]}, {sniHosts: [other.test], port: 80}], `+toWeb+`},
					{match: [{sniHosts: ["*.example"]}], route: [{destination: {host: web}, weight: 1}, {destination: {host: db}, weight: 3}]}]`),
			want: "*.example tls: 1*" + web + " + 3*" + db + "\na.example tls: " + web,
		},
		"any TLS": {
			docs: gatewayDoc("shop", "front", early, tlsPort(`"*"`)) +
				routeDoc("shop", "v", early, `gateways: [front], hosts: ["*"], tls: [{match: [{sniHosts: ["*"]}], `+toWeb+`}]`),
			want: "tls: " + web,
		},
		"of two objects the oldest has a name": {
			docs: gatewayDoc("shop", "front", early, tlsPort(`"*"`)) +
				routeDoc("shop", "young", late, `gateways: [front], hosts: [a.example, b.example], tls: [{match: [{sniHosts: [a.example, b.example]}], `+toWeb+`}]`) +
				routeDoc("shop", "old", early, `gateways: [front], hosts: ["*.example", a.example], tls: [{match: [{sniHosts: [a.example]}], `+toDB+`}, {match: [{sniHosts: ["*.example"]}], `+toDB+`}]`),
			want: "*.example tls: " + db + "\na.example tls: " + db + "\nb.example tls: " + web,
		},
		"beside HTTPS, the longer name": {
			docs: gatewayDoc("shop", "front", early, tlsPort(`"*.example"`)) +
				gatewayDoc("shop", "secure", late, `{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: shop}, hosts: [a.example, "*.example"]}`) +
				routeDoc("shop", "v", early, `gateways: [front], hosts: ["*.example"], tls: [{match: [{sniHosts: [a.example, b.example, "*.example"]}], `+toWeb+`}]`),
			want: "*.example b.example tls: " + web + "\na.example tls ended: http",
		},
		"another's host": {
			docs: gatewayDoc("shop", "front", early, tlsPort(`a.example`)) + gatewayDoc("tenant", "theirs", late, tlsPort(`a.example, b.example`)) +
				routeDoc("tenant", "stolen", early, `gateways: [theirs], hosts: [a.example, b.example], tls: [{match: [{sniHosts: [a.example, b.example]}], `+toWeb+`}]`),
			want: "b.example tls: " + web,
		},
		"the name of another's Service": {
			docs: gatewayDoc("tenant", "theirs", early, tlsPort(`istiod.istio-system.svc.cluster.local`)) +
				routeDoc("tenant", "v", early, `gateways: [theirs], hosts: [istiod.istio-system.svc.cluster.local], tls: [{match: [{sniHosts: [istiod.istio-system.svc.cluster.local]}], `+toWeb+`}]`),
		},
		"a Service that a route leads elsewhere": {
			docs: gatewayDoc("istio-system", "front", early, tlsPort(`istiod.istio-system.svc.cluster.local, api.istio-system.svc`)) +
				routeDoc("istio-system", "v", early, `gateways: [front], hosts: [istiod.istio-system.svc.cluster.local], tls: [{match: [{sniHosts: [istiod.istio-system.svc.cluster.local]}], `+toWeb+`}]`),
			want: "api.istio-system.svc.cluster.local api.istio-system.svc tls: passthrough|443||api.istio-system.svc.cluster.local\n" +
				"istiod.istio-system.svc tls: passthrough|443||istiod.istio-system.svc.cluster.local\nistiod.istio-system.svc.cluster.local tls: " + web,
		},
		"TLS ended": {
			docs: gatewayDoc("shop", "front", early, simple) +
				routeDoc("shop", "v", early, `gateways: [front], hosts: [a.example], tcp: [{match: [{port: 1}], `+toWeb+`}, {`+toDB+`}]`) +
				routeDoc("shop", "w", late, `gateways: [front], hosts: ["*.example"], tcp: [{`+toWeb+`}]`),
			want: "*.example tls ended: " + web + "\na.example tls ended: " + db,
		},
		"TCP": {
			docs: gatewayDoc("shop", "front", early, tcp) +
				routeDoc("shop", "v", early, `gateways: [front, mesh], hosts: [db], tcp: [{match: [{gateways: [mesh]}], `+toWeb+`}, {match: [{gateways: [front], port: 443}], `+toDB+`}]`) +
				routeDoc("shop", "w", late, `gateways: [front], hosts: [web], tcp: [{`+toWeb+`}]`),
			want: ": " + db,
		},
		"TCP leaves no room for others": {
			docs: gatewayDoc("shop", "front", early, tcp) + gatewayDoc("shop", "secure", late, tlsPort(`"*"`)) +
				routeDoc("shop", "v", early, `gateways: [front], hosts: [db], tcp: [{`+toDB+`}]`) +
				routeDoc("shop", "w", early, `gateways: [secure], hosts: ["*"], tls: [{match: [{sniHosts: ["*"]}], `+toWeb+`}]`),
			want: ": " + db,
		},
		"nor others for TCP": {
			docs: gatewayDoc("shop", "front", late, tcp) + gatewayDoc("shop", "secure", early, tlsPort(`"*"`)) +
				routeDoc("shop", "v", early, `gateways: [front], hosts: [db], tcp: [{`+toDB+`}]`) +
				routeDoc("shop", "w", early, `gateways: [secure], hosts: ["*"], tls: [{match: [{sniHosts: ["*"]}], `+toWeb+`}]`),
			want: "tls: " + web,
		},
		"the mesh's own TLS": {
			docs: gatewayDoc("shop", "front", early, `{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: ISTIO_MUTUAL}, hosts: [a.example]},
				{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: ISTIO_MUTUAL}, hosts: ["*"]}`) +
				routeDoc("shop", "v", early, `gateways: [front], hosts: [a.example], tcp: [{`+toDB+`}]`),
			want: "a.example tls ended: " + db + "\ntls ended: http",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, dbDoc+c.docs)
			if got := s.edgeLines("443"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			checkReferences(t, s.mesh, s.gateway)
		})
	}
}

// TestGatewayConnectionsAreJudged: policies that select a gateway's pods hold for the
// connections that it leads on, too.
func TestGatewayConnectionsAreJudged(t *testing.T) {
	for what, server := range map[string]string{
		"passed on": tlsPort(`"*"`),
		"TCP":       `{port: {number: 443, name: tcp, protocol: TCP}, hosts: ["*"]}`,
		"ended":     `{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: ISTIO_MUTUAL}, hosts: ["*"]}`,
	} {
		s := newScene(t, gatewayDoc("shop", "front", early, server)+
			"---\nkind: AuthorizationPolicy\nmetadata: {name: none, namespace: istio-system}\nspec: {}\n"+
			routeDoc("shop", "v", early, `gateways: [front], hosts: ["*"], tls: [{match: [{sniHosts: ["*"]}], route: [{destination: {host: web}}]}], tcp: [{route: [{destination: {host: web}}]}]`))
		l := message[*listenerv3.Listener](s, s.gateway, xds.TypeListener, "0.0.0.0_443")
		if len(l.GetFilterChains()) != 1 || len(l.FilterChains[0].Filters) != 2 || l.FilterChains[0].Filters[0].Name != "envoy.filters.network.rbac" {
			t.Errorf("%s: %v", what, l)
		}
	}
}

// TestGatewayKeepsToItsModes: what a server takes of a VirtualService.
func TestGatewayKeepsToItsModes(t *testing.T) {
	v := &model.VirtualService{TLS: make([]model.ConnectionRoute, 1), TCP: make([]model.ConnectionRoute, 2)}
	for mode, want := range map[model.ServerMode]int{
		model.PassMesh: 0, model.PassTLS: 1, model.ServeHTTP: 0, model.ServeHTTPS: 0, model.ServeTCP: 2, model.ServeTLS: 2,
	} {
		if got := len(mode.Takes(v)); got != want {
			t.Errorf("mode %d takes %d routes, want %d", mode, got, want)
		}
	}
}
